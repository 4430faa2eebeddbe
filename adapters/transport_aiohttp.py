"""The hot path's transport: aiohttp's connector and parser, driven without its session.

A `ClientSession` spends most of a small request's CPU on what a gateway never uses (cookies, redirects, middlewares,
its own copies of headers and URLs, a task that writes the body). We keep what is hard, the pool, DNS, TLS, proxies
(`TCPConnector`) and the parser (`ResponseHandler`), and write the request's bytes ourselves. `bench/transport.py` measures it.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace

from adapters.aiohttp_pool import NEW, Connector, Target, UpstreamProtocol, connect_fault, drop, text_of_error
from adapters.network import Decoder, decoder_for, proxy_for
from adapters.transport import Answer, Fault, Opened, Request, TransportError

_BUFFER = 64 * 1024
"""A body nobody reads is taken up to twice this, then the upstream has to wait."""
_LINE = 64 * 1024
_HEADERS = 256
_JOIN = 64 * 1024
"""Up to this size head and body go out as one copied buffer, above it as two pieces of one write."""
_TARGETS = 4096
_PATIENCE = 256
_SWITCHING = 101
_FINAL = 200


class AiohttpTransport:
    """A `Transport` over aiohttp.

    `tls` comes from `network.tls_context`; `limit` caps the connections in use (0: no cap); `keep_alive` is how many
    seconds an idle one is kept; `proxies` is what `network.proxies_in` returns. Header names of requests are lower
    case and name neither host, connection nor the body's length. Belongs to the loop that first uses it.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        agent: str,
        limit: int = 0,
        keep_alive: float = 30.0,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._tls = tls
        self._limit = limit
        self._keep_alive = keep_alive
        self._proxies = proxies or {}
        self._ours = {"user-agent": agent, "accept-encoding": "identity"}
        self._connector: Connector | None = None
        self._targets: dict[str, Target] = {}
        self._patience: dict[float, aiohttp.ClientTimeout] = {}

    async def send(self, request: Request) -> Answer:
        """Send and read the whole answer. Raises TransportError."""
        opened = await self._open(request)
        parts: list[bytes] = []
        size = 0
        while data := await opened.read():
            size += len(data)
            if size > request.limit:
                opened.close()
                raise TransportError("too_large", f"more than {request.limit} bytes")
            parts.append(data)
        return Answer(opened.status, opened.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    async def stream(self, request: Request) -> Opened:
        """Send and return when the head of the answer is there, which `total` bounds. Raises TransportError."""
        opened = await self._open(request)
        opened.disarm()
        return opened

    async def aclose(self) -> None:
        """Close every connection."""
        if self._connector is not None:
            connector, self._connector = self._connector, None
            connector.give_up()
            await connector.close(abort_ssl=True)

    async def _open(self, request: Request) -> "_Opened":
        target = self._targets.get(request.url) or self._target(request.url)
        head = self._head(request, target)
        deadline = None if request.total is None else asyncio.get_running_loop().time() + request.total
        connection = await self._connect(target, request, deadline, [])
        try:
            return await _exchange(connection, head, request, deadline)
        except _StaleError:
            connection = await self._connect(target, request, deadline, NEW)
            return await _exchange(connection, head, request, deadline)

    def _target(self, url: str) -> Target:
        if len(self._targets) >= _TARGETS:
            self._targets.clear()
        try:
            target = self._targets[url] = Target(url, proxy_for(url, self._proxies))
        except ValueError as error:
            raise TransportError("protocol", f"not a URL: {error}") from None
        return target

    def _head(self, request: Request, target: Target) -> bytes:
        headers = {**self._ours, **request.headers}
        lines = "\r\n".join([f"{name}: {value}" for name, value in headers.items()])
        if lines.count("\r") != len(headers) - 1 or lines.count("\n") != len(headers) - 1 or "\0" in lines:
            raise TransportError("protocol", "a request header holds a line break")
        length = f"\r\ncontent-length: {len(request.body)}" if request.body or request.method == "POST" else ""
        try:
            return f"{request.method}{target.rest}{lines}{length}\r\n\r\n".encode("latin-1")
        except UnicodeEncodeError:
            raise TransportError("protocol", "a request header is not latin-1") from None

    async def _connect(
        self, target: Target, request: Request, deadline: float | None, traces: list[Trace]
    ) -> Connection:
        connector = self._connector
        if connector is None:
            connector = self._connector = Connector(self._tls, self._limit, self._keep_alive)
        seconds = request.connect
        if request.total is not None and deadline is not None and request.total < seconds:
            seconds = max(deadline - asyncio.get_running_loop().time(), 0.001)
        patience = self._patience.get(seconds) or self._patient(seconds)
        try:
            return await connector.connect(target.card, traces, patience)
        except TimeoutError:
            fault: Fault = "connect_timeout" if seconds == request.connect else "timeout"
            raise TransportError(fault, f"no connection within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(connect_fault(error), text_of_error(error)) from error

    def _patient(self, seconds: float) -> aiohttp.ClientTimeout:
        if len(self._patience) >= _PATIENCE:
            self._patience.clear()
        patience = self._patience[seconds] = aiohttp.ClientTimeout(connect=seconds)
        return patience


class _StaleError(Exception):
    """A reused connection died and nothing had come back on it."""


async def _exchange(connection: Connection, head: bytes, request: Request, deadline: float | None) -> "_Opened":
    """Write the request and wait for the answer's head. Raises TransportError or _StaleError."""
    protocol = connection.protocol
    if not isinstance(protocol, UpstreamProtocol) or protocol.transport is None:
        drop(connection)
        raise TransportError("reset", "closed while it was handed out")
    reused = protocol.served > 0
    protocol.served += 1
    protocol.set_response_params(
        read_until_eof=True,
        skip_payload=request.method == "HEAD",
        auto_decompress=False,
        read_bufsize=_BUFFER,
        max_line_size=_LINE,
        max_field_size=_LINE,
        max_headers=_HEADERS,
    )
    if deadline is not None:
        protocol.expiry = asyncio.get_running_loop().call_at(deadline, protocol.expire)
    if len(request.body) <= _JOIN:
        protocol.transport.write(head + request.body)
    else:
        protocol.transport.writelines((head, request.body))
    try:
        message, payload = await protocol.read()
        while message.code < _FINAL and message.code != _SWITCHING:
            message, payload = await protocol.read()
        return _Opened(connection, protocol, message, payload)
    except HttpProcessingError as error:
        drop(connection)
        raise TransportError("protocol", text_of_error(error)) from error
    except aiohttp.SocketTimeoutError:
        drop(connection)
        raise TransportError("timeout", f"no answer within {request.total} s") from None
    except (aiohttp.ClientError, OSError) as error:
        drop(connection)
        if reused and not protocol.heard:
            raise _StaleError from error
        raise TransportError("reset", text_of_error(error)) from error
    except BaseException:
        drop(connection)
        raise


class _Opened:
    """An answer of which the head is there; see `Opened`."""

    __slots__ = ("_connection", "_decoder", "_headers", "_payload", "_pieces", "_protocol", "_until_eof", "status")

    def __init__(
        self, connection: Connection, protocol: UpstreamProtocol, message: RawResponseMessage, payload: StreamReader
    ) -> None:
        self.status = message.code
        self._connection: Connection | None = connection
        self._protocol = protocol
        self._payload = payload
        headers = {name.lower(): value for name, value in message.headers.items()}
        self._headers = headers
        self._until_eof = not message.chunked and "content-length" not in headers
        self._decoder: Decoder | None = None
        self._pieces: deque[bytes] = deque()
        if message.code == _SWITCHING:
            raise TransportError("protocol", "the upstream wants another protocol")
        if "content-encoding" in headers:
            self._decoder = decoder_for(headers["content-encoding"])
            if self._decoder is not None:
                del headers["content-encoding"]
                headers.pop("content-length", None)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def read(self) -> bytes:
        if self._decoder is None:
            return await self._raw()
        while not self._pieces:
            data = await self._raw()
            try:
                if not data:
                    self._decoder.end()
                    return b""
                self._pieces.extend(self._decoder.decode(data))
            except TransportError:
                self.close()
                raise
        return self._pieces.popleft()

    async def _raw(self) -> bytes:
        if self._connection is None and self._payload.at_eof():
            return b""
        try:
            data = await self._payload.readany()
        except aiohttp.SocketTimeoutError:
            self.close()
            raise TransportError("timeout", "no whole answer in time") from None
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            broken = isinstance(self._protocol.exception(), HttpProcessingError)
            self.close()
            raise TransportError("protocol" if broken else "reset", text_of_error(error)) from error
        except BaseException:
            self.close()
            raise
        if self._payload.at_eof():
            self._end()
        return data

    def _end(self) -> None:
        """Give the connection back: the body is whole. Raises TransportError when only a reset ended it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        protocol = self._protocol
        self.disarm()
        error = protocol.exception()
        if self._until_eof and error is not None and not isinstance(error, aiohttp.ServerDisconnectedError):
            drop(connection)
            raise TransportError("reset", text_of_error(error))
        if protocol.transport is None or protocol.transport.get_write_buffer_size():
            drop(connection)
            return
        protocol.heard = False
        connection.release()

    def disarm(self) -> None:
        """Let the total time no longer bound this answer."""
        if self._protocol.expiry is not None:
            self._protocol.expiry.cancel()
            self._protocol.expiry = None

    def close(self) -> None:
        if self._connection is None:
            return
        if self._payload.is_eof() and not self._until_eof and self._payload.exception() is None:
            self._end()
            return
        connection, self._connection = self._connection, None
        self._payload.set_exception(aiohttp.ClientConnectionError("closed by us"))
        drop(connection)
