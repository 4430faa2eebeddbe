"""What the pages say of keys and logins is what happens: their curl commands as written, and the routes' small print."""

import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import argon2
import pytest
import pytest_asyncio
from support.http import Answered, Connection
from support.live import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).parents[2] / "docs" / "authenticate.md").read_text()
ADMIN = "the-admin-key-of-this-test"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
CONFIG = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"gpt-4o": {"deployments": [{"provider": "fake", "model": "echo"}]}},
    "authenticate": {"login": {"users": [{"name": "admin", "role": "admin", "password_hash": HASH}]}},
    "secrets": {"admin_key": ADMIN},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("routes"), CONFIG) as gate:
        yield gate


def commands(mark: str) -> list[str]:
    """The curl commands of the block that contains this."""
    block = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if mark in block)
    joined = block.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl")]


def run(command: str, live: Gateway, **environment: str) -> Any:
    """A command of the page, against this gateway; the body of its answer, which must be a good one."""
    local = command.replace("http://127.0.0.1:8000", live.url).replace("curl ", "curl --silent --fail-with-body ", 1)
    done = subprocess.run(
        ["bash", "-euc", local],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return json.loads(done.stdout)


async def ask(live: Gateway, method: str, path: str, body: Any = None, secret: str = ADMIN, **headers: str) -> Answered:
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    async with Connection(live.url) as wire:
        return await wire.request(method, path, raw, authorization=f"Bearer {secret}", **headers)


async def test_the_commands_for_logins_work_as_written(live: Gateway) -> None:
    log_in, verify, refresh, log_out = commands("/auth/login")
    tokens = run(log_in, live)
    assert set(tokens) == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 3600)
    who = run(verify, live, ACCESS_TOKEN=tokens["access_token"])
    assert (who["valid"], who["username"], who["role"], who["caller"]) == (True, "admin", "admin", "user:admin")
    newer = run(refresh, live, REFRESH_TOKEN=tokens["refresh_token"])
    assert newer["refresh_token"] != tokens["refresh_token"]
    assert run(log_out, live, ACCESS_TOKEN=newer["access_token"]) == {"status": "logged out"}
    assert (await ask(live, "GET", "/auth/verify", secret=newer["access_token"])).status == 401


async def test_the_commands_for_keys_work_as_written(live: Gateway) -> None:
    create, list_all, update, revoke = commands("/admin/keys")
    made = run(create, live, LITELLM_MASTER_KEY=ADMIN)
    assert made["key"].startswith("sk-lg-")
    assert (made["last_four"], made["budget"], made["models"]) == (made["key"][-4:], 50, ["gpt-4o", "text-*"])
    listed = run(list_all, live, LITELLM_MASTER_KEY=ADMIN)["keys"]
    assert made["id"] in {key["id"] for key in listed}
    assert made["key"] not in json.dumps(listed)
    named: Mapping[str, str] = {"61b68d942532b2d0": made["id"]}
    assert run(_with(update, named), live, LITELLM_MASTER_KEY=ADMIN)["rpm"] == 600
    assert run(_with(revoke, named), live, LITELLM_MASTER_KEY=ADMIN) == {"id": made["id"], "deleted": True}


def _with(command: str, named: Mapping[str, str]) -> str:
    for old, new in named.items():
        assert old in command
        command = command.replace(old, new)
    return command


async def test_tokens_are_kept_by_no_cache(live: Gateway) -> None:
    answer = await ask(live, "POST", "/auth/login", {"username": "admin", "password": "correct horse"}, secret="-")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["x-request-id"]


