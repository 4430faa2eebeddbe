"""Which clients wait longer than most: they are looked after, and their connections kept alive."""

import asyncio
from typing import Protocol

_LONG = 0.02
"""Seconds: most answers are quicker, and to look after a client takes a task of its own."""


class Waiting(Protocol):
    """A client that has asked."""

    def wait_longer(self) -> None:
        """Its answer is not there yet."""
        ...


class Presence:
    """Tells each client of one loop, once, that it waits longer: 20 to 40 ms after it was added, unless it was removed.

    One timer goes round for all: a timer for every call costs more than the rest of this.
    """

    def __init__(self) -> None:
        self._since: dict[Waiting, float] = {}
        self._round: asyncio.TimerHandle | None = None

    def add(self, client: Waiting, loop: asyncio.AbstractEventLoop) -> None:
        """It has asked just now."""
        self._since[client] = loop.time()
        if self._round is None:
            self._round = loop.call_later(_LONG, self._look, loop)

    def remove(self, client: Waiting) -> None:
        """Its answer is there, or it is gone."""
        self._since.pop(client, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        long_ago = loop.time() - _LONG
        for client in [each for each, since in self._since.items() if since <= long_ago]:
            del self._since[client]
            client.wait_longer()
        self._round = loop.call_later(_LONG, self._look, loop) if self._since else None
