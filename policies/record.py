"""What is written down of every call: sealed before its last bytes are handed over, whatever became of it."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Literal, Protocol

from proxy.call import Call, Outcome, Record
from proxy.chain import Handler
from proxy.endpoints import EMBEDDINGS
from proxy.errors import GatewayError, GuardBlocked, UpstreamInterrupted
from proxy.reply import Reply
from proxy.segments import Texts
from proxy.sse import DONE_ITEM

_RECENT = 1000
_LAST = (b"event: response.completed\n", b"event: response.incomplete\n")
"""How the last item of a Responses stream begins; of other streams it is `[DONE]`."""
_EXCERPT = 64 * 1024
"""Bytes that are kept of a request, and of an answer."""

Bodies = Literal["full", "redacted", "off"]
BeforeSeal = Callable[[Call, Record], None]
_STRICTNESS: dict[Bodies, int] = {"off": 2, "redacted": 1, "full": 0}


class Sink(Protocol):
    """Where sealed records go. Never raises: a full disk must not fail a call."""

    def write(self, record: Record) -> None:
        """Take one sealed record. One that is `amended` takes the place of an earlier one with its id."""
        ...


class Log(Protocol):
    """Where sealed records are kept, with the texts that may be. Never raises."""

    def append(self, record: Record, texts: bytes = b"") -> None:
        """Take one sealed record, and its texts, encoded."""
        ...


class Kept:
    """The texts of calls in flight, by call id, from the policy that sees them to the one that writes them down."""

    def __init__(self) -> None:
        self._texts: dict[str, Texts] = {}

    def put(self, call_id: str, texts: Texts) -> None:
        """Keep them until they are taken."""
        self._texts[call_id] = texts

    def take(self, call_id: str) -> Texts | None:
        """They are the caller's now."""
        return self._texts.pop(call_id, None)


class Sinks:
    """Hands sealed records to every sink, those of one turn of the loop together: a sink that counts one record among the
    other work of a call costs three times what it costs a record when it counts many.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = tuple(sinks)
        self._waiting: list[Record] = []

    def write(self, record: Record) -> None:
        """Take one; it is handed on before the loop looks for anything new."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(record)

    def flush(self) -> None:
        """Hand on what waits, before any of it changes."""
        waiting, self._waiting = self._waiting, []
        for sink in self._sinks:
            for record in waiting:
                sink.write(record)


class WriteRecord:
    """The outermost policy. Seals a record before the whole answer, the last event or the error event is handed over,
    or when the call ends otherwise; if it then ends otherwise than it had seemed, an amended record follows.

    `log` and the sinks `at_once` have it before the client has its answer, `sinks` before the loop's turn is over.
    `now` is Unix time in seconds. `before_seal` may still add facts, such as the cost: each is given the call as it
    came in and its record, once for every time that it is sealed.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        sinks: Sequence[Sink],
        now: Callable[[], float],
        *,
        log: Log | None = None,
        at_once: Sequence[Sink] = (),
        kept: Kept | None = None,
        before_seal: Sequence[BeforeSeal] = (),
    ) -> None:
        self._sinks = Sinks(sinks)
        self._now = now
        self._log = log
        self._at_once = tuple(at_once)
        self._kept = kept
        self._before_seal = tuple(before_seal)

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass the call on and watch how it ends."""
        record = call.record
        try:
            reply = await next(call)
        except GatewayError as error:
            record.status, record.error = error.http_status, error.code or error.type
            _Seal(self, call).put("guard_blocked" if isinstance(error, GuardBlocked) else "error")
            raise
        except asyncio.CancelledError:
            _Seal(self, call).put("client_disconnect")
            raise
        except BaseException:
            record.status, record.error = 500, "internal_error"
            _Seal(self, call).put("error")
            raise
        record.status = reply.status
        record.first_content = self._now() - record.started
        if reply.at_hand is not None:  # the edge sends it as one, and asks for no item
            record.outcome = _told(reply.ending or "complete", record)
            texts = self.texts_of(call)
            self.write(call, texts)
            reply.unless_complete(partial(self.closed, call, texts))
            return reply
        seal = _Seal(self, call)
        reply.items = _watched_stream(reply.items, seal) if reply.streaming else _watched_whole(reply.items, seal)
        reply.on_close(seal.close)
        return reply

    def closed(self, call: Call, texts: Texts | None, outcome: Outcome) -> None:
        """A reply whose record is written has ended like this."""
        if _told(outcome, call.record) != call.record.outcome:
            self.amend(call, texts, outcome)

    def amend(self, call: Call, texts: Texts | None = None, outcome: Outcome | None = None) -> None:
        """Write the record of a call again, now that more is known, such as another `outcome`; not before it is sealed."""
        record = call.record
        if record.outcome is not None:
            self._sinks.flush()
            record.outcome, record.amended = outcome or record.outcome, True
            self.write(call, texts)

    def write(self, call: Call, texts: Texts | None) -> None:
        """Hand a sealed record out."""
        record = call.record
        record.duration = self._now() - record.started
        for complete in self._before_seal:
            complete(call, record)
        if self._log is not None:
            self._log.append(record, texts.encode() if texts is not None else b"")
        for sink in self._at_once:
            sink.write(record)
        self._sinks.write(record)

    def texts_of(self, call: Call) -> Texts | None:
        """What was kept of this call's texts."""
        return self._kept.take(call.id) if self._kept is not None else None


