"""Who is calling, over real processes: two gateways on one PostgreSQL, the command line beside them, and an outage."""

import asyncio
import json
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import argon2
import pytest
import pytest_asyncio
import yaml
from support.databases import postgres_server, postgres_url
from support.http import CHAT, Answered, Connection, chat
from support.identity import Authority
from support.live import Gateway, gateway
from support.postgres import Postgres

__all__ = ["postgres_server", "postgres_url"]

ADMIN = "the-admin-key-of-this-test"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
LIMIT = 10.0
"""Seconds within which a change must hold everywhere."""


def config(database: str, **authenticate: Any) -> dict[str, Any]:
    return {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"echo": {"deployments": [{"provider": "fake", "model": "echo"}]}},
        "authenticate": {
            "watch": "200ms",
            "login": {"users": [{"name": "alice", "password_hash": HASH}]},
            **authenticate,
        },
        "secrets": {"admin_key": ADMIN, "signing": "one secret for all instances of it"},
        "database": database,
    }


together = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two instances that share nothing but the database."""
    settings = config(postgres_server.url)
    async with (
        gateway(tmp_path_factory.mktemp("one"), settings) as one,
        gateway(tmp_path_factory.mktemp("two"), settings) as two,
    ):
        yield one, two


async def ask(gate: Gateway, method: str, path: str, secret: str, body: bytes = b"") -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request(method, path, body, authorization=f"Bearer {secret}")


async def status(gate: Gateway, secret: str) -> int:
    return (await ask(gate, "POST", CHAT, secret, chat("echo"))).status


async def new_key(gate: Gateway, body: bytes = b'{"models": ["*"]}') -> tuple[str, str]:
    made = (await ask(gate, "POST", "/admin/keys", ADMIN, body)).json
    return made["id"], made["key"]


async def soon(holds: Callable[[], Awaitable[bool]], limit: float = LIMIT) -> float:
    """The seconds until it holds; fails past the limit."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < limit
        await asyncio.sleep(0.02)
    return time.monotonic() - began


@together
async def test_keys_made_and_revoked_on_one_instance_hold_on_the_other(pair: tuple[Gateway, Gateway]) -> None:
    """A new one at once, also where it was refused before; a revoked one within ten seconds; both ways."""
    for here, there in (pair, pair[::-1]):
        key_id, secret = await new_key(here)
        assert [await status(gate, secret) for gate in (there, here)] == [200, 200]
        assert (await ask(here, "PATCH", f"/admin/keys/{key_id}", ADMIN, b'{"models": []}')).status == 200
        assert await status(here, secret) == 404
        await soon(partial(_is, there, secret, 404))
        assert (await ask(here, "DELETE", f"/admin/keys/{key_id}", ADMIN)).status == 200
        assert await status(here, secret) == 401
        await soon(partial(_is, there, secret, 401))


async def _is(gate: Gateway, secret: str, wanted: int) -> bool:
    return await status(gate, secret) == wanted


@together
async def test_a_login_on_one_instance_is_one_on_the_other_and_ends_on_both(pair: tuple[Gateway, Gateway]) -> None:
    here, there = pair
    login = b'{"username": "alice", "password": "correct horse"}'
    async with Connection(here.url) as wire:
        tokens = (await wire.request("POST", "/auth/login", login)).json
    async with Connection(there.url) as wire:
        body = json.dumps({"refresh_token": tokens["refresh_token"]}).encode()
        again = await wire.request("POST", "/auth/refresh", body)
    assert again.status == 200
    access = again.json["access_token"]
    assert [await status(gate, access) for gate in pair] == [200, 200]
    assert (await ask(here, "POST", "/auth/logout", access)).status == 200
    assert await status(here, access) == 401
    await soon(lambda: _is(there, access, 401))
    assert await status(there, tokens["access_token"]) == 401


