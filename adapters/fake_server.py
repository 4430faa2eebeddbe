"""The script engine over real HTTP/1.1 on raw sockets, with every fault down at the socket. For tests and demos.

Besides the API: `GET /__fake__/stats` (see `Stats`), `POST /__fake__/reset` (forget counts and engine state),
`POST /__fake__/refuse?seconds=T` (stop listening and close every connection, for T seconds).
"""

import asyncio
import base64
import socket
import ssl
import struct
import time
from collections import Counter, deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from adapters.fake import Engine
from adapters.fake_http import BadHttpError, Received, Receiver
from adapters.fake_steps import Pause, Scripted, Step

_BACKLOG = 1024
_KEPT = 10_000
_GARBAGE = b"\x16\x03\x01 this is no HTTP\r\n\r\n"
_RESET_NOT_FIN = struct.pack("ii", 1, 0)


class Aborted(msgspec.Struct, frozen=True):
    """A client that left before its answer was whole; `at` is unix seconds."""

    model: str
    at: float


class Stats:
    """What the server saw: also at `/__fake__/stats`, the last request's body in base64."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.open = 0
        self.active = 0
        self.most_active = 0
        self.models: Counter[str] = Counter()
        self.aborted: deque[Aborted] = deque(maxlen=_KEPT)
        self.aborted_count = 0
        self.last: Received | None = None

    def clear(self) -> None:
        """Set the counts to zero; open connections and active requests stay what they are."""
        self.requests = self.connections = self.aborted_count = 0
        self.most_active = self.active
        self.models.clear()
        self.aborted.clear()
        self.last = None

    def as_json(self) -> dict[str, Any]:
        """The answer of `/__fake__/stats`."""
        last = self.last and {
            "method": self.last.method,
            "target": self.last.target,
            "headers": self.last.raw_headers,
            "body_base64": base64.b64encode(self.last.body).decode(),
        }
        names = ("requests", "connections", "open", "active", "most_active", "models", "aborted_count")
        return {**{name: getattr(self, name) for name in names}, "aborted": list(self.aborted), "last": last}


class FakeServer:
    """Listens, answers and counts. Made by `serve`."""

    def __init__(self, engine: Engine, tls: ssl.SSLContext | None) -> None:
        self.engine = engine
        self.stats = Stats()
        self.connections: set[_Connection] = set()
        self._tls = tls
        self._address = ("127.0.0.1", 0)
        self._listener: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        """Set whenever the last connection has gone."""
        self._tasks: set[asyncio.Task[int]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; returns the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Connection(self), host, port, ssl=self._tls, backlog=_BACKLOG, reuse_address=True
        )
        self._address = (host, self._listener.sockets[0].getsockname()[1])
        return self._address[1]

    async def relisten(self) -> int:
        """Accept connections again after `refuse`, on the same port."""
        return await self.listen(*self._address)

    def refuse(self, seconds: float | None = None) -> None:
        """Refuse connections and drop those that are there, as a killed process would; for so long, or until `relisten`."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            connection.reset()
        if seconds is not None:
            self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        task = asyncio.ensure_future(self.relisten())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def came(self, connection: "_Connection") -> None:
        """Count a new connection."""
        self.connections.add(connection)
        self.stats.connections += 1
        self.stats.open += 1
        self._gone.clear()

    def went(self, connection: "_Connection") -> None:
        """Count it off."""
        self.connections.discard(connection)
        self.stats.open -= 1
        if not self.connections:
            self._gone.set()

    async def aclose(self) -> None:
        """Stop listening and close every connection."""
        if self._reopening is not None:
            self._reopening.cancel()
        self.refuse()
        if self.connections:
            await self._gone.wait()

    def control(self, request: Received) -> bytes:
        """The control endpoints' answers."""
        target = urlsplit(request.target)
        found: object = {}
        if target.path == "/__fake__/stats":
            found = self.stats.as_json()
        elif target.path == "/__fake__/reset":
            self.stats.clear()
            self.engine.reset()
        elif target.path == "/__fake__/refuse":
            seconds = float(parse_qs(target.query).get("seconds", ["1"])[0])
            asyncio.get_running_loop().call_later(0.01, self.refuse, seconds)
        data = msgspec.json.encode(found)
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


