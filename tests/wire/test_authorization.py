"""Every route and every kind of caller. The routes come from the application itself: a new one wants a word here."""

import time
from collections.abc import AsyncIterator
from random import Random

import argon2
import pytest
import pytest_asyncio
import yaml
from litestar import Litestar
from support.http import Connection, chat, head
from support.live import Gateway, gateway

from proxy.app import build
from proxy.commands import handlers
from proxy.config_file import parse_config
from proxy.edge import Edge
from proxy.grants import Grants
from proxy.health import Health
from proxy.keepers import Keepers
from proxy.paths import _KNOWN
from proxy.tokens import Signer
from proxy.user_store import User
from proxy.web import make_web

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNING = "a signing secret for these tests"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
CONFIG = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"echo": {"deployments": [{"provider": "fake", "model": "echo"}]}},
    "exact_cache": {},
    "client_limits": {"requests": "1000000/minute"},
    "authenticate": {
        "failures": 100_000,
        "login": {
            "users": [
                {"name": "user", "password_hash": HASH, "owner": "acme"},
                {"name": "admin", "password_hash": HASH, "role": "admin"},
            ]
        },
    },
    "secrets": {"admin_key": "the-admin-key", "signing": SIGNING},
}

OPEN = {
    ("GET", "/health/live"), ("GET", "/healthz"), ("GET", "/health/ready"), ("GET", "/readyz"),
    ("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/docs/assets/{file_path:path}"),
    ("POST", "/auth/login"), ("POST", "/auth/refresh"), ("GET", "/ui"), ("GET", "/ui/{name:str}"),
    ("GET", "/system/health"),
}  # fmt: skip
"""For everybody: nothing there says who calls or what passed; a login brings its own password."""
CALLERS = {("GET", "/auth/verify"), ("POST", "/auth/logout"), ("POST", "/system/cache/feedback")}
"""For whoever may call at all, as the OpenAI routes are."""

ENDLESS = {("GET", "/admin/live")}
"""Streams that go on for as long as somebody listens."""

