"""Sealed records on disk until everyone who wants them has them.

One process writes; readers in this process get records from memory as long as they keep up, and readers in others
follow the files (`proxy.segments.Tail`). Each has a name and a cursor on disk, and begins there again after a restart.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from proxy.call import Record
from proxy.health import State
from proxy.segments import Cursor, Tail, count_frames, frame_of, path_of, starts_in, whole_frames

logger = logging.getLogger("lockgate")

Batch = list[tuple[int, Record]]

_SEGMENTS = 16
"""Files that a full outbox consists of."""
_LARGEST = 8_000_000
_OLDEST = 3600.0
"""Seconds after which a file that everyone has read is not added to any more, so that it can go."""
_HOUSEKEEPING = 5.0
_SAVE = 1.0
"""Seconds between two writes of one cursor, at least: what is dealt with twice after a crash changes nothing."""
_IN_MEMORY = 10_000
"""Records that wait in memory for one reader; one that is further behind reads from disk."""


class Reader:
    """One reader in this process. What is not committed comes again after a restart."""

    def __init__(self, outbox: "Outbox", cursor: Cursor, position: int) -> None:
        self._outbox = outbox
        self._cursor = cursor
        self._tail = Tail(outbox.folder, position)
        self._waiting: deque[tuple[int, Record]] | None = None
        self._news = asyncio.Event()
        self._closed = False
        self._taken = position
        self.committed = self._saved = position
        self._due = 0.0

    @property
    def lag(self) -> int:
        """Bytes that are not committed yet."""
        return max(0, self._outbox.end - self.committed)

    async def batches(self, limit: int = 500, linger: float = 0.05) -> AsyncIterator[Batch]:
        """Every record from the cursor on as (position, record), in order, waiting for more until it is closed.

        `linger` is how long, in seconds, records wait for others to come along, until there are `limit` or more is on
        disk: under load too, or whoever is fast would get them in twos and threes.
        """
        while True:
            batch = self.take(limit)
            if batch:
                yield batch
            elif self._closed:
                return
            else:
                self._news.clear()
                await self._news.wait()
            more = len(batch) >= limit or (batch and self._waiting is None)
            if not (more or self._closed):
                await asyncio.sleep(linger)

    def take(self, limit: int = 500) -> Batch:
        """What there is just now, up to `limit` records; none when all has been taken."""
        if self._waiting is None:
            batch = self._from_disk(limit)
            if batch:
                return batch
        waiting = self._waiting
        if not waiting:
            return []
        taken = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        self._taken = taken[-1][0]
        return taken

    def commit(self, position: int) -> None:
        """All up to this position is dealt with. Some of it comes again after a crash: the cursor on disk is up to a
        second behind, or five where nothing follows.
        """
        self.committed = max(self.committed, position)
        now = self._outbox.now()
        if now >= self._due:
            self._due = now + _SAVE
            self.save()

    def save(self) -> None:
        """Write the cursor where it has moved; a disk that takes nothing is only told of."""
        if self._saved == self.committed:
            return
        try:
            self._cursor.save(self.committed)
        except OSError as error:
            logger.warning("a cursor could not be written: %s", error)
        else:
            self._saved = self.committed

    def close(self) -> None:
        """`batches` ends when it has nothing more to give."""
        self._closed = True
        self._news.set()

    def offer(self, position: int, record: Record) -> None:
        """The outbox has one more."""
        waiting = self._waiting
        if waiting is not None:
            waiting.append((position, record))
            if len(waiting) > _IN_MEMORY:
                self._waiting, self._tail = None, Tail(self._outbox.folder, self._taken)
        self._news.set()

    def _from_disk(self, limit: int) -> Batch:
        try:
            batch = [(each.position, each.record) for each in self._tail.read(limit)]
        except OSError as error:
            logger.warning("the outbox could not be read: %s", error)
            return []
        self._taken = self._tail.position
        if self._taken >= self._outbox.end:  # nobody writes between these two lines: from here on it is all in memory
            self._tail.close()
            self._waiting = deque()
        return batch


class Outbox:
    """The records of one instance in files of `folder`, at most `max_size` bytes of them.

    A file goes when every reader has committed all of it; without any reader it stays. Over `max_size` the oldest file
    goes all the same: `dropped` counts its records that a reader had not committed. What the disk refuses is counted
    in `lost`, and readers that keep up get it nevertheless. `now` is Unix time. Raises OSError when it cannot be
    opened, and never after.
    """

    name = "records"

    def __init__(self, folder: Path, max_size: int, now: Callable[[], float] = time.time) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.lost = 0
        self.dropped = 0
        self.now = now
        self._max_size = max_size
        self._segment_size = min(_LARGEST, max(1, max_size // _SEGMENTS))
        self._starts = starts_in(folder)
        self._counts: dict[int, int] = {}
        self._readers: dict[str, Reader] = {}
        self._others: dict[str, Cursor] = {}
        self._committed: dict[str, int] = {}
        self._file: int | None = None
        self._began: float | None = None
        self.end = 0
        self._recover()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.end - (self._starts[0] if self._starts else self.end)

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of all readers, in this process and in others."""
        return (*self._readers, *self._others)

    def write(self, record: Record) -> None:
        """Append one record without texts."""
        self.append(record)

    def append(self, record: Record, texts: bytes = b"") -> None:
        """Append one record: it survives the end of this process, however that comes."""
        frame = frame_of(record, texts)
        if self._file is None or self.end - self._starts[-1] + len(frame) > self._segment_size:
            self._turn()
        if self._file is not None and self._put(self._file, frame):
            self.end += len(frame)
            self._counts[self._starts[-1]] = self._counts.get(self._starts[-1], 0) + 1
            if self._began is None:
                self._began = self.now()
        else:
            self.lost += 1
        for reader in self._readers.values():
            reader.offer(self.end, record)

    def reader(self, name: str) -> Reader:
        """A reader in this process, which begins where it ended, or with the oldest record there is."""
        if name not in self._readers:
            cursor = Cursor(self.folder, name)
            self._readers[name] = Reader(self, cursor, self._position_of(cursor))
        return self._readers[name]

    def follow(self, name: str) -> None:
        """Count on a reader in another process, which keeps its own cursor in the folder."""
        cursor = Cursor(self.folder, name)
        self._others[name] = cursor
        self._committed[name] = self._position_of(cursor)

    def lag(self, name: str) -> int:
        """Bytes that this reader has not committed; of one in another process, as seen a few seconds ago."""
        reader = self._readers.get(name)
        return reader.lag if reader is not None else max(0, self.end - self._committed.get(name, self.end))

    async def start(self) -> None:
        """Look after the files from now on."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep_house())

    async def aclose(self) -> None:
        """Close the file."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.tidy()
        for reader in self._readers.values():
            reader.close()
        self._close()

    def state(self) -> State:
        """Degraded once anything was lost."""
        return "degraded" if self.lost or self.dropped else "ok"

    def tidy(self) -> None:
        """Write down how far readers are, and remove what everyone has read."""
        for reader in self._readers.values():
            reader.save()
        for name, cursor in self._others.items():
            mark = cursor.load()
            if mark is not None:
                self._committed[name] = mark[0]
        positions = self._positions()
        if not positions:
            return
        passed = min(positions)
        if passed >= self.end and self._began is not None and self.now() - self._began > _OLDEST:
            self._turn()
        while len(self._starts) > 1 and self._starts[1] <= passed:
            self._remove()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            self.tidy()

    def _put(self, file: int, frame: bytes) -> bool:
        """One write; what does not fit whole is taken back, or it would swallow the next."""
        try:
            if os.write(file, frame) == len(frame):
                return True
            os.ftruncate(file, self.end - self._starts[-1])
        except OSError:
            pass
        self._close()  # the next record tries a new file: this one may end in a torn frame
        return False

    def _turn(self) -> None:
        """Begin a new file."""
        self._close()
        while len(self._starts) > 1 and self.size + self._segment_size > self._max_size:
            self._drop()
        try:
            self._file = self._open(self.end)
        except OSError:
            return
        self._began = None
        if not self._starts or self._starts[-1] != self.end:
            self._starts.append(self.end)

    def _open(self, start: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path_of(self.folder, start), flags, 0o600)
        size = os.fstat(file).st_size
        if size > self.end - start:  # a torn frame that could not be taken back
            os.ftruncate(file, self.end - start)
        return file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _positions(self) -> list[int]:
        """How far each reader has come."""
        return [*self._committed.values(), *(reader.committed for reader in self._readers.values())]

    def _drop(self) -> None:
        """Make room: the oldest file goes, read or not."""
        start, end = self._starts[0], self._starts[1]
        if any(position < end for position in self._positions()):
            try:
                self.dropped += self._counts.get(start) or count_frames(path_of(self.folder, start))
            except OSError:
                self.dropped += 1
        self._remove()

    def _remove(self) -> None:
        start = self._starts.pop(0)
        self._counts.pop(start, None)
        path_of(self.folder, start).unlink(missing_ok=True)

    def _recover(self) -> None:
        """Find the end of what was written; a torn frame there is cut off."""
        if not self._starts:
            return
        last = self._starts[-1]
        data = path_of(self.folder, last).read_bytes()
        frames, _ = whole_frames(data)
        self.end = last + (frames[-1][2] if frames else 0)
        self._counts[last] = len(frames)
        self._file = self._open(last)
        if frames:
            self._began = self.now()

    def _position_of(self, cursor: Cursor) -> int:
        mark = cursor.load()
        oldest = self._starts[0] if self._starts else self.end
        position = oldest if mark is None else min(max(mark[0], oldest), self.end)
        try:
            cursor.save(position)
        except OSError as error:
            logger.warning("a cursor could not be written: %s", error)
        return position
