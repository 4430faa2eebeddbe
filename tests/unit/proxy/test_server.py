"""Connections between their requests, over real sockets."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import uvicorn

from proxy.rounds import Rounds
from proxy.server import Protocol

KEEP_ALIVE = 0.3
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that keeps idle ones for a moment only."""
    idle = Rounds[Protocol](KEEP_ALIVE, KEEP_ALIVE / 10, Protocol.timeout_keep_alive_handler)
    config = uvicorn.Config(app, http=partial(Protocol, idle=idle), ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        await server.startup(sockets=[listener])
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            await server.shutdown(sockets=[listener])


async def answers(reader: asyncio.StreamReader, count: int = 1) -> None:
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(2) == b"ok"


@pytest.mark.parametrize("requests", [1, 3], ids=["one at a time", "sent ahead of their answers"])
async def test_an_idle_connection_is_closed_after_its_time(requests: int) -> None:
    """Counted from the last answer."""
    async with asyncio.timeout(20), serving() as (reader, writer):
        writer.write(REQUEST * requests)
        await answers(reader, requests)
        idle_since = time.monotonic()
        assert await reader.read() == b""
        assert time.monotonic() - idle_since >= KEEP_ALIVE * 0.9


async def test_a_connection_in_use_is_kept() -> None:
    """For longer than an idle one, all in all."""
    async with asyncio.timeout(20), serving() as (reader, writer):
        began = time.monotonic()
        while time.monotonic() - began < 3 * KEEP_ALIVE:
            writer.write(REQUEST)
            await answers(reader)
            await asyncio.sleep(KEEP_ALIVE / 20)
        writer.write(REQUEST)
        await answers(reader)
