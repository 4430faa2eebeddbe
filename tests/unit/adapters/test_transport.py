"""Both transports keep the promises of `adapters/transport.py`, on real sockets."""

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec
import pytest
import zstandard

from adapters.fake_server import FakeServer, serve
from adapters.network import tls_context
from adapters.transport import Opened, Request, Transport, TransportError
from adapters.transport_aiohttp import AiohttpTransport
from adapters.transport_httpx import HttpxTransport

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Make(Protocol):
    def __call__(self, *, proxies: dict[str, str] | None = None, limit: int = 0) -> Transport: ...


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    return tls_context()


@pytest.fixture(params=[AiohttpTransport, HttpxTransport], ids=["aiohttp", "httpx"])
async def make(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> AsyncIterator[Make]:
    made: list[Transport] = []

    def build(*, proxies: dict[str, str] | None = None, limit: int = 0) -> Transport:
        transport: Transport = request.param(tls, agent="lockgate/test", proxies=proxies, limit=limit)
        made.append(transport)
        return transport

    yield build
    for transport in made:
        await transport.aclose()


@pytest.fixture
def transport(make: Make) -> Transport:
    return make()


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    server, port = await serve()
    server.url = f"http://127.0.0.1:{port}/v1/chat/completions"  # type: ignore[attr-defined]
    yield server
    await server.aclose()


class Peer:
    """A server that plays one script a connection, in order; it counts connections and sees their ends."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self._scripts = iter(scripts)
        self.connections = 0
        self.ended = asyncio.Event()
        self.url = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await next(self._scripts)(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.ended.set()
        finally:
            writer.close()


@asynccontextmanager
async def peer(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    served = Peer(scripts)
    server = await asyncio.start_server(served.accept, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    served.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
    try:
        yield served
    finally:
        server.close()  # and no waiting: from Python 3.12 that would last until every connection is closed


async def request_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return head, await reader.readexactly(int(length.partition(b":")[2]))


def answers(*bodies: bytes, then: bytes = b"") -> Script:
    """Answer so many requests on one connection, send `then`, and wait for the other side to close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in bodies:
            await request_of(reader)
            writer.write(body)
        writer.write(then)
        if not await reader.read(1):
            raise ConnectionError

    return script


def ask(url: str, body: bytes = b"{}", **members: float) -> Request:
    return Request(url, {"content-type": "application/json"}, body, **members)  # type: ignore[arg-type]


async def whole(transport: Transport, request: Request) -> bytes:
    opened = await transport.stream(request)
    parts: list[bytes] = []
    await drain(opened, parts)
    return b"".join(parts)


async def drain(opened: Opened, into: list[bytes]) -> None:
    while data := await opened.read():
        into.append(data)


async def stands_still(what: Callable[[], int]) -> None:
    """Wait until a count has not moved for a tenth of a second."""
    before = -1
    while before != what():  # the end of movement is no event
        before = what()
        await asyncio.sleep(0.1)


async def until(what: Callable[[], bool], within: float = 2.0) -> None:
    async with asyncio.timeout(within):
        while not what():  # noqa: ASYNC110  # the far side of a socket has no event to wait for
            await asyncio.sleep(0.001)


def chat(fake: FakeServer, model: str, *, stream: bool = False, **members: float) -> Request:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "a b c d e f"}]}
    return ask(fake.url, msgspec.json.encode(body), **members)  # type: ignore[attr-defined]


async def test_the_request_reaches_the_upstream_as_it_was_given(transport: Transport, fake: FakeServer) -> None:
    """Method, path with its query, headers and body bytes arrive; ours are the agent and `identity`; nothing else is added."""
    body = b'{"model":"echo","messages":[{"role":"user","content":"\xc3\xa9 \\u00e9"}]}'
    url = fake.url + "?api-version=2024-06-01&x=%20"  # type: ignore[attr-defined]
    answer = await transport.send(Request(url, {"authorization": "Bearer k", "x-odd": "caf\xe9"}, body))
    last = fake.stats.last
    assert answer.status == 200
    assert last is not None
    assert (last.method, last.target, last.body) == ("POST", "/v1/chat/completions?api-version=2024-06-01&x=%20", body)
    assert last.headers == {
        "host": last.headers["host"],
        "user-agent": "lockgate/test",
        "accept-encoding": "identity",
        "authorization": "Bearer k",
        "x-odd": "caf\xe9",
        "content-length": str(len(body)),
    }


