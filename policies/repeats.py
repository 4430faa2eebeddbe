"""The short way for calls that are equal, to the last byte, to one that the exact cache answered: no policy sees such a
call anew, and each does about it what it did about the first.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from policies.again import Again, Repeatable
from policies.cache_memory import Ready
from proxy.call import Call, Record
from proxy.chain import Handler
from proxy.reply import Reply

_LONGEST = 32 * 1024
"""Bytes of a body that is looked for: to find a longer one takes as long as what is saved."""
_OVERHEAD, _MEMBER = 4000, 500
"""Bytes that are held beside a body, and for each of its members, about."""

Key = tuple[bytes, bytes, str, str, str | None]


class Answers(Protocol):
    """Where answers are: those in memory, and those that have to be fetched."""

    def entry_of(self, call: Call) -> str:
        """The id under which an answer to this call is kept."""
        ...

    def recall(self, entry: str) -> Ready | None:
        """The answer in memory."""
        ...

    async def fetch(self, call: Call) -> Ready | None:
        """The answer in the store; None also where that is away."""
        ...

    def reply(self, call: Call, ready: Ready) -> Reply | None:
        """The answer in the shape that the call asks for; None where it has not that shape, or is too old for it."""
        ...

    def note(self, call: Call, record: Record, ready: Ready, *, fetched: bool) -> None:
        """It is served to a call like this one, which has this record."""
        ...


class _Known(NamedTuple):
    """A call as it was answered, and what policies do on the way to the answer."""

    call: Call
    entry: str
    holds: tuple[Callable[[], bool], ...]
    acts: tuple[Callable[[Record], None], ...]
    size: int

    def stands(self) -> bool:
        """Whether all that policies found is still so."""
        for holds in self.holds:  # noqa: SIM110 - on the path of every hit, where a generator costs more
            if not holds():
                return False
        return True


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
        if body is None or len(body) > _LONGEST:
            return await next(call)
        key = (body, call.said, call.peer, call.endpoint.name, call.path_model)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            if known.stands():
                held = self._answers.recall(known.entry)
                ready = await self._answers.fetch(known.call) if held is None else held
                reply = None if ready is None else self._answers.reply(known.call, ready)
                if ready is not None and reply is not None:
                    for act in known.acts:
                        act(call.record)
                    self._answers.note(known.call, call.record, ready, fetched=held is None)
                    return reply
            self._forget(key)
        reply = await next(call)
        if reply.served is not None and key not in self._known:
            made = self._known_of(call.replace(body=body), reply.served)
            if made is not None:
                self._keep(key, made)
        return reply

    def _known_of(self, call: Call, served: Call) -> _Known | None:
        """Take the call through all policies once more; None where one of them must see each, or it is another then."""
        call = call.replace(record=Record(id="", endpoint=call.endpoint.name, started=0.0))
        parts: list[Again] = []
        for policy in self._between:
            passed = policy.again(call)
            if passed is None:
                return None
            call, part = passed
            parts.append(part)
        for name in ("caller", "route", "cache"):
            if getattr(call, name) != getattr(served, name):
                return None
        if call.head.members != served.head.members:
            return None
        holds = tuple(part.holds for part in parts if part.holds is not None)
        acts = tuple(part.act for part in parts if part.act is not None)
        size = _OVERHEAD + _MEMBER * len(served.head.members) + 2 * len(call.body)
        kept = served.replace(record=call.record, headers={}, body=b"")  # no more of a client than is needed
        return _Known(kept, self._answers.entry_of(served), holds, acts, size)

    def _keep(self, key: Key, known: _Known) -> None:
        self._known[key] = known
        self.bytes += known.size
        while self.bytes > self._limit:
            self._forget(next(iter(self._known)))

    def _forget(self, key: Key) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self.bytes -= known.size
