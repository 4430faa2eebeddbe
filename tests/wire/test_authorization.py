"""Who may do what: every route of the application with every kind of caller, against a gateway that runs."""

import inspect
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import argon2
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.routes import HTTPRoute
from support.http import CHAT, Answered, Connection, chat, head
from support.identity import NOW, Authority
from support.jwks import key_server
from support.live import Gateway, gateway

from proxy import commands
from proxy.config import Config
from proxy.config_file import parse_config
from proxy.paths import _KNOWN

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN_KEY = "7c9e6679f3fc45b1a1f8c5a2d0b3e4f6"
SCRAPE = "a-token-for-scrapers-0123456789"
PASSWORD = "correct horse"
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
ISSUER = "https://login.example.com"

OPEN = {
    "GET /health/live", "GET /healthz", "GET /health/ready", "GET /readyz", "GET /system/health",
    "GET /docs", "GET /openapi.json", "GET /docs/{name:str}", "GET /ui", "GET /ui/{name:str}",
    "POST /auth/login", "POST /auth/refresh",
}  # fmt: skip
"""For anybody: they say nothing of anybody, or ask for a secret of their own."""
CALLERS = {"GET /auth/verify", "POST /auth/logout", "POST /system/cache/feedback"}
"""For everybody who is known."""
SCRAPERS = {"GET /metrics"}
ADMINS = {
    "GET /admin/routes", "GET /admin/requests", "GET /admin/requests/{call_id:str}", "GET /admin/overview",
    "GET /admin/live", "GET /admin/usage", "GET /admin/budgets", "GET /system/cache/stats",
    "POST /system/cache/clear", "POST /system/cache/explain", "GET /admin/keys", "POST /admin/keys",
    "GET /admin/keys/{key_id:str}", "PATCH /admin/keys/{key_id:str}", "DELETE /admin/keys/{key_id:str}",
    "GET /admin/users", "POST /admin/users", "PATCH /admin/users/{name:str}", "DELETE /admin/users/{name:str}",
    "GET /admin/owners", "PUT /admin/owners/{name:path}", "DELETE /admin/owners/{name:path}",
}  # fmt: skip
CALLS = {f"{method} {path}" for path, target in _KNOWN.items() for method in target.methods}
"""The edge's own, from its own table: for everybody who is known, whatever is added to it."""
OTHER_CALLS = {
    "GET /v1/models/fake%2Fecho", "HEAD /v1/models/m", "POST /openai/deployments/m/chat/completions",
    "POST //v1//chat/completions/",
}  # fmt: skip
KNOWN_ONLY = sorted(CALLERS | CALLS | OTHER_CALLS)


def settings(jwks: str) -> dict[str, Any]:
    """Everything that brings routes is on."""
    return {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"*": {"deployments": [{"provider": "fake", "model": "fake/echo"}]}},
        "authenticate": {
            "login": {"users": [{"name": name, "password_hash": HASH, "role": name} for name in ("admin", "user")]},
            "issuers": [
                {"issuer": ISSUER, "audience": "lockgate", "jwks": jwks, "claims": {"role": "role"}, "name": "corp"}
            ],
            "failures": 100_000,
        },
        "client_limits": {"requests": "1000000/minute"},
        "exact_cache": {},
        "metrics": {"token": SCRAPE},
        "secrets": {"admin_key": ADMIN_KEY},
    }


class World:
    """The gateway, and who calls it."""

    def __init__(self, gate: Gateway) -> None:
        self.gate = gate
        self.secrets: dict[str, str] = {}

    async def ask(self, row: str, secret: str | None, body: bytes = b"{}") -> Answered:
        """One request with this secret, or with none."""
        method, path = row.split(" ", 1)
        path = path.replace("{call_id:str}", "0" * 32).replace("{key_id:str}", "none")
        path = path.replace("{name:str}", "app.js").replace("{name:path}", "nobody")
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        async with Connection(self.gate.url) as connection:
            await connection.send(
                head(method, path, sent := b"" if method in ("GET", "HEAD") else body, **headers) + sent
            )
            if row == "GET /admin/live":  # a stream without an end
                status, names = await connection.answer_head()
                length = int(names.get("content-length", 0))
                return Answered(status, names, await connection.reader.readexactly(length))
            return await connection.answer(bodiless=method == "HEAD")

    async def key(self, **members: object) -> tuple[str, str]:
        """Id and secret of a new key."""
        made = await self.ask("POST /admin/keys", ADMIN_KEY, msgspec.json.encode({"models": ["*"], **members}))
        return made.json["id"], made.json["key"]

    async def token(self, name: str) -> str:
        """The access token of a login."""
        said = await self.ask("POST /auth/login", None, msgspec.json.encode({"username": name, "password": PASSWORD}))
        found: str = said.json["access_token"]
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    authority = Authority()
    async with (
        key_server(authority) as keys,
        gateway(tmp_path_factory.mktemp("matrix"), settings(keys.url)) as gate,
    ):
        made = World(gate)
        claims = {"iss": ISSUER, "aud": "lockgate", "sub": "a", "exp": int(NOW) * 2}
        revoked, gone = await made.key()
        await made.ask(f"DELETE /admin/keys/{revoked}", ADMIN_KEY)
        made.secrets = {
            "bad key": "sk-lg-" + "x" * 43,
            "bad admin key": ADMIN_KEY[:-1] + "7",
            "expired key": (await made.key(expires=1, role="admin"))[1],
            "disabled key": (await made.key(enabled=False, role="admin"))[1],
            "revoked key": gone,
            "expired token": authority.sign(claims | {"exp": 1, "role": "lockgate-admin"}),
            "token of nobody": Authority().sign(claims | {"role": "lockgate-admin"}),
            "key": (await made.key())[1],
            "login": await made.token("user"),
            "issuer's token": authority.sign(claims),
            "admin key": ADMIN_KEY,
            "admin's key": (await made.key(role="admin"))[1],
            "admin's login": await made.token("admin"),
            "issuer's admin": authority.sign(claims | {"role": ["x", "lockgate-admin"]}),
        }
        yield made


