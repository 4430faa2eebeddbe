"""Bounds on waiting that cost little: `asyncio.timeout` is several times dearer, and stands on the path of every event.

Both cancel the waiting task and turn that cancellation, and no other, into TimeoutError.
"""

import asyncio
from types import TracebackType


class Limit:
    """`with Limit(seconds):` bounds what is awaited inside. Must be entered in the task that waits."""

    __slots__ = ("_expired", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._timer = loop.call_later(max(0.0, self._seconds), self._expire)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired:
            _turn(self._task, kind, error)

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()


class IdleLimit:
    """`with limit:` again and again bounds each wait by the same seconds, on one timer that is rarely set anew.

    `stop` it in the end.
    """

    __slots__ = ("_expired", "_loop", "_seconds", "_task", "_timer", "_until")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[object] | None = None
        self._until = 0.0
        self._expired = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task(self._loop)
        self._until = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._until, self._check)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._expired:
            self._expired = False
            _turn(task, kind, error)

    def stop(self) -> None:
        """Let the timer go."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        if self._task is None:
            self._until = now + self._seconds
        elif now >= self._until:
            self._expired = True
            self._timer = None
            self._task.cancel()
            return
        self._timer = self._loop.call_at(self._until, self._check)


def _turn(task: asyncio.Task[object] | None, kind: type[BaseException] | None, error: BaseException | None) -> None:
    """Raise TimeoutError for our own cancellation; leave one that somebody else asked for."""
    if task is not None and task.uncancel() <= 0 and kind is not None and issubclass(kind, asyncio.CancelledError):
        raise TimeoutError from error
