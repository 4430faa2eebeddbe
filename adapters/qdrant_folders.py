"""Where a collection's shards are on disk, and how a new one comes to be without a wait.

The engine takes half a second to make a shard on a busy disk, and ten milliseconds to open one. So an empty one is
made once, as a pattern, and the next shard's folder is a copy of it that was made beforehand, in a thread.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adapters.qdrant_shard import Shard
from proxy.entries import StoreUnavailable

BROKEN = ".broken"
_DROPPED = ".dropped"
_OPENING = ".opening"
_CHANCES = 2
"""How often opening a shard may end the process before it is set aside: once it may have been killed by chance."""
_PATTERN, _SPARE, _PART = "pattern", "spare", "part"
_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)


class Folders:
    """The folders of one collection: `000001` and so on, each with a shard."""

    def __init__(self, root: Path, dims: int) -> None:
        self._root = root
        self._dims = dims

    @property
    def has_spare(self) -> bool:
        """Whether the next folder is there already."""
        return (self._root / _SPARE).exists()

    def existing(self) -> list[Path]:
        """Those with a shard, oldest first. Makes the root."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(each for each in self._root.iterdir() if each.name.isdigit())

    @contextlib.contextmanager
    def trying(self, folder: Path) -> Iterator[None]:
        """Around the first use of what may be damaged. Raises StoreUnavailable where the process ended in it before.

        The engine aborts the process over an absurd length in a file: what is written down beforehand keeps the next
        starts from ending there for ever.
        """
        mark = folder.with_name(folder.name + _OPENING)
        if mark.exists() and mark.stat().st_size >= _CHANCES:
            mark.unlink()
            raise StoreUnavailable("the process ended each time that it was opened")
        with contextlib.suppress(OSError), mark.open("ab") as tries:  # a full disk is no reason not to read
            tries.write(b".")
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def begin(self) -> Shard:
        """A new shard in the next folder. Raises StoreUnavailable."""
        try:
            if not self.has_spare:
                self._make_spare()
            taken = [int(each.name.partition(".")[0]) for each in self._root.iterdir() if each.name[:1].isdigit()]
            folder = (self._root / _SPARE).rename(self._root / f"{max(taken, default=0) + 1:06}")
            return Shard(folder, self._dims)
        except OSError as error:
            raise StoreUnavailable(f"no new shard: {error}") from error
        except StoreUnavailable:
            shutil.rmtree(self._root / _PATTERN, ignore_errors=True)  # the next try makes another
            raise

    def drop(self, folder: Path) -> None:
        """Have a shard's folder removed soon; it is no shard's from now on."""
        with contextlib.suppress(OSError):
            folder.rename(folder.with_name(folder.name + _DROPPED))

    async def tend(self) -> None:
        """Have the next folder ready, and remove dropped ones. Raises StoreUnavailable."""
        dropped = self._root.glob(f"*{_DROPPED}")
        try:
            if not self.has_spare:
                await asyncio.to_thread(self._make_spare)
            for folder in dropped:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        except OSError as error:
            raise StoreUnavailable(f"no folder for a new shard: {error}") from error

    def _make_spare(self) -> None:
        pattern, part = self._root / _PATTERN, self._root / _PART
        if not pattern.exists():
            Shard(pattern, self._dims).close()
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(pattern, part, copy_function=_copy_sparse)
        part.rename(self._root / _SPARE)


def set_aside(folder: Path) -> Path:
    """Move a folder out of the way, over what was moved there before. Raises OSError."""
    target = folder.with_name(folder.name + BROKEN)
    shutil.rmtree(target, ignore_errors=True)
    return folder.rename(target)


def _copy_sparse(source: str, target: str) -> None:
    """Copy a file without writing its zeros: the engine makes its files far larger than what is in them."""
    with Path(source).open("rb") as given, Path(target).open("wb") as made:
        while block := given.read(_BLOCK):
            if block == _ZEROS[: len(block)]:
                made.seek(len(block), os.SEEK_CUR)
            else:
                made.write(block)
        made.truncate()
