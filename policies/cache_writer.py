"""Writing behind: what a cache stores is stored after the call, as many entries at a time as wait."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from policies.cache_store import Store
from proxy.entries import Entry, StoreUnavailable

logger = logging.getLogger("lockgate")

Job = Callable[[], Awaitable[Sequence[Entry]]]
"""Makes the entries to be stored. Raises StoreUnavailable when it cannot without a store that is away."""
_AT_ONCE = 32
"""Jobs, or entries, that are put together. One after another, each with turns of the loop of its own, they fall behind as
soon as the loop is busy, and the calls that they hold pile up."""
_SLICE = 0.001
"""Seconds of jobs between two chances for other tasks."""
_END = 3.0
"""Seconds that the end waits for what is still to be written."""


class CacheWriter:
    """A queue of jobs for a store with a bound on the bytes they hold, as a service of the instance.

    A job that does not fit is dropped and counted; one whose store is unavailable is counted as failed.
    """

    def __init__(self, name: str, limit: int, store: Store) -> None:
        self.name = name
        self.dropped = 0
        self.failed = 0
        self.done = 0
        self._limit = limit
        self._store = store
        self._bytes = 0
        self._jobs: deque[tuple[Job, int]] = deque()
        self._made = 0
        """Jobs done whose entries are not put yet."""
        self._entries: list[Entry] = []
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None

    def add(self, job: Job, size: int) -> None:
        """Have what the job makes stored soon; `size` is what it holds in bytes."""
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
            self.dropped += len(self._jobs) + self._made
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
            while self._jobs or self._made:
                await self._make()
                await self._put()
            self._empty.set()
            self._more.clear()
            await self._more.wait()

    async def _make(self) -> None:
        """Do jobs until there are entries enough for one put."""
        since = time.monotonic()
        while self._jobs and len(self._entries) < _AT_ONCE and self._made < _AT_ONCE:
            job, size = self._jobs.popleft()
            try:
                self._entries += await job()
                self._made += 1
            except StoreUnavailable as error:
                self.failed += 1
                logger.debug("not stored: %s", error)
            finally:
                self._bytes -= size
            if time.monotonic() - since > _SLICE:
                await asyncio.sleep(0)
                since = time.monotonic()

    async def _put(self) -> None:
        entries, made = self._entries, self._made
        self._entries, self._made = [], 0
        try:
            if entries:
                await self._store.put(entries)
            self.done += made
        except StoreUnavailable as error:
            self.failed += made
            logger.debug("not stored: %s", error)
