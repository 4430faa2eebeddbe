"""One timer that goes round for many: a timer for each, set and mostly taken back, costs more than what it is there for."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """Tells of each thing, once, that it has been there for `after` seconds, and for up to `every` more, unless it was
    removed before. For one loop. Things are told apart as keys of a dictionary are.
    """

    def __init__(self, after: float, every: float, tell: Callable[[T], None]) -> None:
        self._after = after
        self._every = every
        self._tell = tell
        self._since: dict[T, float] = {}
        self._round: asyncio.TimerHandle | None = None

    def add(self, thing: T, loop: asyncio.AbstractEventLoop) -> None:
        """Its time begins now; one must not be added again before it was told of or removed."""
        self._since[thing] = loop.time()
        if self._round is None:
            self._round = loop.call_later(self._every, self._look, loop)

    def remove(self, thing: T) -> None:
        """It is not to be told of."""
        self._since.pop(thing, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() - self._after
        over: list[T] = []
        for thing, since in self._since.items():  # the first has been there for longest
            if since > due:
                break
            over.append(thing)
        for thing in over:
            del self._since[thing]
        self._round = loop.call_later(self._every, self._look, loop) if self._since else None
        for thing in over:
            self._tell(thing)
