"""An issuer's keys over HTTP on this machine: what it serves, how it fails, and what it was asked."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from support.identity import Authority


class KeyServer:
    """Serves the keys of an authority; `mode` is how."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.url = ""
        self.asked = 0
        self.mode = "good"
        self.document: Any = None
        """Served in place of the keys, as it is."""
        self._asking = asyncio.Condition()

    async def asked_for(self, times: int) -> None:
        """Return when it was asked so often."""
        async with asyncio.timeout(10), self._asking:
            await self._asking.wait_for(lambda: self.asked >= times)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            async with self._asking:
                self.asked += 1
                self._asking.notify_all()
            status, body = self._answer()
            writer.write(
                b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n%b\r\n"
                % (status, len(body), b"location: http://127.0.0.1:1/\r\n" if self.mode == "elsewhere" else b"")
                + body
            )
            await writer.drain()
        writer.close()

    def _answer(self) -> tuple[bytes, bytes]:
        keys = [*map(self.authority.jwk, self.authority.published), *self.authority.extra]
        document = json.dumps({"keys": keys} if self.document is None else self.document).encode()
        return {
            "good": (b"200 OK", document),
            "error": (b"500 Internal Server Error", document),
            "elsewhere": (b"302 Found", document),
            "large": (b"200 OK", document + b" " * 2**20),
            "html": (b"200 OK", b"<html>be back soon</html>"),
            "empty": (b"200 OK", b""),
        }[self.mode]


@contextlib.asynccontextmanager
async def key_server(authority: Authority) -> AsyncIterator[KeyServer]:
    """One that runs; leaving the context is its outage."""
    served = KeyServer(authority)
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    try:
        yield served
    finally:
        server.close()
        await server.wait_closed()
