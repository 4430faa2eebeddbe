"""Just enough HTTP/1.1 to receive requests, from scratch, so that the fake server owns every byte and every fault."""

import msgspec

_HEAD_LIMIT = 256 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BadHttpError(Exception):
    """The bytes are no HTTP request."""


class Received(msgspec.Struct, frozen=True):
    """One request as received: header names in lower case in `headers`, as sent in `raw_headers`."""

    method: str
    target: str
    version: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may serve another request."""
        token = self.headers.get("connection", "").lower()
        return "keep-alive" in token if self.version == "HTTP/1.0" else "close" not in token


class Receiver:
    """Takes bytes as they come and yields whole requests, one at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Received | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what the socket read."""
        self._buffer += data

    def next(self) -> tuple[Received | None, bytes]:
        """The next whole request if it is there, and what must be written to the client now (100 Continue).

        Raises BadHttpError.
        """
        reply = b""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _HEAD_LIMIT:
                    raise BadHttpError("head too large")
                return None, b""
            self._head = _parse(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if self._head.headers.get("expect", "").lower() == "100-continue":
                reply = _CONTINUE
        head = self._head
        if not (self._chunks() if "chunked" in head.headers.get("transfer-encoding", "") else self._length(head)):
            return None, reply
        whole = msgspec.structs.replace(head, body=bytes(self._body))
        self._head = None
        self._body.clear()
        return whole, reply

    def _length(self, head: Received) -> bool:
        size = int(head.headers.get("content-length") or 0)
        if len(self._buffer) < size:
            return False
        self._body += self._buffer[:size]
        del self._buffer[:size]
        return True

    def _chunks(self) -> bool:
        while (end := self._buffer.find(b"\r\n")) >= 0:
            try:
                size = int(bytes(self._buffer[:end]).partition(b";")[0], 16)
            except ValueError:
                raise BadHttpError("chunk size") from None
            if len(self._buffer) < end + 2 + size + 2:
                return False
            self._body += self._buffer[end + 2 : end + 2 + size]
            del self._buffer[: end + 2 + size + 2]
            if size == 0:
                return True
        return False


def _parse(head: bytes) -> Received:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004  # method, target, version
        raise BadHttpError(first)
    raw = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Received(parts[0], parts[1], parts[2], {name.lower(): value for name, value in raw}, raw, b"")