async def test_answer_headers_are_in_lower_case(transport: Transport) -> None:
    async with peer(answers(b"HTTP/1.1 200 OK\r\nX-Request-ID: Ab\r\nContent-Length: 2\r\n\r\nok")) as upstream:
        answer = await transport.send(ask(upstream.url))
    assert answer.headers["x-request-id"] == "Ab"


async def test_get_requests_have_no_body(transport: Transport) -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await request_of(reader))[0])
        writer.write(OK)

    async with peer(script) as upstream:
        answer = await transport.send(Request(upstream.url, {}, method="GET"))
    assert answer.body == b"ok"
    assert heads[0].startswith(b"GET /v1/x HTTP/1.1\r\n")
    assert b"content-length" not in heads[0].lower()


async def test_a_hundred_calls_use_one_connection(transport: Transport, fake: FakeServer) -> None:
    """After whole answers, errors and streams alike the connection is kept."""
    for _ in range(20):
        await transport.send(chat(fake, "echo"))
        await transport.send(chat(fake, "echo+status=503"))
        await whole(transport, chat(fake, "echo", stream=True))
        opened = await transport.stream(chat(fake, "echo", stream=True))
        while b"[DONE]" not in await opened.read():
            pass
        assert await opened.read() == b""
        opened.close()
        await transport.send(chat(fake, "echo", total=5.0))
    assert fake.stats.connections == 1


async def test_the_first_bytes_come_before_the_upstream_sends_more(transport: Transport) -> None:
    """A stream is never buffered."""
    more = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await more.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")

    async with peer(script) as upstream:
        opened = await transport.stream(ask(upstream.url))
        assert await opened.read() == b"first"
        more.set()
        assert await opened.read() == b"last"
        assert await opened.read() == b""


async def test_redirects_are_not_followed(transport: Transport) -> None:
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with peer(answers(moved)) as upstream:
        answer = await transport.send(ask(upstream.url))
    assert (answer.status, answer.headers["location"]) == (307, "/elsewhere")


async def test_cookies_are_not_kept(transport: Transport) -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append((await request_of(reader))[0])
            writer.write(b"HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-length: 2\r\n\r\nok")

    async with peer(script) as upstream:
        for _ in range(2):
            await transport.send(ask(upstream.url))
    assert b"cookie" not in heads[1].lower()


async def test_interim_answers_are_passed_over(transport: Transport) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with peer(answers(hints + OK)) as upstream:
        assert (await transport.send(ask(upstream.url))).body == b"ok"


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello " * 1000)),
        ("gzip", gzip.compress(b"hello " * 500) + gzip.compress(b"hello " * 500)),
        ("deflate", zlib.compress(b"hello " * 1000)),
        ("deflate", deflate_raw(b"hello " * 1000)),
        ("zstd", zstandard.compress(b"hello " * 1000)),
    ],
    ids=["gzip", "gzip-members", "deflate", "deflate-raw", "zstd"],
)
async def test_a_compressed_body_is_decoded(transport: Transport, encoding: str, packed: bytes) -> None:
    """We ask for none, and some upstreams compress all the same; the headers then speak of the decoded body."""
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    async with peer(answers(head + packed, head + packed)) as upstream:
        answer = await transport.send(ask(upstream.url))
        assert await whole(transport, ask(upstream.url)) == b"hello " * 1000
    assert answer.body == b"hello " * 1000
    assert "content-encoding" not in answer.headers
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("packed", [gzip.compress(b"x" * 900)[:-9], b"no gzip at all"], ids=["short", "broken"])
async def test_a_broken_compressed_body_is_no_answer(transport: Transport, packed: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    async with peer(answers(head + packed)) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url))
    assert caught.value.fault == "protocol"


