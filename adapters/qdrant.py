"""Qdrant embedded in this process: collections of cache entries under the state folder.

The engine is never optimized and flushed only when a shard is closed, because every call holds the interpreter. So a
collection is a row of shards, oldest first: entries are put into the last, and when that has its share a new one
begins and the oldest is dropped whole. That evicts the oldest entries, and bounds disk, log and memory however much
passes through. What takes long of that waits for a quiet moment, up to a point.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adapters.qdrant_folders import BROKEN, Folders, set_aside
from adapters.qdrant_shard import Shard, dims_of
from proxy.config import Qdrant
from proxy.entries import EVERYTHING, Entry, Scored, Selection, StoreUnavailable

logger = logging.getLogger("lockgate")

_SHARES = 8
_AT_ONCE = 16
"""Entries read or put before others may run: embeddings take a tenth of a millisecond each."""
_QUIET = 0.25
"""Seconds without a question after which a shard may be opened (hundredths of a second) or closed (tenths)."""
_RETIRED = 2
"""Dropped shards that may wait for that."""
_SWEEP = 60.0
Clock = Callable[[], float]
State = Literal["ok", "degraded", "down"]


class Collection:
    """One collection: implements the caches' Store.

    A shard that the engine fails on is set aside, with its entries, and the rest goes on. `now` is Unix time, `free`
    the bytes left on a folder's disk: below `config.min_free` nothing is put, since the engine maps its files.
    """

    def __init__(self, folder: Path, dims: int, config: Qdrant, now: Clock, free: Callable[[Path], int]) -> None:
        self.dims = dims
        self._folder = folder
        self._folders = Folders(folder, dims)
        self._share = max(1, config.max_entries // _SHARES)
        self._most = config.max_entries
        self._min_free = config.min_free
        self._now = now
        self._free = free
        self._shards: list[Shard] = []
        self._retired: list[Shard] = []
        self._where: dict[str, Shard] = {}
        """The shard of each entry: what is not here need not be looked for."""
        self._asked = 0.0
        self._swept = now()
        self._trouble = ""

    def open(self) -> None:
        """Open what is there. Raises OSError when it was made for vectors of another length."""
        for folder in self._folders.existing():
            found = dims_of(folder)
            if found is not None and found != self.dims:
                raise OSError(
                    f"{self._folder} holds vectors of length {found}, and the embedder's have {self.dims}: "
                    f"`lockgate cache migrate {self._folder.name}` sets them aside and starts anew"
                )
            try:
                with self._folders.trying(folder):
                    shard = Shard(folder, self.dims)
                    self._where.update(dict.fromkeys(shard.ids(), shard))
                self._shards.append(shard)
            except StoreUnavailable as error:
                self._put_aside(folder, error)
        try:
            if not self._shards:
                self._shards.append(self._folders.begin())
            self._trouble = ""
        except StoreUnavailable as error:  # calls go on without it, and it is tried again
            self._trouble = str(error)
            logger.error("%s cannot be opened: %s", self._folder, error)  # noqa: TRY400 - its cause is another's code

    def close(self) -> None:
        """Write everything to disk."""
        for shard in (*self._retired, *self._shards):
            self._close(shard)
        self._retired.clear()
        self._shards.clear()
        self._where.clear()

    def state(self) -> State:
        """Degraded from a failure until something could be put again."""
        return "degraded" if self._trouble or not self._shards else "ok"

    async def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those that are there."""
        self._asked = now = self._now()
        found: dict[str, Entry] = {}
        for number, entry_id in enumerate(ids, 1):
            shard = self._where.get(entry_id)
            if shard is not None:
                entry = self._on(shard, lambda: shard.get(entry_id))  # noqa: B023 - called at once
                if entry is not None and entry.expires_at > now:
                    found[entry_id] = entry
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        return found

    def get_now(self, entry_id: str) -> Entry | None:
        """As `get`, for one. A shard that fails is left to `get`, which sets it aside."""
        shard = self._where.get(entry_id)
        if shard is None:
            return None
        self._asked = now = self._now()
        try:
            entry = shard.get(entry_id)
        except StoreUnavailable:
            return None
        return entry if entry is not None and entry.expires_at > now else None

    async def put(self, entries: Sequence[Entry]) -> None:
        """Store them."""
        if not self._shards:
            raise StoreUnavailable("it is closed")
        for entry in entries:
            if len(entry.vector or ()) != self.dims:
                raise ValueError(f"a vector of length {len(entry.vector or ())} in a collection for {self.dims}")
        self._asked = self._now()
        self._check_space()
        for start in range(0, len(entries), _AT_ONCE):
            if start:
                await asyncio.sleep(0)
            page = entries[start : start + _AT_ONCE]
            if self._shards[-1].writes + len(page) > 2 * self._share and self._shards[-1].writes:
                self._change()
            shard = self._shards[-1]
            self._on(shard, lambda: shard.put(page))  # noqa: B023 - called at once
            self._note(page, shard)
        self._trouble = ""

    async def query(
        self, vector: Sequence[float], *, partition: str, fingerprint: str, limit: int, floor: float
    ) -> list[Scored]:
        """The nearest of all shards. What expired since the last sweep takes places among twice as many."""
        self._asked = self._now()
        near: list[tuple[float, str, Shard]] = []
        for shard in list(self._shards):
            ids = self._on(
                shard,
                lambda: shard.nearest(vector, fingerprint=fingerprint, limit=2 * limit, floor=floor),  # noqa: B023 - called at once
            )
            near += [(similarity, entry_id, shard) for entry_id, similarity in ids]
        near.sort(key=lambda each: -each[0])
        found: list[Scored] = []
        for start in range(0, len(near), limit):
            page = near[start : start + limit]
            entries = self._entries({entry_id: shard for _, entry_id, shard in page})
            for similarity, entry_id, _ in page:
                entry = entries.get(entry_id)
                if entry is not None and entry.partition == partition and entry.expires_at > self._asked:
                    found.append(Scored(entry, similarity))
            if len(found) >= limit:
                break
        return found[:limit]

    def _entries(self, wanted: Mapping[str, Shard]) -> dict[str, Entry]:
        """Each shard is asked once."""
        found: dict[str, Entry] = {}
        for shard in dict.fromkeys(wanted.values()):
            ids = [entry_id for entry_id, where in wanted.items() if where is shard]
            if shard in self._shards:
                found |= {each.id: each for each in self._on(shard, lambda: shard.get_all(ids))}  # noqa: B023 - called at once
        return found

    async def amend(self, entry_id: str, meta: Mapping[str, Any]) -> None:
        """Set members of its meta."""
        shard = self._where.get(entry_id)
        if shard is not None:
            self._on(shard, lambda: shard.amend(entry_id, meta))

    async def delete(self, selection: Selection) -> int:
        """Remove page by page."""
        removed = 0
        for shard in list(self._shards):
            while shard in self._shards and (ids := self._on(shard, lambda: shard.find(selection))):  # noqa: B023
                self._on(shard, lambda: shard.remove(ids))  # noqa: B023 - called at once
                for entry_id in ids:
                    self._where.pop(entry_id, None)
                removed += len(ids)
                await asyncio.sleep(0)
        return removed

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """Count them."""
        if selection == EVERYTHING:
            return len(self._where)
        return sum(self._on(shard, lambda: shard.count(selection)) for shard in list(self._shards))  # noqa: B023

    async def tend(self) -> None:
        """Sweep what has expired; and when nobody asks, change a shard whose share is full and close a dropped one.

        Raises StoreUnavailable.
        """
        now = self._now()
        if now - self._swept >= _SWEEP:
            self._swept = now
            await self.delete(Selection(expired_at=int(now)))
        if not self._shards:
            self._shards.append(self._folders.begin())
        await self._folders.tend()
        if self._now() - self._asked < _QUIET:
            return
        if self._shards[-1].writes >= self._share:
            self._change()
        if self._retired:
            self._close(self._retired.pop(0))

    def _close(self, shard: Shard) -> None:
        try:
            shard.close()
        except StoreUnavailable as error:
            logger.error("%s was not closed well: %s", shard.folder, error)  # noqa: TRY400 - its cause is another's code

    def _note(self, page: Sequence[Entry], shard: Shard) -> None:
        for entry in page:
            before = self._where.get(entry.id)
            self._where[entry.id] = shard
            if before is not None and before is not shard:
                self._on(before, lambda: before.remove([entry.id]))  # noqa: B023 - called at once

    def _check_space(self) -> None:
        try:
            if self._free(self._folder) >= self._min_free:
                return
            self._trouble = "the disk is nearly full"
        except OSError as error:
            self._trouble = str(error)
        raise StoreUnavailable(self._trouble)

    def _on(self, shard: Shard, call: Callable[[], Any]) -> Any:
        """What the engine says; a shard on which it fails is set aside."""
        try:
            return call()
        except StoreUnavailable as error:
            if shard in self._shards:
                self._shards.remove(shard)
                self._where = {entry_id: where for entry_id, where in self._where.items() if where is not shard}
                self._put_aside(shard.folder, error)
                if not self._shards:
                    self._shards.append(self._folders.begin())
            raise

    def _put_aside(self, folder: Path, error: StoreUnavailable) -> None:
        self._trouble = str(error)
        try:
            set_aside(folder)
        except OSError as failure:
            raise StoreUnavailable(f"{folder} cannot be set aside: {failure}") from failure
        logger.error("%s cannot be used and was set aside as %s: %s", folder, folder.name + BROKEN, error)

    def _change(self) -> None:
        """Begin a new shard, and drop the oldest as long as the new one's share would be too much."""
        self._shards.append(self._folders.begin())
        while len(self._shards) > 1 and sum(each.writes for each in self._shards) > self._most - 2 * self._share:
            oldest = self._shards.pop(0)
            self._where = {entry_id: shard for entry_id, shard in self._where.items() if shard is not oldest}
            self._folders.drop(oldest.folder)
            self._retired.append(oldest)
        while len(self._retired) > _RETIRED:
            self._close(self._retired.pop(0))


