"""One line a call: sealed when the call is over, whatever became of it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

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

    def latest(self) -> Iterator[Record]:
        """All that are remembered, the last one first. Only valid until the next is written."""
        return reversed(self._records.values())

    def find(self, call_id: str) -> Record | None:
        """The record of this call, if it is still remembered."""
        return self._records.get(call_id)