@together
async def test_tries_are_counted_over_both_instances(pair: tuple[Gateway, Gateway]) -> None:
    """Five a minute in all, not five each."""
    seen = []
    for turn in range(8):
        async with Connection(pair[turn % 2].url) as wire:
            body = b'{"username": "alice", "password": "wrong"}'
            seen.append((await wire.request("POST", "/auth/login", body)).status)
    assert seen == [401] * 5 + [429] * 3


async def test_an_outage_of_the_database_ends_by_itself(
    tmp_path: Path, postgres_server: Postgres, postgres_url: str
) -> None:
    """Keys in memory work on, others get 503, and after the outage all is as before; no restart."""
    async with gateway(tmp_path, config(postgres_url)) as gate:
        _, used = await new_key(gate)
        _, unused = await new_key(gate)
        assert await status(gate, used) == 200
        await postgres_server.stop()
        assert [await status(gate, secret) for secret in (used, ADMIN)] == [200, 200]
        answer = await ask(gate, "POST", CHAT, unused, chat("echo"))
        assert (answer.status, answer.json["error"]["code"], answer.headers["retry-after"]) == (503, "overloaded", "5")
        assert (await ask(gate, "POST", "/admin/keys", ADMIN, b"{}")).status == 503
        async with Connection(gate.url) as wire:
            body = b'{"username": "alice", "password": "correct horse"}'
            assert (await wire.request("POST", "/auth/login", body)).status == 503
            ready = await wire.request("GET", "/health/ready")
        assert (ready.status, ready.json["parts"]["database"]) == (200, "degraded")
        await asyncio.gather(*(_is(gate, used, 200) for _ in range(20)))
        await postgres_server.start()
        await soon(lambda: _is(gate, unused, 200))
        _, third = await new_key(gate)
        assert [await status(gate, secret) for secret in (used, third)] == [200, 200]


async def test_past_the_grace_only_the_admin_key_works(
    tmp_path: Path, postgres_server: Postgres, postgres_url: str
) -> None:
    """And the instance says that it is down."""
    async with gateway(tmp_path, config(postgres_url, grace="1s")) as gate:
        _, secret = await new_key(gate)
        assert await status(gate, secret) == 200
        await postgres_server.stop()
        await soon(lambda: _is(gate, secret, 503))
        assert await status(gate, ADMIN) == 200
        async with Connection(gate.url) as wire:
            assert (await wire.request("GET", "/health/ready")).status == 503
        await postgres_server.start()
        await soon(lambda: _is(gate, secret, 200))


