"""A real Redis for tests, on a port the system chose; it can be stopped, stalled and started again."""

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

_START = 10.0
_PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

needs_redis = pytest.mark.skipif(_PROGRAM is None, reason="no redis-server or valkey-server on this machine")


class Redis:
    """One server: where it is, and how to end and begin it. It keeps nothing across a restart."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = folder
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begin, and wait until it answers."""
        arguments = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = await asyncio.create_subprocess_exec(
            str(_PROGRAM), *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(_START):
            while not await self._answers():  # noqa: ASYNC110 - another process, which says nothing when it is ready
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Kill it; a second time does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    def stall(self) -> None:
        """It accepts, and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stall`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.asyncio.Redis":
        """A connection for the test itself."""
        client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(self.url, decode_responses=True)
        return client

    async def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(await client.dbsize() >= 0)
        except (redis.exceptions.RedisError, OSError):
            return False
        finally:
            await client.aclose()


@contextlib.asynccontextmanager
async def redis_server(folder: Path) -> AsyncIterator[Redis]:
    """A server that runs until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Redis(folder, port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
