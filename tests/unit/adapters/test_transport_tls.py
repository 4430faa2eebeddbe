"""Both transports over TLS: certificates are checked, connections reused, proxies tunnelled through."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from support.certificates import self_signed, server_context

from adapters.fake_server import FakeServer, serve
from adapters.network import tls_context
from adapters.transport import Request, Transport, TransportError
from adapters.transport_aiohttp import AiohttpTransport
from adapters.transport_httpx import HttpxTransport

BODY = msgspec.json.encode({"model": "echo", "messages": [{"role": "user", "content": "hi"}]})
KINDS = pytest.mark.parametrize("kind", [AiohttpTransport, HttpxTransport], ids=["aiohttp", "httpx"])
Kind = type[AiohttpTransport | HttpxTransport]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, as one file."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def fake(certificate: Path) -> AsyncIterator[tuple[FakeServer, int]]:
    server, port = await serve(tls=server_context(certificate))
    yield server, port
    await server.aclose()


def ask(port: int, host: str = "127.0.0.1") -> Request:
    return Request(f"https://{host}:{port}/v1/chat/completions", {"content-type": "application/json"}, BODY)


@KINDS
async def test_a_trusted_upstream_answers_on_one_connection(
    kind: Kind, certificate: Path, fake: tuple[FakeServer, int]
) -> None:
    transport: Transport = kind(tls_context(str(certificate)), agent="t")
    for _ in range(5):
        assert (await transport.send(ask(fake[1]))).status == 200
    assert fake[0].stats.connections == 1
    await transport.aclose()


@KINDS
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_unknown_or_wrong_certificate_is_a_tls_fault(
    kind: Kind, certificate: Path, fake: tuple[FakeServer, int], host: str
) -> None:
    """Not signed by anyone we trust, or signed for another name: nothing is sent."""
    transport: Transport = kind(tls_context(str(certificate) if host == "localhost" else None), agent="t")
    with pytest.raises(TransportError) as caught:
        await transport.send(ask(fake[1], host))
    assert caught.value.fault == "tls"
    assert fake[0].stats.requests == 0
    await transport.aclose()


@KINDS
async def test_verification_can_be_switched_off(kind: Kind, fake: tuple[FakeServer, int]) -> None:
    transport: Transport = kind(tls_context(verify=False), agent="t")
    assert (await transport.send(ask(fake[1]))).status == 200
    await transport.aclose()


@KINDS
async def test_a_proxy_is_tunnelled_through_and_the_tunnel_reused(
    kind: Kind, certificate: Path, fake: tuple[FakeServer, int]
) -> None:
    """The proxy sees CONNECT with its own login, and never the request."""
    heads: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", fake[1])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    where = f"http://me:pass@127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    transport: Transport = kind(tls_context(str(certificate)), agent="t", proxies={"https": where})
    for _ in range(3):
        assert (await transport.send(ask(fake[1]))).status == 200
    assert len(heads) == 1
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{fake[1]} HTTP/1.1\r\n".encode())
    assert b"basic bwu6cgfzcw==" in heads[0].lower()
    assert b"content-type" not in heads[0].lower()
    await transport.aclose()
    proxy.close()


@KINDS
async def test_a_proxy_that_refuses_is_a_connect_fault(kind: Kind, fake: tuple[FakeServer, int]) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    where = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    transport: Transport = kind(tls_context(), agent="t", proxies={"https": where})
    with pytest.raises(TransportError) as caught:
        await transport.send(ask(fake[1]))
    assert caught.value.fault == "connect"
    await transport.aclose()
    proxy.close()