async def run(folder: Path, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """`lockgate …` with the configuration of a gateway that runs."""
    command = [sys.executable, "-m", "proxy.cli", *arguments, "--config", str(folder / "lockgate.yaml")]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_line_works_beside_a_gateway_on_its_file(tmp_path: Path) -> None:
    """Keys, users and owners; a running gateway sees every change; nothing secret is written anywhere."""
    async with gateway(tmp_path, config(f"sqlite:///{tmp_path}/state/lockgate.db")) as gate:
        code, out, err = await run(tmp_path, "keys", "create", "--models", "echo", "--owner", "acme", "--expires", "1d")
        assert code == 0, err
        secret = re.findall(r"key=(sk-lg-\S+)", out)[0]
        key_id = re.findall(r"id=(\S+)", out)[0]
        await soon(lambda: _is(gate, secret, 200))
        assert "lockgate.audit" in err
        _, listed, _ = await run(tmp_path, "keys", "list", "--owner", "acme", "--json")
        assert f'"id":"{key_id}"' in listed
        assert secret not in listed
        limits = ("--rpm", "5", "--tpm", "9", "--bodies", "off", "--bounds", "temperature=0:1", "--clamp")
        assert (await run(tmp_path, "keys", "update", key_id, "--models", "", *limits))[0] == 0
        await soon(lambda: _is(gate, secret, 404))
        away = ("--rpm", "none", "--bodies", "none", "--bounds", "none", "--no-clamp", "--budget", "none", "--json")
        code, said, err = await run(tmp_path, "keys", "update", key_id, *away)
        assert code == 0, err
        left = {name: json.loads(said)[name] for name in ("rpm", "tpm", "bodies", "bounds", "clamp", "budget")}
        assert left == {"rpm": None, "tpm": 9, "bodies": None, "bounds": {}, "clamp": False, "budget": None}
        assert (await run(tmp_path, "keys", "revoke", key_id))[0] == 0
        await soon(lambda: _is(gate, secret, 401))
        code, _, err = await run(tmp_path, "keys", "revoke", key_id)
        assert (code, "No virtual key" in err) == (1, True)
        assert (await run(tmp_path, "users", "add", "bob", "--role", "admin", stdin="a long password\n"))[0] == 0
        tokens = await _logged_in(gate, "bob", "a long password")
        assert (await ask(gate, "GET", "/admin/routes", tokens)).status == 200
        code, _, err = await run(tmp_path, "users", "add", "alice", stdin="a long password\n")
        assert (code, "stands in the configuration" in err) == (1, True)
        assert (await run(tmp_path, "users", "remove", "bob"))[0] == 0
        await soon(lambda: _is(gate, tokens, 401))
        assert (await run(tmp_path, "owners", "set", "acme", "--budget", "2.5", "--period", "week"))[0] == 0
        owners = (await ask(gate, "GET", "/admin/owners", ADMIN)).json
        assert owners == {"owners": [{"name": "acme", "budget": 2.5, "period": "week"}]}
        for path in (*(tmp_path / "state").rglob("*"), tmp_path / "gateway.err"):
            if path.is_file():
                content = path.read_bytes()
                assert not any(each.encode() in content for each in (secret, tokens, "a long password", ADMIN)), path


async def _logged_in(gate: Gateway, name: str, password: str) -> str:
    """The access token of a login, as soon as the user is known."""
    found: list[str] = []

    async def tried() -> bool:
        async with Connection(gate.url) as wire:
            body = f'{{"username": "{name}", "password": "{password}"}}'.encode()
            answer = await wire.request("POST", "/auth/login", body)
        if answer.status == 200:
            found.append(answer.json["access_token"])
        return bool(found)

    await soon(tried)
    return found[0]


async def test_tokens_of_an_issuer_are_verified_over_http(tmp_path: Path) -> None:
    """Its keys come from its own server, are fetched before anybody calls, and survive its outage."""
    authority, fetches = Authority(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal fetches
        fetches += 1
        await reader.readuntil(b"\r\n\r\n")
        body = await authority.fetch("")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    jwks = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = jwks.sockets[0].getsockname()[1]
    issuer = {"issuer": "https://i.example", "audience": "lockgate", "jwks": f"http://127.0.0.1:{port}/jwks"}
    settings = config(f"sqlite:///{tmp_path}/state/lockgate.db", keys=False, issuers=[issuer])
    del settings["authenticate"]["login"]
    claims = {"iss": "https://i.example", "aud": "lockgate", "sub": "bob", "exp": int(time.time()) + 300}
    async with gateway(tmp_path, settings) as gate:
        await soon(lambda: _fetched(lambda: fetches))
        jwks.close()
        await jwks.wait_closed()
        assert await status(gate, authority.sign(claims)) == 200
        verified = (await ask(gate, "GET", "/auth/verify", authority.sign(claims))).json
        assert (verified["caller"], verified["owner"], verified["role"]) == ("i.example/bob", "i.example/bob", "user")
        assert await status(gate, authority.sign({**claims, "aud": "other"})) == 401
        assert (await ask(gate, "POST", "/auth/login", ADMIN, b"{}")).status == 404, "nobody logs in here"
        assert (await ask(gate, "GET", "/v1/models", "sk-lg-x")).status == 401


async def _fetched(count: Callable[[], int]) -> bool:
    return count() > 0


async def test_what_an_administrator_does_is_written_down(tmp_path: Path) -> None:
    """Who, what, to what, from where (behind a proxy too), refusals too; and no value."""
    settings = config(f"sqlite:///{tmp_path}/state/lockgate.db")
    settings |= {"client_limits": {"trusted_proxies": ["127.0.0.0/8"]}, "exact_cache": {}}
    async with gateway(tmp_path, settings) as gate:
        async with Connection(gate.url) as wire:
            body, from_afar = b'{"models": []}', {"x_api_key": ADMIN, "x_forwarded_for": "198.51.100.7"}
            assert (await wire.request("POST", "/admin/keys", body, **from_afar)).status == 201
        await ask(gate, "POST", "/system/cache/feedback", ADMIN, b'{"request_id": "none"}')
        key_id, secret = await new_key(gate, b'{"name": "the name of it", "models": ["echo"]}')
        await ask(gate, "PATCH", f"/admin/keys/{key_id}", ADMIN, b'{"rpm": 9876543}')
        await ask(gate, "PUT", "/admin/owners/corp/acme", ADMIN, b'{"budget": 12.345678}')
        await ask(gate, "POST", "/admin/users", ADMIN, b'{"name": "eve", "password": "hunter2hunter2"}')
        assert (await ask(gate, "DELETE", f"/admin/keys/{key_id}", secret)).status == 403
    log = (tmp_path / "gateway.err").read_text()
    lines = [line for line in log.splitlines() if "lockgate.audit" in line]
    for wanted in (
        f'"action":"create key","subject":"{key_id}"',
        f'"action":"update key","subject":"{key_id}"',
        '"action":"set owner","subject":"corp/acme"',
        '"action":"add user","subject":"eve"',
        f'"actor":"key:{key_id}","action":"DELETE refused","subject":"/admin/keys/{key_id}"',
        '"peer":"198.51.100.7","members":["models"]',
        '"actor":"admin","action":"POST","subject":"/system/cache/feedback"',
    ):
        assert any(wanted in line for line in lines), wanted
    assert not any(each in log for each in (secret, ADMIN, "hunter2", "the name of it", "12.345678", "9876543"))


async def test_a_reload_changes_who_may_call(tmp_path: Path) -> None:
    """Another admin key and another user, without a restart; a reload that fails changes nobody."""
    settings = config(f"sqlite:///{tmp_path}/state/lockgate.db")
    async with gateway(tmp_path, settings) as gate:
        path = tmp_path / "lockgate.yaml"
        full = yaml.safe_load(path.read_text())
        full["secrets"]["admin_key"] = "another-admin-key"
        full["authenticate"]["login"]["users"][0]["name"] = "carol"
        path.write_text(yaml.safe_dump(full))
        gate.process.send_signal(1)
        await soon(lambda: _is(gate, "another-admin-key", 200))
        assert await status(gate, ADMIN) == 401
        await _logged_in(gate, "carol", "correct horse")
        full["secrets"]["admin_key"] = "a-third-admin-key"
        full["exact_cache"] = {}  # which begins with a restart only: nothing of this file may hold
        path.write_text(yaml.safe_dump(full))
        gate.process.send_signal(1)
        await soon(partial(_says, tmp_path / "gateway.err", "not reloaded"))
        assert [await status(gate, secret) for secret in ("another-admin-key", "a-third-admin-key")] == [200, 401]


async def _says(log: Path, words: str) -> bool:
    return words in await asyncio.to_thread(log.read_text)


async def test_a_key_made_just_before_a_kill_is_kept(tmp_path: Path) -> None:
    """Once an administrator has the answer, `kill -9` takes nothing back."""
    database = f"sqlite:///{tmp_path}/state/lockgate.db"
    async with gateway(tmp_path, config(database)) as gate:
        _, secret = await new_key(gate)
        gate.process.kill()
        await gate.process.wait()
    with sqlite3.connect(tmp_path / "state" / "lockgate.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    async with gateway(tmp_path, config(database)) as gate:
        assert await status(gate, secret) == 200