NOBODY = [
    "bad key", "bad admin key", "expired key", "disabled key", "revoked key", "expired token", "token of nobody",
]  # fmt: skip
USERS = ["key", "login", "issuer's token"]
THE_ADMINS = ["admin key", "admin's key", "admin's login", "issuer's admin"]


async def test_every_route_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `lockgate serve` puts the application together: who adds a route says here who may use it."""
    taken: list[Any] = []

    class Server:
        def __init__(self, app: Any, *_: object, **__: object) -> None:
            taken.append(app)

        async def run(self, listener: Any, _ready: Callable[[], None]) -> None:
            listener.close()

    def load() -> Config:
        server = {"state_dir": str(tmp_path), "port": 0}
        return parse_config(msgspec.yaml.encode(settings("http://127.0.0.1:1/") | {"server": server}).decode(), {})

    monkeypatch.setattr(commands, "Server", Server)
    monkeypatch.setattr(commands, "set_up_logs", lambda *_: None)
    await commands.serve(load, None)
    web = inspect.getclosurevars(taken[0]).nonlocals["web"]
    assert isinstance(web, Litestar)
    found = {
        f"{method} {route.path_format if isinstance(route, HTTPRoute) else route.path}"
        for route in web.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    rows = OPEN | CALLERS | SCRAPERS | ADMINS
    assert {bare(each) for each in found} == {bare(each) for each in rows}


def bare(row: str) -> str:
    """Without the types of its parameters."""
    return row.replace(":str}", "}").replace(":path}", "}")


def was_let_in(answer: Answered) -> None:
    """Not refused for who it is; what was asked may still have been nonsense."""
    assert answer.status not in (401, 403, 405, 429), answer.body
    assert answer.status < 500, answer.body
    assert b"unknown_url" not in answer.body


@pytest.mark.parametrize("who", [None, *NOBODY])
async def test_who_is_not_known_gets_nothing(world: World, who: str | None) -> None:
    """401 on everything but what is open to anybody; the code says whether there was a key at all."""
    secret = None if who is None else world.secrets[who]
    code = {None: None, "expired token": "token_expired"}.get(who, "invalid_api_key")
    for row in sorted(ADMINS | SCRAPERS | set(KNOWN_ONLY)):
        answer = await world.ask(row, secret)
        assert (answer.status, answer.headers.get("www-authenticate")) == (401, "bearer"), row
        if not row.startswith("HEAD"):
            assert answer.json["error"]["code"] == code, row
            assert secret is None or secret.encode() not in answer.body


@pytest.mark.parametrize("who", USERS)
async def test_callers_may_call_and_nothing_more(world: World, who: str) -> None:
    """403 on what is the operator's."""
    for row in sorted(ADMINS | SCRAPERS):
        answer = await world.ask(row, world.secrets[who])
        assert (answer.status, answer.json["error"]["code"]) == (403, "forbidden"), row
    for row in KNOWN_ONLY:
        if row != "POST /auth/logout":
            was_let_in(await world.ask(row, world.secrets[who], chat("m")))
    assert (await world.ask(f"POST {CHAT}", world.secrets[who], chat("m"))).status == 200


@pytest.mark.parametrize("who", THE_ADMINS)
async def test_administrators_may_do_everything(world: World, who: str) -> None:
    """By key, by role in a key, by role in a token, whoever issued it."""
    for row in sorted(ADMINS | SCRAPERS | set(KNOWN_ONLY)):
        if row != "POST /auth/logout":
            was_let_in(await world.ask(row, world.secrets[who]))