class EmbeddedQdrant:
    """The engine and its collections as a service of the instance."""

    name = "qdrant"
    kind = "embedded"

    def __init__(self, folder: Path, config: Qdrant, now: Clock, free: Callable[[Path], int] | None = None) -> None:
        self._folder = folder
        self._config = config
        self._now = now
        self._free = free or _free
        self._collections: dict[str, Collection] = {}
        self._task: asyncio.Task[None] | None = None

    def collection(self, name: str, dims: int) -> Collection:
        """The collection of this name; to be asked for before the start."""
        made = Collection(self._folder / name, dims, self._config, self._now, self._free)
        return self._collections.setdefault(name, made)

    async def start(self) -> None:
        """Open every collection. Raises OSError."""
        for each in self._collections.values():
            each.open()
        self._task = asyncio.get_running_loop().create_task(self._tend())

    async def aclose(self) -> None:
        """Write everything to disk."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for each in self._collections.values():
            each.close()

    def state(self) -> State:
        """Degraded as soon as one collection is."""
        return "ok" if all(each.state() == "ok" for each in self._collections.values()) else "degraded"

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_QUIET)
            for each in self._collections.values():
                try:
                    await each.tend()
                except StoreUnavailable as error:
                    logger.warning("the upkeep of the cache's store failed: %s", error)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
