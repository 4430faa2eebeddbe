"""How records lie on disk: files of checksummed frames, named by where they begin in one endless stream of bytes.

A position counts bytes from the first frame ever written, so positions of later records are larger and a file's name
is the position of its first frame. A frame is its head (bytes of the record, bytes of its texts, CRC-32 of all the
rest; three little-endian 32-bit numbers), the record in MessagePack, and the texts as whoever wrote them encoded them.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from proxy.call import Record

_HEAD = struct.Struct("<III")
_LENGTHS = struct.Struct("<II")
_SUFFIX = ".records"
_LARGEST = 16 * 1024 * 1024
"""Bytes that no frame has: a head that says so is damaged."""
_READ = 256 * 1024
"""Bytes read at a time; a frame that is larger is read whole."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Texts(msgspec.Struct, array_like=True):
    """Excerpts of what a call said and was answered. With `redacted` nobody may see them as they are."""

    bodies: Literal["full", "redacted", "off"]
    request: bytes = b""
    request_cut: bool = False
    """Whether there was more of it."""
    answer: list[bytes] = []
    """The items of the reply."""
    answer_cut: bool = False

    def encode(self) -> bytes:
        """As they stand in a frame."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "Texts":
        """Raises msgspec.DecodeError."""
        return _decode_texts(data)


_decode_texts = msgspec.msgpack.Decoder(Texts).decode


class Stored(NamedTuple):
    """One record as read back; `position` is where the next one begins."""

    position: int
    record: Record
    texts: bytes


def frame_of(record: Record, texts: bytes = b"") -> bytes:
    """The frame of a record and its texts."""
    data = _encode(record)
    lengths = _LENGTHS.pack(len(data), len(texts))
    return b"".join((lengths, _sum(lengths, data, texts).to_bytes(4, "little"), data, texts))


def _sum(lengths: bytes, data: bytes, texts: bytes) -> int:
    check = zlib.crc32(data, zlib.crc32(lengths))
    return zlib.crc32(texts, check) if texts else check


def path_of(folder: Path, start: int) -> Path:
    """The file whose first frame is at this position."""
    return folder / f"{start:020d}{_SUFFIX}"


def starts_in(folder: Path) -> list[int]:
    """Where the files of a folder begin, the oldest first. Raises OSError."""
    names = [path.stem for path in folder.iterdir() if path.suffix == _SUFFIX]
    return sorted(int(name) for name in names if name.isdecimal())


def end_of(folder: Path) -> int:
    """Where the last file ends, torn or not. Raises OSError."""
    starts = starts_in(folder)
    return starts[-1] + path_of(folder, starts[-1]).stat().st_size if starts else 0


def whole_frames(data: bytes, limit: int | None = None) -> tuple[list[tuple[int, int, int]], int]:
    """The sound frames of `data`, up to `limit`, as (start, end of the record, end), and the bytes the next one needs.

    That is 0 where the next frame is not sound, whatever follows.
    """
    found: list[tuple[int, int, int]] = []
    at = 0
    while len(data) - at >= _HEAD.size and len(found) != limit:
        size, texts, check = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        end = start + size + texts
        if not size or end - at > _LARGEST:
            return found, 0
        if end > len(data):
            return found, end - at
        lengths = data[at : at + _LENGTHS.size]
        if _sum(lengths, data[start : start + size], data[start + size : end]) != check:
            return found, 0
        found.append((start, start + size, end))
        at = end
    return found, _HEAD.size


def count_frames(path: Path) -> int:
    """How many frames a file has, as their heads say. Raises OSError."""
    data = path.read_bytes()
    count = at = 0
    while len(data) - at >= _HEAD.size:
        size, texts, _ = _HEAD.unpack_from(data, at)
        at += _HEAD.size + size + texts
        if not size or at > len(data):
            break
        count += 1
    return count


class _Mark(msgspec.Struct, frozen=True):
    position: int
    note: msgspec.Raw = msgspec.Raw(b"null")


class Cursor:
    """How far a reader has come, kept in a file of its own, and a note beside it that changes with it or not at all."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.cursor"

    def load(self) -> tuple[int, bytes] | None:
        """Position and note (JSON); None where there is none yet, or none that can be read."""
        try:
            mark = msgspec.json.decode(self._path.read_bytes(), type=_Mark)
        except (OSError, msgspec.DecodeError):
            return None
        return mark.position, bytes(mark.note)

    def save(self, position: int, note: bytes = b"null") -> None:
        """Put these in place of the last ones. Raises OSError."""
        fresh = self._path.with_suffix(".fresh")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(_Mark(position, msgspec.Raw(note))))
        finally:
            os.close(descriptor)
        fresh.replace(self._path)


class Tail:
    """Reads the records of a folder from a position on, while another process may be writing them.

    Damaged frames, and what was dropped before it was read, are passed over and counted in `skipped`, in bytes. Files
    without any record that can be read cost nothing more.
    """

    def __init__(self, folder: Path, position: int) -> None:
        self._folder = folder
        self._file: int | None = None
        self._start = 0
        self.position = position
        self.skipped = 0

    def read(self, limit: int = 500) -> list[Stored]:
        """The next records, up to `limit` and about 256 kB; none at the end. Raises OSError."""
        while True:
            if self._file is None and not self._open():
                return []
            before = self.position
            found = self._next(limit)
            if found:
                return found
            later = [start for start in starts_in(self._folder) if start > self._start]
            if not later and self.position == before:
                return []
            found = self._next(limit)  # what was written between the last look and the file's end
            if found:
                return found
            if self.position != before:
                continue
            self.skipped += max(0, later[0] - self.position)
            self.position = max(self.position, later[0])
            self.close()

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> bool:
        """Open the file that holds the position, or else the one after it."""
        starts = starts_in(self._folder)
        if not starts:
            return False
        start = max((each for each in starts if each <= self.position), default=starts[0])
        if start > self.position:
            self.skipped += start - self.position
            self.position = start
        try:
            self._file = os.open(path_of(self._folder, start), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # dropped just now
            return self._open()
        self._start = start
        return True

    def _next(self, limit: int) -> list[Stored]:
        if self._file is None:
            return []
        offset = self.position - self._start
        data = os.pread(self._file, _READ, offset)
        frames, needs = whole_frames(data, limit)
        if not frames and needs > len(data):
            data = os.pread(self._file, needs, offset)
            frames, _ = whole_frames(data, limit)
        found = []
        for begin, middle, end in frames:
            try:
                found.append(Stored(self.position + end, _decode(data[begin:middle]), data[middle:end]))
            except msgspec.DecodeError:  # written by another version
                self.skipped += end - begin
        if frames:
            self.position += frames[-1][2]
        return found