Routes = set[tuple[str, str]]
Credentials = dict[str, dict[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routes(tmp_path_factory: pytest.TempPathFactory) -> Routes:
    """Method and path of everything that is served with authentication and logins on."""
    folder = tmp_path_factory.mktemp("routes")
    config = parse_config(yaml.safe_dump({**CONFIG, "server": {"state_dir": str(folder)}}), {})
    keepers = Keepers.open(config)
    try:
        runtime, _ = build(config, keepers, {})
        health = Health({})
        web: Litestar = make_web(health, handlers(Edge(runtime), health, keepers, config))
        await runtime.aclose()
    finally:
        await keepers.aclose()
    found = {(method, each.path) for each in web.routes for method in getattr(each, "methods", ("GET",))}
    found |= {(target.methods[0], path) for path, target in _KNOWN.items()}
    found |= {("GET", "/v1/models/echo"), ("POST", "/openai/deployments/echo/chat/completions")}
    return {(method, path) for method, path in found if method not in ("OPTIONS", "HEAD")}


def audience(method: str, path: str) -> str:
    """Who a route is for. What is the operator's is known by its path; everything else is listed."""
    if (method, path) in OPEN:
        return "everybody"
    if path.startswith(("/admin/", "/system/", "/metrics")) and (method, path) not in CALLERS:
        return "admins"
    if (method, path) in CALLERS or path.removeprefix("/openai").removeprefix("/v1") in API or "/echo" in path:
        return "callers"
    return "nobody said"


API = {path.removeprefix("/openai").removeprefix("/v1") for path in _KNOWN}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path_factory.mktemp("authorization"), CONFIG) as gate:
        yield gate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def credentials(live: Gateway) -> Credentials:
    """Headers of every kind of caller."""
    async with Connection(live.url) as wire:

        async def key(body: str) -> str:
            answer = await wire.request("POST", "/admin/keys", body.encode(), x_api_key="the-admin-key")
            assert answer.status == 201
            return str(answer.json["key"])

        keys = {
            "key": await key('{"models": ["*"]}'),
            "expired key": await key('{"models": ["*"], "expires": 1000000000}'),
            "disabled key": await key('{"models": ["*"], "enabled": false}'),
            "admin's key": await key('{"models": ["*"], "role": "admin"}'),
        }
    signer, now = Signer(SIGNING.encode()), time.time()
    users = {name: User(name, HASH, Grants()) for name in ("user", "admin", "nobody")}
    tokens = {
        "user's token": signer.issue(users["user"], "f" * 32, now, 600),
        "admin's token": signer.issue(users["admin"], "f" * 32, now, 600),
        "expired token": signer.issue(users["admin"], "f" * 32, now - 7200, 3600),
        "nobody's token": signer.issue(users["nobody"], "f" * 32, now, 600),
        "forged token": Signer(b"another secret").issue(users["admin"], "f" * 32, now, 600),
    }
    bearer = {name: {"authorization": f"Bearer {secret}"} for name, secret in {**keys, **tokens}.items()}
    return {
        "nothing": {},
        "bad key": {"authorization": "Bearer sk-lg-" + "x" * 43},
        "bad admin key": {"x_api_key": "the-admin-kez"},
        "two keys": {"authorization": "Bearer the-admin-key", "x_api_key": "other"},
        "admin key": {"api_key": "the-admin-key"},
        **bearer,
    }


NOT_KNOWN = {
    "nothing": (401, None), "bad key": (401, "invalid_api_key"), "bad admin key": (401, "invalid_api_key"),
    "two keys": (400, "conflicting_credentials"), "expired key": (401, "invalid_api_key"),
    "disabled key": (401, "invalid_api_key"), "expired token": (401, "token_expired"),
    "nobody's token": (401, "invalid_api_key"), "forged token": (401, "invalid_api_key"),
}  # fmt: skip
NOT_ADMINS = {"key", "user's token"}


async def test_every_route_has_its_audience(routes: Routes) -> None:
    """A route that nobody thought about fails here, and so does a listed one that is gone."""
    assert [route for route in sorted(routes) if audience(*route) == "nobody said"] == []
    assert routes >= OPEN | CALLERS | ENDLESS
    assert sum(audience(*route) == "admins" for route in routes) >= 14


async def test_every_route_is_for_its_audience_only(live: Gateway, credentials: Credentials, routes: Routes) -> None:
    """The whole matrix: who may not is told so before anything else, who may is not."""
    wrong = []
    async with Connection(live.url) as wire:
        for method, path in sorted(routes - ENDLESS):
            real = path.replace("{file_path:path}", "swagger-ui.css").partition("{")[0] + ("x" if "{" in path else "")
            body = (
                b"" if method == "GET" else b"{}" if path.startswith(("/admin", "/auth", "/system")) else chat("echo")
            )
            for name, headers in credentials.items():
                answer = await wire.request(method, real, body, **headers)
                code = answer.json["error"]["code"] if answer.status >= 400 else None
                if not expected(audience(method, path), name, answer.status, code):
                    wrong.append((method, path, name, answer.status, code))
    assert wrong == []


async def test_a_stream_without_an_end_is_for_its_audience_only(live: Gateway, credentials: Credentials) -> None:
    """The same, of which only the head can be waited for."""
    for method, path in sorted(ENDLESS):
        for name, headers in credentials.items():
            async with Connection(live.url) as wire:
                await wire.send(head(method, path, b"", **headers))
                status, _ = await wire.answer_head()
            wanted = NOT_KNOWN[name][0] if name in NOT_KNOWN else 403 if name in NOT_ADMINS else 200
            assert status == wanted, (path, name)


def expected(audience: str, name: str, status: int, code: str | None) -> bool:
    """Whether this is what this caller should see of a route."""
    if audience == "everybody" or (name not in NOT_KNOWN and not (audience == "admins" and name in NOT_ADMINS)):
        return status not in (401, 403, 429) and status < 500 and code != "conflicting_credentials"
    if name in NOT_KNOWN:
        return (status, code) == NOT_KNOWN[name]
    return (status, code) == (403, "forbidden")


async def test_a_model_that_is_not_allowed_is_as_if_it_were_not_there(live: Gateway) -> None:
    """In calls, in the list and by name: 404, the same as for one that does not exist."""
    async with Connection(live.url) as wire:
        made = await wire.request("POST", "/admin/keys", b'{"name": "no models"}', x_api_key="the-admin-key")
        headers = {"authorization": f"Bearer {made.json['key']}"}
        assert (await wire.request("GET", "/v1/models", b"", **headers)).json["data"] == []
        for model in ("echo", "nothing"):
            for answer in (
                await wire.request("POST", "/v1/chat/completions", chat(model), **headers),
                await wire.request("GET", f"/v1/models/{model}", b"", **headers),
            ):
                assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")


async def test_who_may_not_is_told_before_the_body_is_sent(
    live: Gateway, credentials: Credentials, routes: Routes
) -> None:
    """On every route that takes one: the answer comes while the body is still owed."""
    wrong = []
    for method, path in sorted(routes):
        for name in ("nothing", "bad key", "expired token", "key"):
            told_at_once = name != "key" or audience(method, path) == "admins"
            if method == "GET" or audience(method, path) == "everybody" or not told_at_once:
                continue
            if path == "/auth/logout":
                continue  # the refresh token in its body may do
            real = path.partition("{")[0] + ("x" if "{" in path else "")
            async with Connection(live.url) as wire:
                await wire.send(head(method, real, b"x" * 1000, **dict(credentials[name])))
                status, _ = await wire.answer_head()
                if status != (403 if name == "key" else 401):
                    wrong.append((method, path, name, status))
    assert wrong == []


async def test_other_methods_and_spellings_open_no_way_around(live: Gateway) -> None:
    """What is refused as it is meant is not answered when it is asked for otherwise."""
    async with Connection(live.url) as wire:
        for path in ("/admin/keys", "/admin/routes", "/system/cache/stats", "/metrics"):
            for method in ("HEAD", "OPTIONS", "TRACE", "LOCK"):
                answer = await wire.request(method, path)
                assert answer.status in (204, 401, 405), (method, path)
                assert b"last_four" not in answer.body
            others = (f"/{path}", f"{path}/", f"/x/..{path}", path.replace("/a", "/%61"), path.upper(), f"/v1/..{path}")
            for other in (*others, f"{path}%00", f"{path};x", f"{path}?x=/health/live", f"/health/live/..{path}"):
                assert (await wire.request("GET", other)).status in (401, 404), other


NAMES = ["Authorization", "authorization", "AUTHORIZATION", "x-api-key", "X-API-Key", "api-key", "Proxy-Authorization"]
SCHEMES = ["Bearer", "Bearer", "bearer", "BEARER", "Basic", "Token", "", "Bearer Bearer", "Bearer,"]
SPACE = ["", " ", " ", "  ", "\t"]


def a_header(chance: Random, secret: str) -> bytes:
    """One that presents something, in a shape that HTTP lets through or one that it should not."""
    others = [secret[:-1], secret + "x", secret.upper(), f"{secret}, {secret}", "", "x" * 9000, "\xe9", '"', ","]
    name, value = chance.choice(NAMES), chance.choice([secret] * 6 + others)
    if "auth" in name.lower():
        value = chance.choice(SCHEMES) + chance.choice(SPACE) + value
    return f"{name}:{chance.choice(SPACE)}{value}{chance.choice(SPACE)}\r\n".encode("latin-1")


@pytest.mark.parametrize("seed", range(3))
async def test_every_route_reads_the_same_key_from_whatever_headers(
    live: Gateway, credentials: Credentials, seed: int
) -> None:
    """The edge, the operator's routes and `/auth`: one status and code, no 5xx, nobody in but with the whole key."""
    chance, seen = Random(seed), set()
    secret = credentials["admin's key"]["authorization"].removeprefix("Bearer ")
    for _ in range(60):
        lines = b"".join(a_header(chance, secret) for _ in range(chance.choice([1, 1, 2, 3])))
        found = set()
        for path in (b"/v1/models", b"/admin/routes", b"/auth/verify"):
            async with Connection(live.url) as wire:
                await wire.send(b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (path, lines))
                answer = await wire.answer()
            found.add((answer.status, answer.json["error"]["code"] if answer.status != 200 else ""))
        assert len(found) == 1, lines
        (status, code) = found.pop()
        assert status in (200, 400, 401), lines
        assert status != 200 or secret.encode() in lines
        seen.add((status, code))
    assert {(200, ""), (401, "invalid_api_key"), (401, None), (400, "conflicting_credentials")} <= seen


async def test_a_repeated_header_is_one_bad_key_everywhere(live: Gateway) -> None:
    """At the edge and at the operator's routes alike."""
    lines = b"host: localhost\r\nauthorization: Bearer the-admin-key\r\nauthorization: Bearer the-admin-key\r\n\r\n"
    for path in (b"/v1/models", b"/admin/routes"):
        async with Connection(live.url) as wire:
            await wire.send(b"GET " + path + b" HTTP/1.1\r\n" + lines)
            assert (await wire.answer()).status == 401


async def test_foreign_hosts_and_origins_are_welcome_with_a_key(live: Gateway, credentials: Credentials) -> None:
    """They are refused only where nobody has to say who they are."""
    async with Connection(live.url) as wire:
        named = {"host": "llm.example.com", "origin": "https://app.example.com"}
        known = await wire.request("GET", "/v1/models", b"", **named, **credentials["key"])
        unknown = await wire.request("GET", "/v1/models", b"", **named)
    assert (known.status, unknown.status) == (200, 401)
