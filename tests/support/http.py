"""HTTP by hand, for what no client library would send."""

import asyncio
import json
from typing import Any, Self


class Answered:
    """An answer as it came: status, headers in lower case, body (chunks already joined)."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Connection:
    """One connection to a server on this machine."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port.partition("/")[0])

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**26)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def send(self, raw: bytes) -> None:
        """Put bytes on the wire."""
        self.writer.write(raw)
        await self.writer.drain()

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answered:
        """A whole request and its answer, on this connection."""
        await self.send(head(method, path, body, **headers) + body)
        return await self.answer(bodiless=method == "HEAD")

    async def answer_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        lines = raw.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def answer(self, *, bodiless: bool = False) -> Answered:
        """The next answer, whole."""
        status, headers = await self.answer_head()
        if bodiless or status == 204:
            return Answered(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while piece := await self.chunk():
                body += piece
            return Answered(status, headers, body)
        body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 20)
        return Answered(status, headers, body)

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; b"" at its end."""
        size = int(await asyncio.wait_for(self.reader.readline(), 20), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]


def head(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The head of a request; `x_name` becomes the header `x-name`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    all_headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), **given}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items() if value != "-")]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def chat(model: str = "echo", text: str = "hi", **members: object) -> bytes:
    """The body of a chat call."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **members}).encode()


CHAT = "/v1/chat/completions"
