"""Streams of the Responses API: named events, the last of which says how it ended."""

from typing import Any

import msgspec

from proxy.call import Usage
from proxy.chunks import StreamFault, error_text
from proxy.sse import DONE, frame
from proxy.usage import in_tier, parse_usage

_ENDS_WELL = ("response.completed", "response.incomplete")
_ENDS_BADLY = ("response.failed", "error")


class _View(msgspec.Struct):
    type: str = ""
    sequence_number: int = -1
    response: msgspec.Raw = msgspec.Raw()
    delta: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Response(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: Any = None


_decode = msgspec.json.Decoder(_View).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class ResponseReader:
    """Reads one Responses stream. Content is in hand with the first delta; a terminal event must come last."""

    __slots__ = ("committed", "complete", "deltas", "sequence", "text", "usage")

    def __init__(self) -> None:
        self.committed = False
        self.complete = False
        self.usage: Usage | None = None
        self.deltas = 0
        self.text = 0
        self.sequence = 0
        """The number that the next event would have."""

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        """The event, under its name. Raises StreamFault."""
        if data.startswith(DONE) or self.complete:
            return []
        try:
            if not data.isascii():
                data.decode()
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise StreamFault("malformed", "an event of the stream is not valid JSON") from None
        kind = event.type or name.decode("ascii", "replace")
        if kind in _ENDS_BADLY or (event.error is not None and not event.type):
            raise StreamFault("error_event", _failure(data))
        if kind in _ENDS_WELL:
            self.complete = True
            self.usage = _usage_of(event.response)
        if event.delta:
            self.deltas += 1
            self.text += len(event.delta)
        self.committed = self.committed or self.complete or kind.endswith(".delta")
        self.sequence = event.sequence_number + 1 if event.sequence_number >= 0 else self.sequence + 1
        return [frame(data, kind.encode())]

    def end(self) -> list[bytes]:
        """Nothing more is sent. Raises StreamFault when no terminal event has come."""
        if not self.complete:
            raise StreamFault("cut" if self.committed else "empty", "the stream ended before its answer was complete")
        return []


def _usage_of(response: msgspec.Raw) -> Usage | None:
    """The usage that a response names, if it does."""
    try:
        told = _decode_response(response)
    except msgspec.DecodeError:
        return None
    return in_tier(parse_usage(told.usage), told.service_tier)


def _failure(data: bytes) -> str:
    event = msgspec.json.decode(data)
    response = event.get("response")
    error = response.get("error") if isinstance(response, dict) else event.get("error")
    return error_text(error if error is not None else event)
