"""The server process: our own start, signals, reload and orderly end around uvicorn's protocol.

SIGTERM or SIGINT: not ready at once, still accepting for `drain_delay`, then running calls may finish for
`drain_timeout`; what is left is cut, streams with an error event. A second signal cuts at once. SIGHUP reloads.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from litestar.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.at_once import CLOSE
from proxy.edge import Edge
from proxy.errors import BadRequest
from proxy.health import Health
from proxy.rounds import Rounds

logger = logging.getLogger("lockgate")

_BACKLOG = 2048
_KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than the clients' pools keep theirs, so that they close first."""
_HEAD_LIMIT = 64 * 1024
"""The most bytes of a request's head."""
_HEAD_TIME = 20.0
"""Seconds for a head to arrive once it has begun."""
_AFTER_CUT = 5.0
"""Seconds for what was cut to be sent."""
_LINGER = 0.3
"""Seconds at the end for a request to come that was on its way when no more were to come."""
GC_THRESHOLD = (10_000, 20, 20)
"""Collections are rarer than by default: a call makes few cycles, and a pause delays every stream."""


class Protocol(HttpToolsProtocol):
    """uvicorn's, but that requests which are no HTTP get an error in OpenAI's shape too, and that heads are bounded
    in size and time.
    """

    _heading = True
    """Whether the head of a request is still to come."""
    _head_bytes = 0
    _impatient: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, idle: "Rounds[Protocol]", **named: Any) -> None:
        super().__init__(*args, **named)
        self._idle = idle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing is not kept for ever."""
        super().connection_made(transport)
        self._impatient = self.loop.call_later(_KEEP_ALIVE, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the timers go."""
        self._be_patient()
        self._idle.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look at what is left of a head that has not ended."""
        self._idle.remove(self)
        super().data_received(data)
        if self._heading:
            if not self._head_bytes:  # it begins: another time counts than for a connection that says nothing
                self._be_patient()
                self._impatient = self.loop.call_later(_HEAD_TIME, self._too_slow)
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_LIMIT:
                self._refuse("431 Request Header Fields Too Large", "The headers are too large.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._heading, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """It has ended."""
        self._heading = False
        if self._impatient is not None:
            self._be_patient()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer of its own that each answer sets and the next request takes back."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle.add(self, self.loop)

    def shutdown(self) -> None:
        """End when the answer is sent, or when nothing was asked: closed under a request, a connection is reset."""
        if self._is_idle():
            self.loop.call_later(_LINGER, self._end_if_idle)
        else:
            super().shutdown()

    def _end_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer and close."""
        self._refuse("400 Bad Request", msg)

    def _refuse(self, status: str, message: str) -> None:
        body = BadRequest(message, code="invalid_http").body()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (status.encode(), len(body), body)
        )
        self.transport.close()

    def _too_slow(self) -> None:
        self._impatient = None
        if self._head_bytes:
            self._refuse("408 Request Timeout", "The headers did not arrive in time.")
        else:
            self.transport.close()

    def _be_patient(self) -> None:
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None


class Server:
    """One instance on one loop.

    `reload` makes and installs a new configuration; it is called on SIGHUP and says itself what went wrong.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        app: ASGIApp,
        edge: Edge,
        health: Health,
        *,
        drain_delay: float,
        drain_timeout: float,
        reload: Callable[[], None],
    ) -> None:
        self._edge = edge
        self._health = health
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._reload = reload
        idle = Rounds[Protocol](_KEEP_ALIVE, _KEEP_ALIVE / 15, Protocol.timeout_keep_alive_handler)
        self._protocol = partial(Protocol, idle=idle)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                http=self._protocol,  # type: ignore[arg-type]  # it is called, and no more
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=int(drain_timeout + _AFTER_CUT) + 1,
            )
        )

    async def run(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Serve until a signal says otherwise; `ready` is called when connections are accepted."""
        server = self._uvicorn
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listener])
        self._listen_to_signals()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        ready()
        ticking = asyncio.create_task(server.main_loop())
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            server.should_exit = True
            await ticking
            await self._finish(listener)

    def stop(self) -> None:
        """Begin to end; a second call hurries."""
        if self._stopping.is_set():
            self._hurry.set()
            return
        self._health.draining = True
        self._stopping.set()
        self._ask_to_leave()

    def _ask_to_leave(self) -> None:
        """Answers from now on end their connection: who pools them, such as a load balancer, must not find one closed
        just as it sends a request on it. uvicorn takes its standing headers anew from its configuration each second.
        """
        config, state = self._uvicorn.config, self._uvicorn.server_state
        config.encoded_headers = [*config.encoded_headers, CLOSE]
        state.default_headers = [*state.default_headers, CLOSE]

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    async def _drain(self) -> None:
        """Not ready, still accepting: load balancers need a moment to look elsewhere."""
        logger.info("stopping: not ready any more, accepting for another %.1f s", self._drain_delay)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_delay):
                await self._hurry.wait()

    async def _finish(self, listener: socket.socket) -> None:
        cutting = asyncio.create_task(self._cut_when_due())
        try:
            await self._stop_listening(listener)
            await self._uvicorn.shutdown(sockets=[listener])
        finally:
            cutting.cancel()

    async def _stop_listening(self, listener: socket.socket) -> None:
        """Take on the connections that the kernel has made for us: it would reset them."""
        server, loop = self._uvicorn, asyncio.get_running_loop()
        with listener.dup() as last:
            for each in server.servers:
                each.close()
            while True:
                try:
                    connection, _ = last.accept()
                except OSError:  # there are no more
                    return
                connection.setblocking(False)
                await loop.connect_accepted_socket(
                    lambda: self._protocol(server.config, server.server_state, server.lifespan.state), connection
                )

    async def _cut_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout):
                await self._hurry.wait()
        if self._edge.clients:
            logger.warning("cutting %d calls", len(self._edge.clients))
        self._edge.cut()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
