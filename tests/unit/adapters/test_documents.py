"""Documents from elsewhere over real HTTP: what counts as one, and what does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from adapters.documents import fetcher
from adapters.network import tls_context
from adapters.transport_aiohttp import AiohttpTransport

GOOD = b'{"keys": []}'
ANSWERS = {
    "good": (b"200 OK", GOOD),
    "error": (b"500 Internal Server Error", GOOD),
    "elsewhere": (b"302 Found\r\nlocation: http://127.0.0.1:1/", GOOD),
    "large": (b"200 OK", GOOD + b" " * 2**20),
    "nothing": (b"204 No Content", b""),
}


@contextlib.asynccontextmanager
async def served(answer: tuple[bytes, bytes]) -> AsyncIterator[str]:
    """A server that always says this, and its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (answer[0], len(answer[1]))
            writer.write(head + answer[1])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/document"
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def a_transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport(tls_context(None), agent="tests")
    try:
        yield made
    finally:
        await made.aclose()


async def test_a_small_200_is_a_document() -> None:
    async with a_transport() as transport, served(ANSWERS["good"]) as url:
        assert await fetcher(transport)(url) == GOOD


@pytest.mark.parametrize("mode", ["error", "elsewhere", "large", "nothing"])
async def test_anything_else_is_none(mode: str) -> None:
    """Nor is a redirection followed: it could lead to where keys must not come from."""
    async with a_transport() as transport, served(ANSWERS[mode]) as url:
        with pytest.raises(OSError, match=r"."):
            await fetcher(transport)(url)


async def test_a_server_that_is_not_there_has_none() -> None:
    async with a_transport() as transport:
        async with served(ANSWERS["good"]) as url:
            pass
        with pytest.raises(OSError, match=r"."):
            await fetcher(transport)(url)
