"""The fake provider in process keeps the transport's promises without a socket."""

import asyncio

import msgspec
import pytest

from adapters.fake import Engine
from adapters.fake_transport import FakeTransport
from adapters.transport import Request, TransportError


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport(Engine(lambda: 0.0))


def ask(model: str, *, stream: bool = False, total: float | None = None) -> Request:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "a b c d"}]}
    return Request("fake:///v1/chat/completions", {}, msgspec.json.encode(body), total=total)


async def test_it_answers_whole_and_streamed(transport: FakeTransport) -> None:
    answer = await transport.send(ask("echo"))
    assert answer.status == 200
    assert b'"a b c d"' in answer.body
    opened = await transport.stream(ask("echo", stream=True))
    parts = []
    while data := await opened.read():
        parts.append(data)
    assert parts[-1] == b"data: [DONE]\n\n"
    assert len(parts) == 7


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("refuse", "connect"), ("dns", "dns"), ("tls", "tls"), ("connect-timeout", "connect_timeout"), ("reset", "reset"),
        ("fin", "reset"), ("garbage", "protocol"), ("cut", "reset"), ("stall", "timeout"), ("stall-mid", "timeout"),
    ],
)  # fmt: skip
async def test_faults_are_transport_errors(transport: FakeTransport, fault: str, expected: str) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(ask(f"echo+fault={fault}", total=0.1))
    assert caught.value.fault == expected


async def test_a_stalled_stream_can_be_cancelled(transport: FakeTransport) -> None:
    opened = await transport.stream(ask("echo+fault=stall-content", stream=True))
    assert b'"role"' in await opened.read()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opened.read(), 0.02)
    opened.close()
    assert await opened.read() == b""


async def test_the_limit_holds(transport: FakeTransport) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(msgspec.structs.replace(ask("long=500"), limit=100))
    assert caught.value.fault == "too_large"
