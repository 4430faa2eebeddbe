"""The client's side of one call: its body, its presence, and the bytes that go back to it."""

import asyncio
from collections.abc import Awaitable, Iterable

from litestar.types import HTTPRequestEvent, Receive, Send

from proxy.at_once import arrived, body_at_once, fields_of, start_at_once, write_at_once
from proxy.call import Record
from proxy.errors import BodyTimeout, BodyTooLarge
from proxy.limits import Limit
from proxy.rounds import Rounds
from proxy.sse import KEEP_ALIVE

_BODY_IDLE = 30.0
"""Seconds a client may pause while it sends its body."""
_BETWEEN_KEEP_ALIVES = 15.0
EVENT_STREAM = b"text/event-stream; charset=utf-8"
_WHOLE = b"content-type: application/json\r\n"
_STREAM = b"content-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n" % EVENT_STREAM


class ClientGone(asyncio.CancelledError):
    """The client left while it was sending its body."""


class Client:
    """One client over one pair of ASGI callables. Must be made in the task that handles the call.

    Once the body is read, the client's leaving cancels that task, 40 ms later at the most; so does `cut`. `absorb`
    takes such a cancellation back, after which the task may clean up in peace.
    """

    __slots__ = (
        "_ahead",
        "_early",
        "_ended",
        "_finished",
        "_keeper",
        "_loop",
        "_quiet",
        "_receive",
        "_record",
        "_send",
        "_task",
        "_timer",
        "_waiting",
        "_watcher",
        "extra",
        "gone",
        "started",
        "was_cut",
    )

    def __init__(
        self, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop, waiting: "Rounds[Client]"
    ) -> None:
        self._receive = receive
        self._send = send
        self._loop = loop
        self._waiting = waiting
        self._task = asyncio.current_task(loop)
        self._watcher: asyncio.Task[None] | None = None
        self._ahead: HTTPRequestEvent | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._finished = False
        self._quiet = True
        """Nothing has to be held."""
        self._ended = False
        self._early = 0.0
        self._record: Record | None = None
        self.extra = b""
        self.gone = False
        self.was_cut = False
        self.started = False

    def arrived(self) -> bytes | None:
        """The whole body, if all of it is there; it can still be read."""
        return arrived(self._receive) if self._ahead is None else None

    async def read_body(self, limit: int) -> bytes:
        """The whole body; from then on the client's leaving is noticed. Raises BodyTooLarge, BodyTimeout."""
        body = body_at_once(self._receive) if self._ahead is None else None
        if body is None:
            body = await self._parts(limit)
        if len(body) > limit:
            raise BodyTooLarge(f"The body is larger than {limit} bytes.")
        self._quiet = False
        self._waiting.add(self, self._loop)
        return body

    async def _parts(self, limit: int) -> bytes:
        """The body as it comes; no more than one part of it over the limit."""
        message = await self._next()
        if not message["more_body"]:
            return message["body"]
        parts = bytearray(message["body"])
        while message["more_body"] and len(parts) <= limit:
            message = await self._next()
            parts += message["body"]
        return bytes(parts)

    def line_up(self) -> None:
        """Notice the client's leaving before its body is read, of which at most the first part is taken in."""
        self._watcher = self._loop.create_task(self._look_ahead())

    def called_up(self) -> None:
        """The wait is over."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _look_ahead(self) -> None:
        message = await self._receive()
        if message["type"] == "http.request":
            self._ahead = message
            if not message["more_body"]:
                await self._until_gone()
        elif not self._finished:
            self.gone = True
            self._cancel()

    async def _next(self) -> HTTPRequestEvent:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        try:
            with Limit(_BODY_IDLE):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeout("The body did not arrive in time.") from None
        if message["type"] != "http.request":
            self.gone = True
            raise ClientGone
        return message

    def keep_alive(self, after: float, record: Record) -> None:
        """After so many seconds of silence send a stream's head, and comments from then on."""
        self._early, self._record = after, record

    def wait_longer(self) -> None:
        """The answer is not there yet: watch the client, and keep a stream's connection alive."""
        self._watch()
        if self._record is not None and self._record.stream:
            self._timer = self._loop.call_later(self._early, self._begin_keeping)

    def _watch(self) -> None:
        if self._watcher is None and not self._finished:
            self._watcher = self._loop.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._finished:
            self.gone = True
            self._cancel()

    def cut(self) -> None:
        """End this call: its task is cancelled and sees `was_cut`."""
        if not self._finished:
            self.was_cut = True
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def absorb(self) -> None:
        """Take back the cancellation, and let none come any more."""
        self._finished = True
        self.hold()
        if self._task is not None:
            while self._task.uncancel():
                pass

    def finish(self) -> None:
        """The call is over."""
        self._finished = True
        self.hold()
        watcher, self._watcher = self._watcher, None  # it ends with an error whose traceback holds this client
        if watcher is not None:
            watcher.cancel()

    def _begin_keeping(self) -> None:
        self._keeper = self._loop.create_task(self._keep())

    async def _keep(self) -> None:
        request_id = self._record.id.encode() if self._record is not None else b""
        await self.start(200, b"x-request-id: %b\r\n%b" % (request_id, self.extra))
        while True:
            await self.event(KEEP_ALIVE)
            await asyncio.sleep(_BETWEEN_KEEP_ALIVES)

    def hold(self) -> None:
        """Stop keep-alives: an answer is at hand."""
        if self._quiet:
            return
        self._quiet = True
        self._waiting.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            self._keeper.cancel()

    def put(self, status: int, head: bytes, body: bytes, *, stream: bool = False) -> Awaitable[None] | None:
        """Send an answer that is all there: one JSON body, or a stream from its first item to its end. What comes back is
        still to be awaited; mostly nothing is. A head is lines such as `age: 1`, each with its end.
        """
        self.started = True
        self._ended = stream
        head = b"%b%bcontent-length: %d\r\n" % (head, _STREAM if stream else _WHOLE, len(body))
        if not write_at_once(self._send, status, head, body):
            return self._put_in_parts(status, head, body)
        self._finished = True  # a client that closes once it has the answer has not left early
        return None

    async def _put_in_parts(self, status: int, head: bytes, body: bytes) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": fields_of(head)})
        self._finished = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def start(self, status: int, head: bytes) -> None:
        """Begin a stream."""
        self.started = True
        self._watch()
        head += _STREAM
        if not start_at_once(self._send, status, head):
            await self._send({"type": "http.response.start", "status": status, "headers": fields_of(head)})

    async def event(self, item: bytes) -> None:
        """Send one item of a stream; waits while the client reads slowly."""
        await self._send({"type": "http.response.body", "body": item, "more_body": True})

    async def end(self, item: bytes = b"") -> None:
        """End the stream with this item; a second call does nothing."""
        self._finished = True
        if not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": item, "more_body": False})

    async def preflight(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer a CORS preflight: what it asks for is what is allowed, if its origin is."""
        asked = dict(headers)
        allow = [
            (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
            (b"access-control-allow-headers", asked.get(b"access-control-request-headers", b"*")),
            (b"access-control-max-age", b"600"),
        ]
        await self._send({"type": "http.response.start", "status": 204, "headers": [*fields_of(self.extra), *allow]})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