async def test_a_form_does_as_well_as_json(live: Gateway) -> None:
    """As OAuth's password grant sends it."""
    body = b"grant_type=password&username=admin&password=correct+horse"
    form = {"content_type": "application/x-www-form-urlencoded"}
    answer = await ask(live, "POST", "/auth/login", body, secret="-", **form)
    assert answer.status == 200
    token = answer.json["refresh_token"].encode()
    assert (await ask(live, "POST", "/auth/logout", b"refresh_token=" + token, secret="-", **form)).status == 401
    async with Connection(live.url) as wire:
        out = await wire.request("POST", "/auth/logout", b"refresh_token=" + token, **form)
    assert out.status == 200
    assert (await ask(live, "POST", "/auth/refresh", b"refresh_token=" + token, secret="-", **form)).status == 401


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("/auth/login", b"", 400, "missing_required_parameter", "username"),
        ("/auth/login", b"{", 400, "invalid_json", None),
        ("/auth/login", b"[]", 400, "invalid_json", None),
        ("/auth/login", b'{"username": "admin"}', 400, "missing_required_parameter", "password"),
        ("/auth/login", b'{"username": 1, "password": "x"}', 400, "invalid_type", "username"),
        ("/auth/login", b'{"username": "' + b"x" * 20_000 + b'"}', 413, "invalid_request", None),
        ("/auth/refresh", b"{}", 400, "missing_required_parameter", "refresh_token"),
        ("/auth/refresh", b'{"refresh_token": null}', 400, "missing_required_parameter", "refresh_token"),
        ("/admin/keys", b"[1]", 400, "invalid_json", None),
        ("/admin/keys", b'{"nonsense": 1}', 400, "unknown_parameter", "nonsense"),
        ("/admin/keys", b'{"models": "gpt-4o"}', 400, "invalid_type", "models"),
        ("/admin/users", b'{"name": "x"}', 400, "missing_required_parameter", "password"),
        ("/admin/users", b'{"name": "a b", "password": "long enough"}', 400, None, "name"),
        ("/admin/users", b'{"name": "ab", "password": "short"}', 400, None, "password"),
    ],
)
async def test_a_bad_body_is_said_in_shape(
    live: Gateway, path: str, body: bytes, status: int, code: str | None, param: str | None
) -> None:
    answer = await ask(live, "POST", path, body)
    error = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


async def test_a_user_of_the_configuration_is_not_shadowed_by_one_in_the_database(live: Gateway) -> None:
    """The configuration comes first, so that such a user could never log in."""
    refused = await ask(live, "POST", "/admin/users", {"name": "admin", "password": "a long password"})
    assert (refused.status, refused.json["error"]["param"]) == (409, "name")
    assert "configuration" in refused.json["error"]["message"]
    assert b'"admin"' not in (await ask(live, "GET", "/admin/users")).body


async def test_users_come_and_go_over_http(live: Gateway) -> None:
    """Their passwords are never shown; a new password ends their logins; a name is there once."""
    made = await ask(live, "POST", "/admin/users", {"name": "zoe", "password": "a long password", "rpm": 5})
    assert (made.status, made.json["name"], made.json["rpm"], made.json["models"]) == (201, "zoe", 5, ["*"])
    assert (await ask(live, "POST", "/admin/users", {"name": "zoe", "password": "a long password"})).status == 409
    login = {"username": "zoe", "password": "a long password"}
    access = (await ask(live, "POST", "/auth/login", login)).json["access_token"]
    assert (await ask(live, "GET", "/v1/models", secret=access)).status == 200
    assert (await ask(live, "GET", "/admin/users", secret=access)).status == 403
    assert (await ask(live, "PATCH", "/admin/users/zoe", {"password": "another password", "rpm": 6})).json["rpm"] == 6
    assert (await ask(live, "GET", "/v1/models", secret=access)).status == 401
    shown = (await ask(live, "GET", "/admin/users")).body
    assert b"argon2" not in shown
    assert b"zoe" in shown
    assert (await ask(live, "DELETE", "/admin/users/zoe")).status == 200
    for answer in (
        await ask(live, "DELETE", "/admin/users/zoe"),
        await ask(live, "PATCH", "/admin/users/zoe", {"rpm": 1}),
        await ask(live, "GET", "/admin/keys/none"),
        await ask(live, "DELETE", "/admin/owners/nobody"),
    ):
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


async def test_owners_have_budgets_over_http(live: Gateway) -> None:
    """In USD to the nano-USD, also for owners of other issuers."""
    put = await ask(live, "PUT", "/admin/owners/corp/acme", b'{"budget": 0.000000001, "period": "day"}')
    assert put.json == {"name": "corp/acme", "budget": 1e-9, "period": "day"}
    assert put.json in (await ask(live, "GET", "/admin/owners")).json["owners"]
    for bad in (b"{}", b'{"budget": null}', b'{"budget": -1}', b'{"budget": 1, "period": "year"}', b'{"budget": "x"}'):
        assert (await ask(live, "PUT", "/admin/owners/corp/acme", bad)).status == 400
    assert (await ask(live, "DELETE", "/admin/owners/corp/acme")).status == 200


async def test_a_key_is_no_login(live: Gateway) -> None:
    """It is verified, and cannot be logged out."""
    key = (await ask(live, "POST", "/admin/keys", {"owner": "acme", "models": ["gpt-4o"]})).json
    who = (await ask(live, "GET", "/auth/verify", secret=key["key"])).json
    assert who == {
        "valid": True, "caller": f"key:{key['id']}", "username": None, "owner": "acme", "role": "user",
        "models": ["gpt-4o"], "expires_at": None,
    }  # fmt: skip
    assert (await ask(live, "POST", "/auth/logout", secret=key["key"])).status == 400
    assert (await ask(live, "GET", "/v1/models", secret=key["key"])).status == 200
