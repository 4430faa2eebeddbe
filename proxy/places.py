"""How many calls are handled at a time, and the short line of those who wait for a place."""

import asyncio
import contextlib
from collections import deque

import msgspec

from proxy.errors import Overloaded
from proxy.limits import Limit


class Capacity(msgspec.Struct, frozen=True):
    """So many calls at a time; so many more wait, each at most `wait` seconds."""

    calls: int
    queue: int = 0
    wait: float = 0.0


class Places:
    """Hands places out in the order of asking. One set an instance; the capacity may change with every call.

    A place is held by any object, from `take` or `queue` until `leave`.
    """

    def __init__(self) -> None:
        self._holders: set[object] = set()
        self._line: deque[tuple[object, asyncio.Future[None]]] = deque()
        self._calls = 0

    def take(self, holder: object, capacity: Capacity) -> bool:
        """A place at once, if one is free and nobody waits."""
        self._calls = capacity.calls
        if len(self._holders) >= capacity.calls or self._line:
            return False
        self._holders.add(holder)
        return True

    async def queue(self, holder: object, capacity: Capacity) -> None:
        """Wait in line for a place. Raises Overloaded when the line is full or the wait too long.

        Who is cancelled leaves the line, and a place that came at the same moment goes to the next.
        """
        if len(self._line) >= capacity.queue:
            raise _overloaded(capacity)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((holder, turn))
        try:
            with Limit(capacity.wait):
                await turn
        except BaseException as error:
            with contextlib.suppress(ValueError):
                self._line.remove((holder, turn))
            self.leave(holder)  # it may have come at the same moment
            if isinstance(error, TimeoutError):
                raise _overloaded(capacity) from None
            raise

    def leave(self, holder: object) -> None:
        """Give the place back, to the next in line; nothing happens if none is held."""
        if holder not in self._holders:
            return
        self._holders.discard(holder)
        while self._line and len(self._holders) < self._calls:
            following, turn = self._line.popleft()
            if not turn.done():  # done: a leaver on its way out of the line
                self._holders.add(following)
                turn.set_result(None)


def _overloaded(capacity: Capacity) -> Overloaded:
    return Overloaded("The gateway is handling as many calls as it takes.", retry_after=max(1.0, capacity.wait))