async def test_an_encoding_nobody_asked_for_is_refused(transport: Transport) -> None:
    async with peer(answers(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nok")) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url))
    assert caught.value.fault == "protocol"


@pytest.mark.parametrize(
    "packed", [gzip.compress(bytes(64 * 2**20)), zstandard.compress(bytes(64 * 2**20))], ids=["gzip", "zstd"]
)
async def test_a_body_over_the_limit_is_given_up_decoded(transport: Transport, packed: bytes) -> None:
    """The limit counts decoded bytes, and the connection is closed."""
    encoding = "zstd" if packed.startswith(b"\x28\xb5") else "gzip"
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(packed) + 1}\r\n\r\n".encode()
    async with peer(answers(head + packed)) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url, limit=2**20))
        await asyncio.wait_for(upstream.ended.wait(), 5)
    assert caught.value.fault == "too_large"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("reset", "reset"), ("fin", "reset"), ("garbage", "protocol"), ("reset-body", "reset"), ("fin-body", "reset"),
        ("cut", "reset"), ("cut-reset", "reset"), ("short", "reset"), ("stall", "timeout"), ("stall-body", "timeout"),
        ("stall-mid", "timeout"),
    ],
)  # fmt: skip
async def test_a_broken_whole_answer_is_never_an_answer(
    transport: Transport, fake: FakeServer, fault: str, expected: str
) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(chat(fake, f"echo+fault={fault}", total=0.5))
    assert caught.value.fault == expected


@pytest.mark.parametrize("fault", ["reset-body", "fin-body", "cut", "cut-reset"])
async def test_a_cut_stream_never_ends_cleanly(transport: Transport, fake: FakeServer, fault: str) -> None:
    """What came before the cut is read, then TransportError."""
    opened = await transport.stream(chat(fake, f"echo+fault={fault}", stream=True))
    seen: list[bytes] = []
    with pytest.raises(TransportError) as caught:
        await drain(opened, seen)
    assert caught.value.fault == "reset"
    assert (b'"content":"a' in b"".join(seen)) == fault.startswith("cut")


async def test_a_broken_chunk_is_a_protocol_error(transport: Transport) -> None:
    bad = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"
    async with peer(answers(bad)) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url))
    assert caught.value.fault in {"protocol", "reset"}


async def test_a_body_that_ends_with_the_connection_is_whole(transport: Transport) -> None:
    """HTTP/1.0's framing: FIN is the end."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it")

    async with peer(script) as upstream:
        assert (await transport.send(ask(upstream.url))).body == b"all of it"


async def test_a_reset_never_ends_a_body_cleanly(transport: Transport) -> None:
    """Even where the end of the connection is the end of the body, RST is not it."""
    read = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf")
        await read.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        writer.transport.abort()

    async with peer(script) as upstream:
        opened = await transport.stream(ask(upstream.url))
        assert await opened.read() == b"half"
        read.set()
        with pytest.raises(TransportError) as caught:
            await opened.read()
    assert caught.value.fault == "reset"


async def test_refused_connections_are_connect_faults(transport: Transport) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(f"http://127.0.0.1:{free.getsockname()[1]}/"))
    assert caught.value.fault == "connect"


async def test_unknown_hosts_are_dns_faults(transport: Transport) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(ask("http://no-such-host.invalid/"))
    assert caught.value.fault == "dns"


@pytest.mark.parametrize("url", ["http://", "ftp://127.0.0.1/", "/relative", "http://127.0.0.1:port/"])
async def test_what_is_no_url_is_a_protocol_fault(transport: Transport, url: str) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(ask(url))
    assert caught.value.fault == "protocol"


async def test_plain_http_behind_https_is_a_tls_fault(transport: Transport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with peer(script) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url.replace("http:", "https:")))
    assert caught.value.fault == "tls"


async def test_hanging_up_on_the_handshake_is_a_tls_fault(transport: Transport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with peer(script) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url.replace("http:", "https:")))
    assert caught.value.fault == "tls"


async def test_a_silent_handshake_is_a_connect_timeout(transport: Transport) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(script) as upstream:
        with pytest.raises(TransportError) as caught:
            await transport.send(ask(upstream.url.replace("http:", "https:"), connect=0.2))
    assert caught.value.fault == "connect_timeout"


@pytest.mark.parametrize("value", ["a\r\nx-injected: 1", "a\nb", "a\0b", "\u2028"])
async def test_a_header_can_never_start_another(transport: Transport, fake: FakeServer, value: str) -> None:
    with pytest.raises(TransportError) as caught:
        await transport.send(Request(fake.url, {"x-bad": value}, b"{}"))  # type: ignore[attr-defined]
    assert caught.value.fault == "protocol"
    assert fake.stats.requests == 0


async def test_a_stale_connection_is_replaced_once_and_invisibly(transport: Transport) -> None:
    """The upstream closes the kept connection just as the next request arrives: sent again on a new one."""

    async def closes_on_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await reader.read(1)
        writer.transport.abort()

    async with peer(closes_on_the_second, answers(OK, OK)) as upstream:
        await transport.send(ask(upstream.url))
        assert (await transport.send(ask(upstream.url))).body == b"ok"
        assert upstream.connections == 2


async def test_a_second_stale_connection_is_not_tried(transport: Transport) -> None:
    """With several kept connections that all died unnoticed, the retry goes to a new one: nothing is sent three times."""
    seen: list[int] = []
    both = asyncio.Barrier(2)

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await both.wait()
        writer.write(OK)
        await reader.read(1)
        seen.append(1)
        writer.transport.abort()

    async with peer(dies, dies, answers(OK)) as upstream:
        await asyncio.gather(transport.send(ask(upstream.url)), transport.send(ask(upstream.url)))
        assert (await transport.send(ask(upstream.url))).body == b"ok"
        assert (len(seen), upstream.connections) == (1, 3)


async def test_a_fresh_connection_that_dies_is_not_retried(transport: Transport, fake: FakeServer) -> None:
    with pytest.raises(TransportError):
        await transport.send(chat(fake, "echo+fault=fin"))
    assert fake.stats.requests == 1


async def test_a_reused_connection_that_said_something_is_not_retried(transport: Transport) -> None:
    """One byte back is enough: the upstream may be at work."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await request_of(reader)
        writer.write(b"HTTP/1.1 2")
        await writer.drain()

    async with peer(script) as upstream:
        await transport.send(ask(upstream.url))
        with pytest.raises(TransportError):
            await transport.send(ask(upstream.url))
        assert upstream.connections == 1


