"""What was read from bodies that come again and again."""

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from proxy.call import Call, Head
from proxy.guess import tokens_asked
from proxy.wire import numbers_of, read_head

NAME = 200
"""Characters of a model's, an end user's or a session's name in the record: bodies may be megabytes."""
LONGEST = 32 * 1024
"""Bytes of a body that is looked for: to find a longer one takes as long as what is saved."""
_OVERHEAD, _MEMBER = 3000, 500
"""Bytes that a reading holds beside the body, and for each of its members, about."""


class Reading(msgspec.Struct, frozen=True):
    """All that a body says, and what policies have derived from it."""

    head: Head
    prompt: int
    """Tokens, as we estimate them."""
    parameters: dict[str, int | float]
    user: str


def read(call: Call, body: bytes) -> Reading:
    """Read a body. Raises BadRequest."""
    head = read_head(body, call.endpoint, call.path_model)
    return Reading(head, tokens_asked(body), numbers_of(head.members), end_user(head.members))


def end_user(members: Mapping[str, msgspec.Raw]) -> str:
    """The client's own name for whoever it calls for; "" without one. OpenAI's newer name for it comes first."""
    for name in ("safety_identifier", "user"):
        raw = members.get(name)
        if raw is not None and bytes(raw)[:1] == b'"':
            try:
                return msgspec.json.decode(raw, type=str)[:NAME]
            except msgspec.DecodeError:
                return ""  # no string that JSON knows: the provider will say so
    return ""


class Readings:
    """The readings asked for last, up to `limit` bytes of them. A call that is equal to the last byte finds the one of its
    like: nothing is read, or derived, twice.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str | None, bytes], Reading] = OrderedDict()
        self.bytes = 0

    def find(self, call: Call, body: bytes) -> Reading | None:
        """The reading of this body, if it is remembered."""
        if not self._kept or len(body) > LONGEST:
            return None
        key = (call.endpoint.name, call.path_model, body)
        reading = self._kept.get(key)
        if reading is not None:
            self._kept.move_to_end(key)
        return reading

    def keep(self, call: Call, body: bytes, reading: Reading) -> None:
        """Remember it, and forget those unused longest."""
        key = (call.endpoint.name, call.path_model, body)
        if len(body) > LONGEST or key in self._kept:
            return
        self._kept[key] = reading
        self.bytes += _size(body, reading)
        while self.bytes > self._limit:
            (_, _, gone), oldest = self._kept.popitem(last=False)
            self.bytes -= _size(gone, oldest)


def _size(body: bytes, reading: Reading) -> int:
    return len(body) + _OVERHEAD + _MEMBER * len(reading.head.members)