class _Seal:
    """How one call ends."""

    __slots__ = ("_call", "_policy", "_sealed", "_texts")

    def __init__(self, policy: WriteRecord, call: Call) -> None:
        self._policy = policy
        self._call = call
        self._texts: Texts | None = None
        self._sealed = False

    def put(self, outcome: Outcome) -> None:
        """It ends like this, as far as can be seen; a second call does nothing."""
        if self._sealed:
            return
        self._sealed = True
        self._texts = self._policy.texts_of(self._call)
        record = self._call.record
        record.outcome = _told(outcome, record)
        self._policy.write(self._call, self._texts)

    def fail(self, error: GatewayError) -> None:
        """A reply that had begun ends with an error."""
        if not self._sealed:
            self._call.record.error = error.code or error.type
            if isinstance(error, GuardBlocked):
                self.put("guard_blocked")
            else:
                self.put("upstream_interrupted" if isinstance(error, UpstreamInterrupted) else "error")

    def close(self, outcome: Outcome) -> None:
        """It has ended like this."""
        if not self._sealed:
            self.put(outcome)
        else:
            self._policy.closed(self._call, self._texts, outcome)


def _told(outcome: Outcome, record: Record) -> Outcome:
    """An answer that a guard has ended is complete for the client alone."""
    return "guard_blocked" if outcome == "complete" and record.guard == "block" else outcome


async def _watched_stream(items: AsyncIterator[bytes], seal: _Seal) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            if item == DONE_ITEM or item.startswith(_LAST):
                seal.put("complete")
            yield item
    except GatewayError as error:
        seal.fail(error)
        raise
    finally:
        await _let_go(items)
    seal.put("complete")


async def _watched_whole(items: AsyncIterator[bytes], seal: _Seal) -> AsyncIterator[bytes]:
    """The whole body is sent once these have ended."""
    try:
        async for item in items:
            yield item
    except GatewayError as error:
        seal.fail(error)
        raise
    finally:
        await _let_go(items)
    seal.put("complete")


async def _let_go(items: AsyncIterator[bytes]) -> None:
    closing = getattr(items, "aclose", None)
    if closing is not None:
        await closing()


class KeepTexts:
    """Keeps excerpts of what a call says and is answered, as the client sends and sees them, for the record.

    `bodies` is the most that may be kept of anyone's texts; a caller's own setting can only make it less. Vectors are
    never kept.
    """

    def __init__(self, kept: Kept, bodies: Bodies) -> None:
        self._kept = kept
        self._bodies = bodies

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass the call on and take down what is said."""
        bodies = self._bodies
        own = call.caller.bodies
        if own is not None and _STRICTNESS[own] > _STRICTNESS[bodies]:
            bodies = own
        if bodies == "off":
            return await next(call)
        texts = Texts(bodies, call.body[:_EXCERPT], len(call.body) > _EXCERPT)
        self._kept.put(call.id, texts)
        reply = await next(call)
        return reply if call.endpoint is EMBEDDINGS else reply.through(lambda items: _heard(items, texts))


async def _heard(items: AsyncIterator[bytes], texts: Texts) -> AsyncIterator[bytes]:
    room = _EXCERPT
    try:
        async for item in items:
            if room > 0:
                texts.answer.append(item if len(item) <= room else item[:room])
                texts.answer_cut = len(item) > room
                room -= len(item)
            else:
                texts.answer_cut = True
            yield item
    finally:
        await _let_go(items)


class RecentRecords:
    """The last thousand records by call id, in memory, for the operator's questions."""

    def __init__(self, keep: int = _RECENT) -> None:
        self._keep = keep
        self._records: OrderedDict[str, Record] = OrderedDict()

    def write(self, record: Record) -> None:
        """Remember it, and forget the oldest."""
        self._records[record.id] = record
        if len(self._records) > self._keep:
            self._records.popitem(last=False)

    def latest(self) -> Iterator[Record]:
        """All that are remembered, the last one first. Only valid until the next is written."""
        return reversed(self._records.values())

    def find(self, call_id: str) -> Record | None:
        """The record of this call, if it is still remembered."""
        return self._records.get(call_id)