async def test_an_unasked_answer_never_answers_the_next_request(transport: Transport) -> None:
    """A server that says 408 on an idle connection must not have it taken for the answer of whoever comes next."""
    said = asyncio.Event()

    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(OK)
        await said.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        said.clear()
        await reader.read()

    async with peer(talks, answers(OK)) as upstream:
        await transport.send(ask(upstream.url))
        said.set()
        await until(lambda: not said.is_set())
        await asyncio.sleep(0.05)
        assert (await transport.send(ask(upstream.url))).status == 200
        assert upstream.connections == 2


@pytest.mark.parametrize("model", ["echo+fault=stall", "echo+fault=stall-body", "echo+fault=stall-mid"])
async def test_cancelling_closes_the_upstream_at_once(transport: Transport, fake: FakeServer, model: str) -> None:
    """Within 100 ms, in every phase of a whole answer."""
    task = asyncio.ensure_future(transport.send(chat(fake, model)))
    await until(lambda: fake.stats.active == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: fake.stats.active == 0, within=0.1)
    assert fake.stats.aborted_count == 1


async def test_cancelling_a_read_closes_the_upstream_at_once(transport: Transport, fake: FakeServer) -> None:
    opened = await transport.stream(chat(fake, "echo+fault=stall-mid", stream=True))
    while b'"content":"c' not in await opened.read():
        pass
    task = asyncio.ensure_future(opened.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: fake.stats.open == 0, within=0.1)


async def test_closing_gives_the_upstream_up_at_once(transport: Transport, fake: FakeServer) -> None:
    opened = await transport.stream(chat(fake, "long=1000+every=5ms", stream=True))
    await opened.read()
    opened.close()
    opened.close()
    await until(lambda: fake.stats.open == 0, within=0.1)
    assert fake.stats.aborted_count == 1


async def test_closing_wakes_whoever_reads(transport: Transport, fake: FakeServer) -> None:
    opened = await transport.stream(chat(fake, "echo+fault=stall-body", stream=True))
    reading = asyncio.ensure_future(opened.read())
    await asyncio.sleep(0.02)
    opened.close()
    done, _ = await asyncio.wait([reading], timeout=1)
    assert done
    assert isinstance(reading.exception(), TransportError)