class _Connection(asyncio.Protocol):
    """One client connection: requests one after the other, each played by a task."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._receiver = Receiver()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._model = ""
        self._killed = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream server's transports write
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.came(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._server.went(self)
        if self._task is not None and not self._killed:
            self._server.stats.aborted.append(Aborted(self._model, time.time()))
            self._server.stats.aborted_count += 1
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._receiver.feed(data)
        self._advance()

    def _advance(self) -> None:
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return
        try:
            request, now = self._receiver.next()
        except BadHttpError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._transport.close()
            return
        if now:
            self._transport.write(now)
        if request is None:
            return
        if request.target.startswith("/__fake__/"):
            self._transport.write(self._server.control(request))
            if not request.keeps_alive:
                self._transport.close()
            self._advance()
            return
        self._task = asyncio.ensure_future(self._answer(request))

    async def _answer(self, request: Received) -> None:
        stats = self._server.stats
        stats.requests += 1
        stats.last = request
        stats.active += 1
        stats.most_active = max(stats.most_active, stats.active)
        ends_clean = False
        try:
            scripted = self._server.engine.answer(request.method, request.target, request.headers, request.body)
            self._model = scripted.model
            stats.models[scripted.model] += 1
            ends_clean = await self._play(scripted, request)
        finally:
            stats.active -= 1
            self._task = None
            if self._transport is not None and not (ends_clean and request.keeps_alive):
                self._transport.close()
        self._advance()

    async def _play(self, scripted: Scripted, request: Received) -> bool:
        """Write the answer. Returns whether it ended as HTTP wants it."""
        for step in scripted.before:
            if not await self._step(step, chunked=False):
                return False
        chunked = scripted.length is None and request.version == "HTTP/1.1"
        self._write(_head(scripted, chunked=chunked))
        if request.method == "HEAD":
            return True
        for step in scripted.body:
            if not await self._step(step, chunked=chunked):
                return False
        if chunked:
            self._write(b"0\r\n\r\n")
        return chunked or scripted.length is not None

    async def _step(self, step: Step, *, chunked: bool) -> bool:
        """Do one step. Returns False when the exchange has broken."""
        if isinstance(step, bytes):
            if step:
                self._write(b"%x\r\n%b\r\n" % (len(step), step) if chunked else step)
                await self._writable.wait()
            return True
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return True
        if step.how == "stall":
            await asyncio.Event().wait()
        self._task = None
        if step.how == "garbage":
            self._write(_GARBAGE)
        if step.how in {"fin", "garbage"}:
            if self._transport is not None:
                self._transport.close()
        else:
            self.reset()
        return False

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def reset(self) -> None:
        """Close with RST, whatever is still to be written."""
        self._killed = True
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            if connection is not None:  # TLS gives its socket up before it says so
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_NOT_FIN)
            self._transport.abort()


def _head(scripted: Scripted, *, chunked: bool) -> bytes:
    lines = [f"HTTP/1.1 {scripted.status} {'OK' if scripted.status == 200 else 'Fake'}"]  # noqa: PLR2004  # OK is 200
    lines += [f"{name}: {value}" for name, value in scripted.headers.items()]
    if scripted.length is not None:
        lines.append(f"content-length: {scripted.length}")
    else:
        lines.append("transfer-encoding: chunked" if chunked else "connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def serve(
    host: str = "127.0.0.1", port: int = 0, *, engine: Engine | None = None, tls: ssl.SSLContext | None = None
) -> tuple[FakeServer, int]:
    """Start a fake provider on this loop; port 0 takes a free one. Close it with `aclose`."""
    server = FakeServer(engine or Engine(time.time), tls)
    return server, await server.listen(host, port)
