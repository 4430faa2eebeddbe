"""What a request presents to say who it is."""

import re
from collections.abc import Mapping

from proxy.errors import BadRequest, Unauthenticated

_OTHERS = ("x-api-key", "api-key")
HEADERS = ("authorization", *_OTHERS)
"""Where keys and tokens stand."""
_KEY = re.compile(r"[!#-+\--\[\]-~]*")
"""Visible ASCII but the comma, the quotation mark and the backslash."""


def presented(headers: Mapping[str, str]) -> str:
    """The one key or token of a request, which `can_be_presented`.

    Raises Unauthenticated (nothing is presented, or nothing that could be a key), BadRequest.
    """
    found = offered(headers)
    if not can_be_presented(found):
        raise bad_key()
    return found


def offered(headers: Mapping[str, str]) -> str:
    """What a request presents: from `Authorization: Bearer`, `x-api-key` or `api-key`; anything, but something.

    Several headers may say the same. Different ones are refused rather than ranked: who stands before us may have
    gone by another one than we would. `headers` are in lower case, repeated ones joined by commas.
    Raises Unauthenticated (nothing is presented), BadRequest.
    """
    found = _bearer(headers.get("authorization", ""))
    for name in _OTHERS:
        if name in headers:
            value = headers[name].strip()
            if value and found and value != found:
                raise BadRequest(
                    "The request presents different keys: leave one of Authorization, x-api-key and api-key.",
                    code="conflicting_credentials",
                )
            found = found or value
    if not found:
        raise Unauthenticated(
            "You didn't provide an API key. Send it as a bearer token: `Authorization: Bearer YOUR_KEY`."
        )
    return found


def can_be_presented(key: str) -> bool:
    """Whether a key consists of what a header can hold, and can be told from a list of keys."""
    return _KEY.fullmatch(key) is not None


def bad_key(message: str = "Incorrect API key provided.") -> Unauthenticated:
    """The error for a key that does not open anything; it never repeats the key."""
    return Unauthenticated(message, code="invalid_api_key")


def _bearer(authorization: str) -> str:
    """The token of a bearer scheme; "" for another scheme, which is for somebody else along the way."""
    if authorization.startswith("Bearer "):
        return authorization[7:].strip()
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
