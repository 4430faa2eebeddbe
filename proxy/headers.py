"""The headers of a request, as policies see them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

_HEADERS = {
    name.encode(): name
    for name in (
        "authorization",
        "x-api-key",
        "api-key",
        "content-type",
        "content-encoding",
        "cache-control",
        "host",
        "origin",
        "x-forwarded-for",
        "x-client-request-id",
        "x-request-id",
        "x-session-id",
        "x-should-retry",
    )
}
_IDS = frozenset({"x-client-request-id", "x-request-id"})
"""They name one request, and no policy takes notice of them."""
_OURS = b"x-lockgate-"
_REMEMBERED = 256
_MOST = 64
"""Headers of a request that is remembered."""


class Headers(NamedTuple):
    """Those on the list, in lower case, repeated ones joined by commas. `said` is a digest, equal for requests whose headers
    say the same to every policy.
    """

    by_name: Mapping[str, str]
    said: bytes


class HeadersRead:
    """Reads headers, and remembers those of some requests: a client sends mostly the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[bytes, bytes], ...], Headers] = {}

    def of(self, fields: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Names are in lower case, as ASGI has them."""
        key = tuple(fields)
        headers = self._known.get(key)
        if headers is None:
            headers = _read(key)
            if len(key) <= _MOST:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = headers
        return headers


def _read(fields: Iterable[tuple[bytes, bytes]]) -> Headers:
    headers: dict[str, str] = {}
    for name, value in fields:
        key = _HEADERS.get(name)
        if key is None:
            if not name.startswith(_OURS):
                continue
            key = name.decode("latin-1")
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text  # RFC 9110 §5.3
    said = [each for each in sorted(headers.items()) if each[0] not in _IDS]
    return Headers(headers, hashlib.sha256(msgspec.json.encode(said)).digest())
