"""One upstream answer on its way to several callers."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from proxy.call import Outcome, Record
from proxy.errors import GatewayError, InternalError, UpstreamInterrupted
from proxy.reply import Reply

logger = logging.getLogger("lockgate")


class Seat:
    """One caller's place in a flight: the index of the item it takes next, and the reply that takes it."""

    __slots__ = ("position", "reply")

    def __init__(self) -> None:
        self.position = 0
        self.reply: Reply | None = None


class Flight:
    """A call that is its own task, and the callers that share its reply from its beginning as it grows.

    The upstream is read at the pace of the fastest caller. Items are kept so that another can join from the start,
    up to `limit` bytes: then nobody joins any more, and a caller further behind than that is cut off. When the last
    caller leaves, the task is cancelled. `on_over` is called when nobody can join any more,
    `on_closed` when all that can be known is.
    """

    def __init__(self, record: Record, limit: int, on_over: Callable[[], None], on_closed: Callable[[], None]) -> None:
        self.record = record
        self.starter_left = False
        """Whether who began it is gone, its record written, before its usage was known."""
        self._limit = limit
        self._on_over: Callable[[], None] | None = on_over
        self._on_closed: Callable[[], None] | None = on_closed
        self._seats: list[Seat] = []
        self._items: list[bytes] = []
        self._dropped = 0
        self._bytes = 0
        self._over = False
        self._failure: GatewayError | None = None
        self._closing: Outcome = "client_disconnect"
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._reply: Reply | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def joinable(self) -> bool:
        """Whether a caller can still have it from its beginning."""
        return not self._over and not self._dropped and self._bytes <= self._limit

    def start(self, reply: Awaitable[Reply]) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._fly(reply))
        self._task.add_done_callback(self._landed)

    def _landed(self, _task: asyncio.Task[None]) -> None:
        """Forget the task: what it ends with holds this flight in its traceback."""
        self._task = None

    def join(self) -> Seat:
        """Take a seat; whoever takes one leaves it."""
        seat = Seat()
        self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give the seat up. The last one out ends the flight."""
        if seat in self._seats:
            self._seats.remove(seat)
        if not self._seats and self._task is not None and not self._over:  # one that is over is letting everything go
            self._end()
            self._task.cancel()
        self._taken.set()

    async def cleared(self) -> None:
        """Wait until a flight that nobody is on any more has let everything go: all that can be known is known."""
        if not self._seats and self._task is not None:
            await asyncio.wait({self._task})

    async def head(self) -> Reply:
        """The reply at its commit. Raises what kept it from coming. Cancelling one who waits leaves the flight be."""
        if self._reply is None and self._failure is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        if self._reply is not None:
            return self._reply
        raise self._failure if self._failure is not None else InternalError()

    def _announce(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    async def items(self, seat: Seat) -> AsyncIterator[bytes]:
        """The reply's items from its beginning. Raises what the reply's own items raise."""
        while True:
            while seat.position < self._dropped + len(self._items):
                if seat.position < self._dropped:
                    raise UpstreamInterrupted("The stream was read too slowly.", kind="slow_reader")
                item = self._items[seat.position - self._dropped]
                seat.position += 1
                self._taken.set()
                yield item
            if self._over:
                if self._failure is not None:
                    raise self._failure
                return
            self._changed.clear()
            await self._changed.wait()

    async def _fly(self, coming: Awaitable[Reply]) -> None:
        reply: Reply | None = None
        try:
            reply = await coming
            await self._carry(reply)
            self._closing = "complete"
            self._reply = reply  # a whole answer is handed over once it is in hand: nobody waits twice
        except GatewayError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(UpstreamInterrupted("The shared call was given up.", kind="cancelled"))
            raise
        except BaseException as error:
            self._fail(InternalError())  # whoever waits must be told; the cause stands in the log
            logger.exception("a shared call failed")
            if not isinstance(error, Exception):
                raise  # the process is being ended
        finally:
            self._end()
            if reply is not None:
                await _closed(reply, self._closing)
            on_closed, self._on_closed = self._on_closed, None  # it may hold this flight
            if on_closed is not None:
                on_closed()

    async def _carry(self, reply: Reply) -> None:
        """Take the reply's items aboard, a stream's at the pace of the fastest caller."""
        if reply.streaming:
            self._reply = reply
            self._announce()
        async for item in reply.items:
            if reply.ending is not None:
                self._will_end(reply.ending)
            self._add(item)
            if reply.streaming and reply.at_hand is None:
                await self._fastest_is_done()

    def _fail(self, error: GatewayError) -> None:
        self._failure = error
        self._closing = "upstream_interrupted" if isinstance(error, UpstreamInterrupted) else "error"

    def _end(self) -> None:
        self._over = True
        on_over, self._on_over = self._on_over, None  # as below
        if on_over is not None:
            on_over()
        self._announce()
        self._changed.set()

    def _will_end(self, ending: Outcome) -> None:
        """Tell every caller's reply how it will have ended."""
        for seat in self._seats:
            if seat.reply is not None:
                seat.reply.ending = ending

    def _add(self, item: bytes) -> None:
        self._items.append(item)
        self._bytes += len(item)
        if self._bytes > self._limit:
            self._forget()
        self._changed.set()

    def _forget(self) -> None:
        """Drop what everyone has taken; and what only a laggard has not, once that is another `limit` of bytes."""
        slowest = min((seat.position for seat in self._seats), default=0)
        while self._bytes > self._limit and len(self._items) > 1:
            if self._dropped >= slowest and self._bytes <= 2 * self._limit:
                return
            self._bytes -= len(self._items.pop(0))
            self._dropped += 1

    async def _fastest_is_done(self) -> None:
        while self._seats and max(seat.position for seat in self._seats) < self._dropped + len(self._items):
            self._taken.clear()
            await self._taken.wait()


async def _closed(reply: Reply, outcome: Outcome) -> None:
    closing = getattr(reply.items, "aclose", None)
    if closing is not None:
        with contextlib.suppress(RuntimeError):
            await closing()
    await reply.aclose(outcome)