async def test_closing_the_transport_ends_what_is_under_way(transport: Transport, fake: FakeServer) -> None:
    """Neither a reader nor one who waits for a head is left hanging."""
    opened = await transport.stream(chat(fake, "echo+fault=stall-body", stream=True))
    reading = asyncio.ensure_future(opened.read())
    waiting = asyncio.ensure_future(transport.send(chat(fake, "echo+fault=stall")))
    await until(lambda: fake.stats.active == 2)
    await transport.aclose()
    done, _ = await asyncio.wait([reading, waiting], timeout=2)
    assert len(done) == 2
    assert all(isinstance(task.exception(), TransportError) for task in done)
    await until(lambda: fake.stats.open == 0)


async def test_cancelling_while_a_large_body_is_sent_does_not_linger(transport: Transport) -> None:
    """The upstream reads nothing: what is still to be sent is given up."""
    began, gone = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        began.set()
        await gone.wait()
        while await reader.read(2**20):
            pass
        raise ConnectionError

    async with peer(script) as upstream:
        task = asyncio.ensure_future(transport.send(ask(upstream.url, bytes(64 * 2**20))))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone.set()
        await asyncio.wait_for(upstream.ended.wait(), 1)


async def test_a_large_body_arrives_whole(transport: Transport, fake: FakeServer) -> None:
    body = msgspec.json.encode({"model": "echo", "messages": [{"role": "user", "content": "x" * 20_000_000}]})
    answer = await transport.send(ask(fake.url, body))  # type: ignore[attr-defined]
    assert answer.status == 200
    assert fake.stats.last is not None
    assert fake.stats.last.body == body
    assert len(answer.body) > 20_000_000


async def test_a_slow_reader_makes_the_upstream_wait(transport: Transport) -> None:
    """A body nobody reads costs bounded memory."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while sent < 256 * 2**20:
            writer.write(bytes(2**16))
            await writer.drain()
            sent += 2**16

    async with peer(script) as upstream:
        opened = await transport.stream(ask(upstream.url))
        await opened.read()
        await stands_still(lambda: sent)
        opened.close()
    assert sent < 32 * 2**20


async def test_the_limit_of_connections_holds(make: Make, fake: FakeServer) -> None:
    transport = make(limit=2)
    await asyncio.gather(*(transport.send(chat(fake, "echo+delay=20ms")) for _ in range(6)))
    assert fake.stats.most_active == 2
    assert fake.stats.connections == 2


async def test_proxies_are_used_and_exceptions_honoured(make: Make, fake: FakeServer) -> None:
    """A plain URL goes to the proxy in absolute form with its login; a host in `no` goes straight."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append((await request_of(reader))[0])
            writer.write(OK)

    async with peer(script) as proxy:
        where = proxy.url.removesuffix("/v1/x").replace("//", "//me:pass@")
        transport = make(proxies={"http": where, "no": "127.0.0.1,internal.example"})
        assert (await transport.send(ask("http://upstream.example/v1/x?q=1"))).body == b"ok"
        assert (await transport.send(ask("http://upstream.example/v1/x?q=1"))).body == b"ok"
        assert (await transport.send(chat(fake, "echo"))).status == 200
    for head in heads:
        assert head.startswith(b"POST http://upstream.example/v1/x?q=1 HTTP/1.1\r\n")
        assert b"\r\nhost: upstream.example\r\n" in head.lower()
        assert b"basic bwu6cgfzcw==" in head.lower()


async def test_many_calls_at_once_never_mix(transport: Transport, fake: FakeServer) -> None:
    """200 parallel calls, whole and streamed: each answer carries its own nonce and nothing is left open."""

    async def one(index: int) -> None:
        body = {
            "model": "echo+chunks=5",
            "stream": index % 2 == 0,
            "messages": [{"role": "user", "content": f"<{index:08}>"}],
        }
        data = await whole(transport, ask(fake.url, msgspec.json.encode(body)))  # type: ignore[attr-defined]
        if index % 2 == 0:
            chunks = [line[6:] for line in data.split(b"\n\n") if line.startswith(b"data: {")]
            said = "".join(msgspec.json.decode(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks)
        else:
            said = msgspec.json.decode(data)["choices"][0]["message"]["content"]
        assert said == f"<{index:08}>"

    await asyncio.gather(*(one(index) for index in range(200)))
    assert fake.stats.active == 0
    assert fake.stats.aborted_count == 0
