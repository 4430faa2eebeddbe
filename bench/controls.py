"""The controls: the least that any gateway of this kind must cost, as real processes on our uvicorn settings.

`python bench/controls.py raw` (C1) echoes the body from a raw ASGI application, `litestar` (C2) does the same in a
mounted Litestar `@asgi` handler, `relay --upstream URL` (C3) passes calls through aiohttp, whole and streamed, with no
policy at all. Each prints `listening on http://127.0.0.1:PORT`.
"""

import argparse
import asyncio
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import uvicorn
import uvloop
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send

_JSON = [(b"content-type", b"application/json")]


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)  # type: ignore[arg-type]


async def raw(_scope: Scope, receive: Receive, send: Send) -> None:
    """C1: what uvicorn alone costs."""
    body = await _body(receive)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*_JSON, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@asgi("/", is_mount=True, copy_scope=False)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """C2: the same answer through Litestar's router."""
    await raw(scope, receive, send)


class Relay:
    """C3: one upstream call for each call, its bytes passed on as they come."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        """`upstream` is the address that the caller's path is appended to."""
        self._session = session
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _body(receive)
        headers = {"content-type": "application/json", "authorization": "Bearer sk-up"}
        async with self._session.post(self._upstream + scope["path"], data=body, headers=headers) as answer:
            kind = answer.headers["content-type"].encode()
            start = [(b"content-type", kind)]
            if answer.content_length is not None:
                whole = await answer.read()
                start.append((b"content-length", str(len(whole)).encode()))
                await send({"type": "http.response.start", "status": answer.status, "headers": start})
                await send({"type": "http.response.body", "body": whole, "more_body": False})
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": start})
            async for part in answer.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _serve(kind: str, upstream: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=60),
        )
        async with session:
            applications: dict[str, Callable[[], Callable[..., Any]]] = {
                "raw": lambda: raw,
                "litestar": lambda: Litestar([mounted], openapi_config=None, logging_config=None),
                "relay": lambda: Relay(session, upstream),
            }
            config = uvicorn.Config(
                applications[kind](),
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                log_level="warning",
            )
            print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("raw", "litestar", "relay"))
    parser.add_argument("--upstream", default="")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.kind, arguments.upstream))


if __name__ == "__main__":
    main()
