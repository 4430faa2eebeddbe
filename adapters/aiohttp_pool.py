"""aiohttp's connector as `transport_aiohttp` drives it: the pool, with what we must know about a connection, and where to go."""

import asyncio
import base64
import functools
import ssl
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from adapters.transport import Fault

NEW: list[Trace] = []
"""Passed as `traces` (which the connector hands down untouched): this request takes no pooled connection."""
_RESOLVED = 30
"""Seconds a name's addresses are kept."""


class UpstreamProtocol(ResponseHandler):
    """aiohttp's protocol that also knows whether it is reused and whether anything came back."""

    served = 0
    heard = False
    expiry: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """Fail whoever waits for the answer: its total time is over."""
        self.fail(aiohttp.SocketTimeoutError("total"))

    def fail(self, error: aiohttp.ClientError) -> None:
        """Wake whoever waits for this answer with an error."""
        self.set_exception(error)
        if self._payload is not None:
            self._payload.set_exception(error)

    def data_received(self, data: bytes) -> None:
        """Remember that the upstream spoke."""
        self.heard = True
        ResponseHandler.data_received(self, data)

    def is_connected(self) -> bool:
        """Whether the pool may hand it out: an idle connection that said anything would answer the wrong request."""
        return ResponseHandler.is_connected(self) and not self.heard


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool with our protocol, and with a way past the pooled connections."""

    def __init__(self, tls: ssl.SSLContext, limit: int, keep_alive: float) -> None:
        super().__init__(ssl=tls, limit=limit, keepalive_timeout=keep_alive, ttl_dns_cache=_RESOLVED)
        self._factory: functools.partial[Any] = functools.partial(UpstreamProtocol, loop=self._loop)

    def give_up(self) -> None:
        """Fail every exchange that is under way: closing alone would leave its reader waiting."""
        for protocol in list(self._acquired):
            if isinstance(protocol, UpstreamProtocol):
                protocol.fail(aiohttp.ClientConnectionError("the transport is closed"))

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        return None if traces is NEW else await super()._get(key, traces)


class Target:
    """All that can be known about a URL before a request comes: resolved once."""

    __slots__ = ("card", "rest")

    def __init__(self, url: str, proxy: str | None) -> None:
        parsed = URL(url)
        if parsed.scheme not in {"http", "https"}:
            raise ValueError(f"scheme {parsed.scheme!r}")
        self.card = aiohttp.ClientRequest("POST", parsed, proxy=URL(proxy) if proxy else None)
        """Only tells the connector where to go."""
        plain = self.card.proxy is not None and not self.card.is_ssl()
        self.rest = f" {parsed if plain else parsed.raw_path_qs} HTTP/1.1\r\n"
        self.rest += f"host: {self.card.headers['Host']}\r\n"
        if plain and self.card.proxy is not None and self.card.proxy.user is not None:
            login = f"{self.card.proxy.user}:{self.card.proxy.password or ''}".encode()
            self.rest += f"proxy-authorization: Basic {base64.b64encode(login).decode()}\r\n"


def drop(connection: Connection) -> None:
    """Close at once: whatever is still to be written or shaken hands over is given up."""
    protocol = connection.protocol
    if protocol is not None:
        if isinstance(protocol, UpstreamProtocol) and protocol.expiry is not None:
            protocol.expiry.cancel()
        protocol.abort()
    connection.close()


def connect_fault(error: BaseException) -> Fault:
    """How connecting failed. Who hangs up while hands are shaken does not speak TLS with us."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)):
        return "tls"
    if isinstance(error, aiohttp.InvalidURL):
        return "protocol"
    if isinstance(error, aiohttp.ClientConnectorError) and error._conn_key.is_ssl:  # noqa: SLF001  # aiohttp names it nowhere else
        hung_up = isinstance(error.os_error, ConnectionResetError | ConnectionAbortedError)
        return "tls" if hung_up else "connect"
    return "connect"


def text_of_error(error: BaseException) -> str:
    """For the log."""
    return f"{type(error).__name__}: {error}"
