"""What is all there, past ASGI's messages: a body that has arrived, and an answer in one write, whose head would else be
a write, and wake the client, of its own.
"""

from collections.abc import Iterable
from functools import lru_cache

from litestar.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

CLOSE = (b"connection", b"close")
"""The header with which an answer ends its connection."""


def body_at_once(receive: Receive) -> bytes | None:
    """The whole body, taken as `receive` would give it; None, and nothing done, while there is more to wait for, or to
    say to the client first.
    """
    body = arrived(receive)
    if body is None:
        return None
    cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]  # or nothing would have arrived
    cycle.body = bytearray()
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    return body


def arrived(receive: Receive) -> bytes | None:
    """The whole body, left where it is; None as above."""
    cycle = getattr(receive, "__self__", None)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.more_body
        or cycle.waiting_for_100_continue
        or cycle.disconnected
        or cycle.response_complete
    ):
        return None
    return bytes(cycle.body)


def write_at_once(send: Send, status: int, head: bytes, body: bytes) -> bool:
    """Write head and body and end the response; False, and nothing done, where only ASGI's own way will do.

    It will do for another server than uvicorn, a HEAD, a client that has left and one that does not read. The lines of
    `head` have the body's length, lower-case names and no byte that could end a line.
    """
    cycle = _able(send)
    if cycle is None:
        return False
    closes = not cycle.keep_alive or CLOSE in cycle.default_headers
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((*_opening(cycle, status), head, b"\r\n", body)))
    cycle.message_event.set()
    if closes:
        cycle.transport.close()
    cycle.on_response()
    return True


def start_at_once(send: Send, status: int, head: bytes) -> bool:
    """Write the head of a response whose length nobody knows yet; False, and nothing done, as above."""
    cycle = _able(send)
    if cycle is None:
        return False
    if CLOSE in cycle.default_headers:
        cycle.keep_alive = False
    cycle.response_started = cycle.chunked_encoding = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((*_opening(cycle, status), head, b"transfer-encoding: chunked\r\n\r\n")))
    return True


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """The lines of a head as ASGI wants them."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[:-1])]


def lines_of(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The other way round."""
    return b"".join([b"%b: %b\r\n" % each for each in fields])


def _able(send: Send) -> RequestResponseCycle | None:
    """The response that `send` is of, when it can be written to past it."""
    cycle = getattr(send, "__self__", None)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.response_started
        or cycle.disconnected
        or cycle.flow.write_paused
        or cycle.scope["method"] == "HEAD"
    ):
        return None
    return cycle


def _opening(cycle: RequestResponseCycle, status: int) -> tuple[bytes, bytes, bytes]:
    """Status line, the server's own headers, and whether this is the last answer on its connection."""
    standing = cycle.default_headers
    close = b"" if cycle.keep_alive or CLOSE in standing else b"connection: close\r\n"
    return STATUS_LINE[status], _standing_lines(*standing), close


@lru_cache(8)
def _standing_lines(*standing: tuple[bytes, bytes]) -> bytes:
    """They change once a second, with the date."""
    return lines_of(standing)