async def test_what_is_open_is_open(world: World) -> None:
    """Also to who presents a key that is no good: probes and pages do not care."""
    for row in sorted(OPEN):
        for secret in (None, world.secrets["bad key"]):
            answer = await world.ask(row, secret)
            assert answer.status in (200, 304, 400), (row, answer.body)


async def test_a_scraper_may_scrape_and_nothing_more(world: World) -> None:
    assert (await world.ask("GET /metrics", SCRAPE)).status == 200
    for row in sorted(ADMINS | set(KNOWN_ONLY)):
        assert (await world.ask(row, SCRAPE)).status == 401, row


async def test_a_login_that_has_ended_opens_nothing(world: World) -> None:
    """At once, on the instance that ended it."""
    for name in ("user", "admin"):
        token = await world.token(name)
        assert (await world.ask("GET /auth/verify", token)).json["username"] == name
        assert (await world.ask("POST /auth/logout", token, b"")).json == {"status": "logged out"}
        for row in ("GET /auth/verify", "GET /admin/keys", "GET /v1/models"):
            assert (await world.ask(row, token)).status == 401


async def test_who_may_not_call_is_refused_before_a_body_is_read(world: World) -> None:
    """The head alone is sent, with a body announced that never comes."""
    rows = [each for each in sorted(ADMINS | set(KNOWN_ONLY)) if each.startswith(("POST", "PUT", "PATCH"))]
    rows.remove("POST /auth/logout")
    for row in rows:
        for who in (None, "bad key", "expired token"):
            method, path = bare(row).replace("{", "").replace("}", "").split(" ", 1)
            headers = {} if who is None else {"authorization": f"Bearer {world.secrets[who]}"}
            async with Connection(world.gate.url) as connection:
                await connection.send(head(method, path, b"x" * 1000, **headers))
                status, _ = await connection.answer_head()
                assert status == 401, row
    for row in sorted(ADMINS & set(rows)):
        method, path = bare(row).replace("{", "").replace("}", "").split(" ", 1)
        async with Connection(world.gate.url) as connection:
            await connection.send(head(method, path, b"x" * 1000, x_api_key=world.secrets["key"]))
            assert (await connection.answer_head())[0] == 403, row


async def test_other_methods_open_no_way_around(world: World) -> None:
    """What is refused by GET is not answered by HEAD, OPTIONS, TRACE or an invented one, nor by another spelling."""
    for path in ("/admin/keys", "/admin/routes", "/system/cache/stats", "/metrics"):
        for method in ("HEAD", "OPTIONS", "TRACE", "LOCK"):
            answer = await world.ask(f"{method} {path}", None)
            assert answer.status in (204, 400, 401, 405), (method, path)
            assert b"last_four" not in answer.body
        for other in (
            f"/{path}",
            f"{path}/",
            f"/x/..{path}",
            path.replace("/a", "/%61"),
            path.upper(),
            f"{path}%00",
            f"/v1/..{path}",
        ):
            answer = await world.ask(f"GET {other}", None)
            assert answer.status in (400, 401, 404), other


def forms(rng: random.Random, secret: str) -> bytes:
    """Headers that present something, in every shape that HTTP lets through and some that it does not."""
    space = ["", " ", "  ", "\t"]
    value = rng.choice(
        [secret, secret, secret, secret[:-1], secret + "x", secret.upper(), "", "x" * 9000, "\xe9", '"', ","]
    )
    name = rng.choice(
        ["Authorization", "AUTHORIZATION", "x-api-key", "X-API-Key", "api-key", "Api-Key", "proxy-authorization"]
    )
    if "uthorization" in name.lower():
        scheme = rng.choice(["Bearer", "Bearer", "bearer", "BEARER", "Basic", "Token", "", "Bearer Bearer", "Bearer,"])
        value = scheme + rng.choice([" ", " ", *space]) + value
    return f"{name}:{rng.choice(space)}{value}{rng.choice(space)}\r\n".encode("latin-1")


@pytest.mark.parametrize("seed", range(4))
async def test_calls_and_pages_read_the_same_key_from_whatever_headers(world: World, seed: int) -> None:
    """Two parsers, one rule: the same status and code, never a 5xx, and nobody in but with the whole key."""
    rng = random.Random(seed)
    outcomes = set()
    for _ in range(60):
        lines = b"".join(forms(rng, world.secrets["key"]) for _ in range(rng.choice([1, 1, 2, 3])))
        found = []
        for path in ("/v1/models", "/auth/verify"):
            async with Connection(world.gate.url) as connection:
                await connection.send(b"GET %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (path.encode(), lines))
                answer = await connection.answer()
                found.append((answer.status, answer.json["error"]["code"] if answer.status != 200 else ""))
        assert found[0] == found[1], lines
        assert found[0][0] in (200, 400, 401), lines
        assert found[0][0] != 200 or world.secrets["key"].encode() in lines
        outcomes.add(found[0])
    assert {(200, ""), (401, "invalid_api_key"), (401, None)} <= outcomes
