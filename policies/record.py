"""One line a call: sealed when the call is over, whatever became of it."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from proxy.call import Call, Outcome, Record
from proxy.chain import Handler
from proxy.errors import GatewayError, GuardBlocked
from proxy.reply import Reply

_RECENT = 1000


class Sink(Protocol):
    """Where sealed records go. Never raises: a full disk must not fail a call."""

    def write(self, record: Record) -> None:
        """Take one sealed record."""
        ...


class WriteRecord:
    """The outermost policy: seals the record when the reply is closed, or when there is none.

    `now` is Unix time in seconds.
    """

    def __init__(self, sinks: tuple[Sink, ...], now: Callable[[], float]) -> None:
        self._sinks = sinks
        self._now = now

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass the call on and watch how it ends."""
        record = call.record
        try:
            reply = await next(call)
        except GatewayError as error:
            record.status, record.error = error.http_status, error.code or error.type
            self._seal(record, "guard_blocked" if isinstance(error, GuardBlocked) else "error")
            raise
        except asyncio.CancelledError:
            self._seal(record, "client_disconnect")
            raise
        except BaseException:
            record.status, record.error = 500, "internal_error"
            self._seal(record, "error")
            raise
        record.status = reply.status
        record.first_content = self._now() - record.started

        async def close(outcome: Outcome) -> None:
            self._seal(record, outcome)

        reply.on_close(close)
        return reply

    def _seal(self, record: Record, outcome: Outcome) -> None:
        record.outcome = outcome
        record.duration = self._now() - record.started
        for sink in self._sinks:
            sink.write(record)


class RecordFile:
    """Appends records to `records.jsonl`, one `write` each, so that a line that was written survives `kill -9`.

    At `max_size` bytes the file becomes `records.1.jsonl`. When the disk refuses, the record is counted in `lost`.
    """

    def __init__(self, folder: Path, max_size: int) -> None:
        self._path = folder / "records.jsonl"
        self._previous = folder / "records.1.jsonl"
        self._max_size = max_size
        self._encoder = msgspec.json.Encoder()
        self._file = self._open()
        self._size = os.fstat(self._file).st_size
        self.lost = 0

    def write(self, record: Record) -> None:
        """Append one line."""
        line = self._encoder.encode(record) + b"\n"
        try:
            if self._size + len(line) > self._max_size:
                self._turn()
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: a torn line would swallow the next one
                os.ftruncate(self._file, self._size)
                self.lost += 1
            else:
                self._size += written
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _turn(self) -> None:
        self._path.replace(self._previous)
        os.close(self._file)
        self._file = self._open()
        self._size = 0


class RecentRecords:
    """The last thousand records by call id, in memory, for the operator's questions."""

    def __init__(self, keep: int = _RECENT) -> None:
        self._keep = keep
        self._records: OrderedDict[str, Record] = OrderedDict()

    def write(self, record: Record) -> None:
        """Remember it, and forget the oldest."""
        self._records[record.id] = record
        if len(self._records) > self._keep:
            self._records.popitem(last=False)

    def find(self, call_id: str) -> Record | None:
        """The record of this call, if it is still remembered."""
        return self._records.get(call_id)
