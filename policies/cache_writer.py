"""Writing behind: what a cache stores is stored after the call, one job at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from proxy.entries import StoreUnavailable

logger = logging.getLogger("lockgate")

Job = Callable[[], Awaitable[None]]
_END = 3.0
"""Seconds that the end waits for what is still to be written."""


class CacheWriter:
    """A queue of jobs with a bound on their bytes, as a service of the instance.

    A job that does not fit is dropped and counted; one whose store is unavailable is counted as failed.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.dropped = 0
        self.failed = 0
        self.done = 0
        self._limit = limit
        self._bytes = 0
        self._jobs: deque[tuple[Job, int]] = deque()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    def add(self, job: Job, size: int) -> None:
        """Do this soon; `size` is what the job holds in bytes."""
        if self._bytes + size > self._limit:
            self.dropped += 1
            return
        self._bytes += size
        self._jobs.append((job, size))
        self._empty.clear()
        self._more.set()

    async def emptied(self) -> None:
        """Wait until everything that was added is done."""
        await self._empty.wait()

    async def start(self) -> None:
        """Begin to work."""
        self._go_on(None)

    async def aclose(self) -> None:
        """Finish what is there, within a few seconds."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(_END):
                await self.emptied()
        except TimeoutError:
            self.dropped += len(self._jobs)
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])

    def state(self) -> Literal["ok"]:
        """Always ok: the store says how it is."""
        return "ok"

    def _go_on(self, before: asyncio.Task[None] | None) -> None:
        """Work, and work on when a job fails in a way that nobody thought of."""
        if before is not None:
            if self._task is not before or before.cancelled():
                return
            logger.error("a job of the cache %s failed", self.name, exc_info=before.exception())
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._go_on)

    async def _work(self) -> None:
        while True:
            while self._jobs:
                job, size = self._jobs.popleft()
                try:
                    await job()
                    self.done += 1
                except StoreUnavailable as error:
                    self.failed += 1
                    logger.debug("not stored: %s", error)
                finally:
                    self._bytes -= size
            self._empty.set()
            self._more.clear()
            await self._more.wait()
