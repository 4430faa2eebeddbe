"""Wake-ups to the microsecond: libuv's timers are whole milliseconds, as large as the latencies measured here."""

import asyncio
import ctypes
import os
import time
from types import TracebackType
from typing import Self

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_TIMER_ABSTIME = 1


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """A Linux timerfd on `time.perf_counter`'s clock (CLOCK_MONOTONIC). A context manager; for one waiter at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the loop that waits."""
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Listen to the timer."""
        self._loop.add_reader(self._fd, self._ring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the timer back."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def until(self, moment: float) -> None:
        """Return at `moment` (`time.perf_counter` seconds), or at once when it has passed."""
        if moment <= time.perf_counter():
            return
        whole = int(moment)
        spec = _TimerSpec(0, 0, whole, int((moment - whole) * 1e9))
        self._waiter = self._loop.create_future()
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        await self._waiter

    def _ring(self) -> None:
        os.read(self._fd, 8)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
