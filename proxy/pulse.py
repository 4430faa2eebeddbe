"""How well the loop keeps time, and a beat a second for who shows something live."""

import asyncio
import time
from collections import deque

from proxy.health import State
from proxy.histogram import Histogram

_TICK = 0.1
_WINDOW = 10
"""Seconds over which the worst delay is told."""
_DEGRADED = 1.0
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Pulse:
    """A timer ten times a second that notes how late it is: by so much every stream was held up."""

    name = "loop"

    def __init__(self) -> None:
        self.lag = Histogram(LAGS)
        """Delays in seconds since start."""
        self.started = time.time()
        self._worst: deque[float] = deque([0.0], maxlen=_WINDOW)
        self._due = 0.0
        self._ticks = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Future[None] | None = None

    @property
    def worst(self) -> float:
        """The longest delay of the last ten seconds."""
        return max(self._worst)

    async def start(self) -> None:
        """Begin on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._wait(self._loop)

    def forget(self) -> None:
        """Begin anew: what held the loop so far held up nobody, for nobody could come in yet. Must run on the loop."""
        self._worst = deque([0.0], maxlen=_WINDOW)
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._wait(self._loop)

    async def aclose(self) -> None:
        """Stop; who waits for a beat gets it."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        self._strike()

    def state(self) -> State:
        """Degraded while something holds the loop for a second and more."""
        return "degraded" if self.worst >= _DEGRADED else "ok"

    async def beat(self) -> None:
        """Wait for the next second; returns at once when it has been stopped."""
        if self._loop is None:
            return
        if self._beat is None:
            self._beat = self._loop.create_future()
        await asyncio.shield(self._beat)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + _TICK
        self._timer = loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        loop = self._loop
        if loop is None:
            return
        lag = max(0.0, loop.time() - self._due)
        self.lag.observe(lag)
        self._worst[-1] = max(self._worst[-1], lag)
        self._ticks += 1
        if self._ticks * _TICK >= 1:
            self._ticks = 0
            self._worst.append(0.0)
            self._strike()
        self._wait(loop)

    def _strike(self) -> None:
        beat, self._beat = self._beat, None
        if beat is not None and not beat.done():
            beat.set_result(None)
