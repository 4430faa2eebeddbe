"""The short way for calls that are equal, to the last byte, to one that the exact cache answered: no policy sees such a
call anew, and each does about it what it did about the first.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from policies.again import Again, Repeatable
from policies.cache_memory import Ready
from policies.readings import LONGEST
from proxy.call import Call, Record
from proxy.chain import Handler
from proxy.errors import GatewayError
from proxy.reply import Reply

_OVERHEAD, _MEMBER = 4000, 500
"""Bytes that are held beside a body, and for each of its members, about."""

Key = tuple[bytes, bytes, str, str, str | None]


class Answers(Protocol):
    """Where answers are held ready."""

    def entry_of(self, call: Call) -> str:
        """The id under which an answer to this call is kept."""
        ...

    def recall(self, entry: str, call: Call) -> Ready | None:
        """The answer of this id to this call, when that takes no waiting; None where it has to be waited for, or is not
        there.
        """
        ...

    def reply(self, call: Call, ready: Ready) -> Reply | None:
        """The answer in the shape that the call asks for; None where it has not that shape, or is too old for it."""
        ...

    def note(self, call: Call, record: Record, ready: Ready) -> None:
        """It is served to a call like this one, which has this record."""
        ...


class _Known(NamedTuple):
    """A call as it was answered, and what policies do on the way to the answer. Without a call each must take the long way."""

    size: int
    call: Call | None = None
    entry: str = ""
    holds: tuple[Callable[[], bool], ...] = ()
    acts: tuple[Callable[[Record], None], ...] = ()


class Repeats:
    """Knows calls by all that any policy reads of them: address, path, headers and body. `between` are the policies that
    stand between this one and `answers`, in their order; where one of them cannot say what it would do, every call
    passes through all. Up to `limit` bytes of calls are remembered, and none of their answers.

    Raises what they raise.
    """

    def __init__(self, between: Sequence[Repeatable], answers: Answers, limit: int) -> None:
        self._between = between
        self._answers = answers
        self._limit = limit
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self.bytes = 0

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Answer a call like one that was answered, or pass it on."""
        body = call.arrived()
        if body is None or len(body) > LONGEST:
            return await next(call)
        key = (body, call.said, call.peer, call.endpoint.name, call.path_model)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            reply = self._answer(key, known, call)
            if reply is not None:
                return reply
        reply = await next(call)
        if reply.served is not None and key not in self._known:
            self._learn(key, call.replace(body=body), reply.served)
        return reply

    def _answer(self, key: Key, known: _Known, call: Call) -> Reply | None:
        """None where the call must take the long way: then nothing has been done for it yet. What has to be waited for is
        fetched there, within limits and once for all who ask. What needs no waiting is read before them: that takes
        less than the long way to be refused.
        """
        if known.call is None:
            return None
        for holds in known.holds:
            if not holds():
                self._forget(key)
                return None
        ready = self._answers.recall(known.entry, known.call)
        reply = None if ready is None else self._answers.reply(known.call, ready)
        if ready is None or reply is None:
            return None
        for act in known.acts:
            act(call.record)
        self._answers.note(known.call, call.record, ready)
        return reply

    def _learn(self, key: Key, call: Call, served: Call) -> None:
        entry = self._answers.entry_of(served)
        if self._answers.recall(entry, served) is None:
            return
        try:
            known = self._known_of(call, served, entry)
        except GatewayError:  # what was let through a moment ago is so no more: the next call will hear of it
            return
        self._known[key] = known
        self.bytes += known.size
        while self.bytes > self._limit:
            self._forget(next(iter(self._known)))

    def _known_of(self, call: Call, served: Call, entry: str) -> _Known:
        """Take the call through all policies once more. Where one of them must see each, or it is another then, such calls
        are for the long way. Raises what policies raise.
        """
        size = _OVERHEAD + _MEMBER * len(served.head.members) + 2 * len(call.body)
        call = call.replace(record=Record(id="", endpoint=call.endpoint.name, started=0.0))
        parts: list[Again] = []
        for policy in self._between:
            passed = policy.again(call)
            if passed is None:
                return _Known(size)
            call, part = passed
            parts.append(part)
        for name in ("caller", "route", "cache"):
            if getattr(call, name) != getattr(served, name):
                return _Known(size)
        if call.head.members != served.head.members:
            return _Known(size)
        holds = tuple(part.holds for part in parts if part.holds is not None)
        acts = tuple(part.act for part in parts if part.act is not None)
        kept = served.replace(record=call.record, headers={}, body=b"")  # no more of a client than is needed
        return _Known(size, kept, entry, holds, acts)

    def _forget(self, key: Key) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self.bytes -= known.size
