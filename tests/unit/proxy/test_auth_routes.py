"""`/auth/*` before a handler is reached and beside it: slow strangers, and clients that come back late."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from support.identity import Instance, instance

from proxy.auth_routes import Current, auth_handlers
from proxy.grants import Grants
from proxy.health import Health
from proxy.user_store import User
from proxy.web import make_web

USER = User("alice", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$x", Grants())


def web(here: Instance) -> Litestar:
    here.tokens.configure(here.signer, {"alice": USER})
    return make_web(Health({}), auth_handlers(lambda: Current(here.callers, here.tokens, here.login)))


async def post(app: Litestar, path: str, body: bytes | None, **headers: str) -> tuple[int, Any]:
    """One request by ASGI; without a body it never arrives."""
    sent: list[Any] = []
    messages = [] if body is None else [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
        "raw_path": path.encode(), "root_path": "", "query_string": b"", "scheme": "http", "state": {},
        "client": ("192.0.2.1", 1), "server": ("localhost", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


async def test_a_body_that_never_comes_holds_nothing_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers may post here: 408."""
    monkeypatch.setattr("proxy.auth_routes._PATIENCE", 0.02)
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        app = web(here)
        for path in ("/auth/login", "/auth/refresh", "/auth/logout"):
            status, answer = await post(app, path, None, **{"content-length": "10"})
            assert (status, answer["error"]["code"]) == (408, "request_timeout")


async def test_who_comes_back_late_still_logs_out(tmp_path: Path) -> None:
    """With an access token that has run out, by the refresh token beside it; by a forged one nobody."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        app = web(here)
        family, refresh = await here.families.begin("alice", "stamp", 86400.0)
        late = here.signer.issue(USER, family.id, here.clock() - 7200, 3600)
        body = json.dumps({"refresh_token": refresh}).encode()
        status, answer = await post(app, "/auth/logout", body, authorization=f"Bearer {late}x")
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        status, answer = await post(app, "/auth/logout", b"", authorization=f"Bearer {late}")
        assert (status, answer["error"]["code"]) == (401, "token_expired")
        assert await post(app, "/auth/logout", body, authorization=f"Bearer {late}") == (200, {"status": "logged out"})
        assert await here.families.rotate(refresh, 86400.0) is None
        assert family.id in here.directory.revoked
