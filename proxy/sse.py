"""Event streams: any dialect of framing in, (name, data) pairs out; and the frames that the gateway writes."""

Event = tuple[bytes, bytes]
"""An event's name (b"" when it has none) and its data on one line."""

DONE = b"[DONE]"
DONE_ITEM = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n"
"""A comment with a single newline: the one form that every known client takes (WIRE §1.4)."""

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than the framer's limit."""


class Framer:
    """Cuts a byte stream into events. Takes LF, CRLF and CR, `data:` with or without the space, comments, a
    byte order mark, data over several lines, and any split of the bytes; drops blocks without data.

    `limit` is the most bytes one event may have.
    """

    __slots__ = ("_bom", "_buffer", "_plain", "_returns", "_scanned", "_skip_newline", "limit")

    def __init__(self, limit: int = 128 * 1024 * 1024) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._scanned = 0
        self._returns = False
        self._skip_newline = False
        self._bom = True
        self._plain = False
        """Whether nothing is held back and nothing odd was seen."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete. Raises EventTooLarge."""
        if self._plain and _is_one_event(chunk):
            return [(b"", chunk[6:-2])]
        events = self._feed(chunk)
        self._plain = not (self._bom or self._returns or self._buffer)
        return events

    def _feed(self, chunk: bytes) -> list[Event]:
        if self._bom:
            chunk = self._without_bom(chunk)
        if self._returns or b"\r" in chunk:
            chunk = self._without_returns(chunk)
        if not self._buffer and chunk.endswith(b"\n\n"):
            return _events(chunk[:-2].split(b"\n\n"))
        return self._buffered(chunk)

    def flush(self) -> list[Event]:
        """At the end of the stream: a last event that lacks its blank line."""
        rest = bytes(self._buffer).strip(b"\n")
        self._buffer.clear()
        return _events([rest]) if rest else []

    def _buffered(self, chunk: bytes) -> list[Event]:
        buffer = self._buffer
        buffer += chunk
        end = buffer.rfind(b"\n\n", max(0, self._scanned - 1))
        if end < 0:
            self._scanned = len(buffer)
            if len(buffer) > self.limit:
                raise EventTooLarge
            return []
        blocks = bytes(buffer[:end]).split(b"\n\n")
        del buffer[: end + 2]
        self._scanned = 0 if not buffer else len(buffer)
        return _events(blocks)

    def _without_bom(self, chunk: bytes) -> bytes:
        held = bytes(self._buffer) + chunk
        self._buffer.clear()
        if len(held) < len(_BOM) and _BOM.startswith(held):
            self._buffer += held
            return b""
        self._bom = False
        return held.removeprefix(_BOM)

    def _without_returns(self, chunk: bytes) -> bytes:
        """Turn CRLF and CR into LF. JSON never holds a bare CR, so data is not touched."""
        self._returns = True
        if self._skip_newline and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_newline = False
        if chunk.endswith(b"\r"):
            self._skip_newline = True
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _is_one_event(chunk: bytes) -> bool:
    """By far the most common read: one event, whole, on one line."""
    return (
        chunk.startswith(b"data: ")
        and chunk.endswith(b"\n\n")
        and chunk.find(b"\n") == len(chunk) - 2
        and b"\r" not in chunk
    )


def _events(blocks: list[bytes]) -> list[Event]:
    events = []
    for block in blocks:
        if block.startswith(b"data: ") and b"\n" not in block:
            events.append((b"", block[6:]))
        elif event := _parse(block):
            events.append(event)
    return events


def _parse(block: bytes) -> Event | None:
    name = b""
    data = []
    for line in block.split(b"\n"):
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and colon:
            data.append(value)
        elif field == b"event":
            name = value
    joined = b" ".join(data)  # a newline can only stand between tokens of JSON, where a space does as well
    return (name, joined) if joined.strip() else None


def frame(data: bytes, name: bytes = b"") -> bytes:
    """One event as it goes to the client."""
    return b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data
