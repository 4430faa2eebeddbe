"""The second transport: httpx. Slower than aiohttp, and an independent check that the seam is one."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

from adapters.network import decoder_for, proxy_for
from adapters.transport import Answer, Fault, Opened, Request, TransportError

_IDLE = 20
"""Idle connections kept: httpcore looks at every one for each request, so many of them cost more than they save."""
_CUT = ("peer closed connection", "Server disconnected")


class _Exchange:
    """What the sockets tell about the request that uses them: its connection is new, bytes came back, TLS failed."""

    fresh = False
    heard = False
    tls_failed = False


_EXCHANGE: ContextVar[_Exchange] = ContextVar("exchange")


class _Stream(httpcore.AsyncNetworkStream):
    """A socket that tells the running exchange what happens to it."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's signature
        data = await self._inner.read(max_bytes, timeout)
        if data and (exchange := _EXCHANGE.get(None)) is not None:
            exchange.heard = True
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's signature
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except httpcore.ConnectError:
            _EXCHANGE.get().tls_failed = True
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.AsyncNetworkBackend):
    """httpcore's sockets, wrapped."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        _EXCHANGE.get().fresh = True
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Pool(httpx.AsyncHTTPTransport):
    """httpx's transport over our sockets."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None, limit: int, keep_alive: float, *, reuse: bool) -> None:
        via = httpx.Proxy(proxy) if proxy else None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            proxy=httpcore.Proxy(str(via.url), auth=via.raw_auth, ssl_context=via.ssl_context) if via else None,
            max_connections=limit or None,
            max_keepalive_connections=_IDLE if reuse else 0,
            keepalive_expiry=keep_alive,
            network_backend=_Backend(),
        )


class HttpxTransport:
    """A `Transport` over httpx; its parameters are those of `AiohttpTransport`."""

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
        self._pools: dict[tuple[str | None, bool], _Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: Request) -> Answer:
        """Send and read the whole answer. Raises TransportError."""
        try:
            async with asyncio.timeout(request.total):
                opened = await self._open(request)
                return Answer(opened.status, opened.headers, await opened.whole(request.limit))
        except TimeoutError:
            raise TransportError("timeout", f"no whole answer within {request.total} s") from None

    async def stream(self, request: Request) -> Opened:
        """Send and return when the head of the answer is there, which `total` bounds. Raises TransportError."""
        try:
            async with asyncio.timeout(request.total):
                return await self._open(request)
        except TimeoutError:
            raise TransportError("timeout", f"no head within {request.total} s") from None

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*self._closing)
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()

    async def _open(self, request: Request) -> "_Opened":
        exchange = _Exchange()
        try:
            return await self._attempt(request, exchange, reuse=True)
        except TransportError as error:
            if error.fault != "reset" or exchange.fresh or exchange.heard:
                raise
        return await self._attempt(request, _Exchange(), reuse=False)

    async def _attempt(self, request: Request, exchange: _Exchange, *, reuse: bool) -> "_Opened":
        token = _EXCHANGE.set(exchange)
        try:
            sent = self._prepared(request)
            pool = self._pool(proxy_for(request.url, self._proxies), reuse=reuse)
            return _Opened(await pool.handle_async_request(sent), self._closing)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise TransportError(_fault(error, exchange), f"{type(error).__name__}: {error}") from error
        finally:
            _EXCHANGE.reset(token)

    def _pool(self, proxy: str | None, *, reuse: bool) -> _Pool:
        pool = self._pools.get((proxy, reuse))
        if pool is None:
            pool = self._pools[proxy, reuse] = _Pool(self._tls, proxy, self._limit, self._keep_alive, reuse=reuse)
        return pool

    def _prepared(self, request: Request) -> httpx.Request:
        headers = {**self._ours, **request.headers}
        seconds = request.connect
        url = httpx.URL(request.url)
        if not url.host:
            raise httpx.InvalidURL("no host")
        return httpx.Request(
            request.method,
            url,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            content=request.body,
            extensions={"timeout": {"connect": seconds, "pool": seconds, "read": None, "write": None}},
        )


class _Opened:
    """An answer of which the head is there; see `Opened`."""

    def __init__(self, response: httpx.Response, closing: set[asyncio.Task[None]]) -> None:
        self.status = response.status_code
        self._response = response
        self._closing = closing
        self._parts: AsyncIterator[bytes] = aiter(_raw(response))
        self._pieces: deque[bytes] = deque()
        self._done = False
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            self._decoder = decoder_for(headers.get("content-encoding"))
        except TransportError:
            self.close()
            raise
        if self._decoder is not None:
            del headers["content-encoding"]
            headers.pop("content-length", None)
        self._headers = headers

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def whole(self, limit: int) -> bytes:
        """Everything that is left. Raises TransportError, also when it is more than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit:
                self.close()
                raise TransportError("too_large", f"more than {limit} bytes")
            parts.append(data)
        return b"".join(parts)

    async def read(self) -> bytes:
        try:
            while not self._pieces and not self._done:
                data = await anext(self._parts, b"")
                if not data:
                    self._done = True
                    await self._response.aclose()
                if self._decoder is None:
                    return data
                if data:
                    self._pieces.extend(self._decoder.decode(data))
                else:
                    self._decoder.end()
        except httpx.HTTPError as error:
            self.close()
            raise TransportError(_fault(error, _Exchange()), f"{type(error).__name__}: {error}") from error
        except BaseException:
            self.close()
            raise
        return self._pieces.popleft() if self._pieces else b""

    def close(self) -> None:
        if self._done:
            return
        self._done = True
        task = asyncio.ensure_future(self._response.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _raw(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it came: httpx would decode it."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TransportError("protocol", "the answer has no stream")
    return response.stream


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None


def _fault(error: Exception, exchange: _Exchange) -> Fault:
    if isinstance(error, httpx.TimeoutException):
        return "connect_timeout"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return "tls" if exchange.tls_failed else "dns" if _has_cause(error, socket.gaierror) else "connect"
    if isinstance(error, httpx.NetworkError):
        return "reset"
    return "reset" if isinstance(error, httpx.RemoteProtocolError) and str(error).startswith(_CUT) else "protocol"
