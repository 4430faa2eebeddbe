"""Golden files: a request as a client wrote it, what the provider got, what it answered, what the client read; to the byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.http import Connection
from support.live import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = sorted((Path(__file__).parent / "golden").glob("*.json"))


class Canned:
    """A provider that answers with what the case says, and keeps what it got."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.path = ""
        self.body = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.path = head.split()[1]
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
        self.body = await reader.readexactly(int(length.partition(":")[2]))
        data = self.answer["body"].encode()
        writer.write(
            f"HTTP/1.1 {self.answer['status']} X\r\ncontent-type: {self.answer['type']}\r\n"
            f"content-length: {len(data)}\r\nconnection: close\r\n\r\n".encode()
            + data
        )
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Canned]]:
    canned = Canned()
    server = await asyncio.start_server(canned.serve, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = {
        "providers": {"up": {"kind": "openai", "base_url": base_url}},
        "routes": {"public": {"deployments": [{"provider": "up", "model": "upstream"}]}},
    }
    async with gateway(tmp_path_factory.mktemp("golden"), config) as gate:
        yield gate, canned
    server.close()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
async def test_a_call_goes_up_and_comes_down_as_the_golden_file_says(live: tuple[Gateway, Canned], path: Path) -> None:
    """Byte for byte, both ways."""
    gate, canned = live
    case = json.loads(await asyncio.to_thread(path.read_text))
    canned.answer = case["upstream"]
    async with Connection(gate.url) as wire:
        answer = await wire.request("POST", "/v1" + case["path"], case["request"].encode())
    assert canned.path == case["upstream_path"]
    assert canned.body.decode() == case["upstream_request"]
    assert answer.status == case["status"]
    assert answer.body.decode() == case["reply"]
