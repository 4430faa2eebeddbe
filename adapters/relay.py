"""One upstream stream on its way to a client: committed at its first content, checked to its end."""

from collections.abc import AsyncIterator

from adapters.transport import Opened, TransportError
from proxy.call import Outcome, Record, Usage
from proxy.chunks import Reader, StreamFault
from proxy.errors import UpstreamInterrupted
from proxy.guess import tokens_of
from proxy.limits import IdleLimit, Limit
from proxy.response_events import ResponseReader
from proxy.sse import EventTooLarge, Framer

_DRAIN = 0.25
"""Seconds given to an upstream to end its body after its last event, so that the connection can be used again."""


class Relay:
    """Pulls events when the client takes them and never ahead: memory is bounded by one read.

    `idle` is the most seconds between two events.
    """

    def __init__(self, opened: Opened, reader: Reader, record: Record, *, idle: float) -> None:
        self._opened = opened
        self._reader = reader
        self._record = record
        self._idle = idle
        self._framer = Framer()
        self._pending: list[bytes] = []
        self._ended = False

    async def commit(self) -> None:
        """Read until content is in hand. Raises StreamFault or TransportError, after which the caller closes."""
        while not self._reader.committed:
            if self._ended:
                raise StreamFault("empty", "the stream ended without content")
            await self._pull()

    async def items(self) -> AsyncIterator[bytes]:
        """The stream's items. Raises UpstreamInterrupted once what came before the failure has been handed over."""
        idle = IdleLimit(self._idle)
        failure: UpstreamInterrupted | None = None
        try:
            while True:
                pending, self._pending = self._pending, []
                self._record.events += len(pending)
                for item in pending:
                    yield item
                if failure is not None:
                    raise failure
                if self._ended:
                    return
                try:
                    with idle:
                        await self._pull()
                except (StreamFault, TransportError, EventTooLarge, TimeoutError) as error:
                    failure = self._interrupted(error)
        finally:
            idle.stop()

    async def release(self, _outcome: Outcome) -> None:
        """Let the connection go: for reuse after a good end, else at once."""
        self._tell_usage()
        try:
            if self._reader.complete:
                with Limit(_DRAIN):
                    while await self._opened.read():
                        pass
        except (TimeoutError, TransportError):
            pass  # the answer was whole; only the connection is lost
        finally:
            self._opened.close()

    async def _pull(self) -> None:
        chunk = await self._opened.read()
        if chunk:
            events = self._framer.feed(chunk)
        else:
            events = self._framer.flush()
            self._ended = True
        reader = self._reader
        for name, data in events:
            self._pending += reader.take(name, data)
            if reader.complete:
                self._finish()
                return
        if self._ended:
            self._pending += reader.end()
            self._finish()

    def _finish(self) -> None:
        """The stream is whole: what it used is known before its last item is handed over."""
        self._ended = True
        self._tell_usage()

    def _tell_usage(self) -> None:
        """The provider's count, or ours of what came: a stream that breaks, and one that is left, has none of its own."""
        reader, record = self._reader, self._record
        if reader.usage is not None:
            record.usage = reader.usage
        else:
            record.usage = Usage(record.prompt, max(reader.deltas, tokens_of(reader.text)), estimated=True)

    def _interrupted(self, error: Exception) -> UpstreamInterrupted:
        self._tell_usage()
        what, kind = _told(error)
        failure = UpstreamInterrupted(f"The provider's stream broke: {what}.", kind=kind)
        if isinstance(self._reader, ResponseReader):
            failure.sequence = self._reader.sequence
        return failure


def _told(error: Exception) -> tuple[str, str]:
    """What the client is told of a broken stream, and the label in the record."""
    if isinstance(error, StreamFault):
        return error.message, error.kind
    if isinstance(error, TransportError):
        return "the connection failed", error.fault
    if isinstance(error, EventTooLarge):
        return "an event is too large", "too_large"
    return "it went silent", "idle"
