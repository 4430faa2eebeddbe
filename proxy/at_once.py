"""What is all there, past ASGI's messages: a body that has arrived, and an answer in one write, whose head would else be
a write, and wake the client, of its own.
"""

from collections.abc import Iterable

from litestar.types import Receive, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

CLOSE = (b"connection", b"close")
"""The header with which an answer ends its connection."""


def body_at_once(receive: Receive) -> bytes | None:
    """The whole body, taken as `receive` would give it; None, and nothing done, while there is more to wait for, or to
    say to the client first.
    """
    cycle = getattr(receive, "__self__", None)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.more_body
        or cycle.waiting_for_100_continue
        or cycle.disconnected
        or cycle.response_complete
    ):
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.flow.resume_reading()
    cycle.message_event.clear()
    return body


def write_at_once(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
    """Write head and body and end the response; False, and nothing done, where only ASGI's own way will do.

    It will do for another server than uvicorn, a HEAD, a client that has left and one that does not read. `headers`
    have the body's length, lower-case names and no byte that could end a line.
    """
    cycle = getattr(send, "__self__", None)
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.response_started
        or cycle.disconnected
        or cycle.flow.write_paused
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    standing = cycle.default_headers
    parts = [
        STATUS_LINE[status],
        *[b"%b: %b\r\n" % each for each in standing],
        *[b"%b: %b\r\n" % each for each in headers],
    ]
    if not cycle.keep_alive and CLOSE not in standing:
        parts.append(b"connection: close\r\n")
    parts += (b"\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    if not cycle.keep_alive or CLOSE in standing:
        cycle.transport.close()
    cycle.on_response()
    return True
