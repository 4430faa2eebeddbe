"""What a provider's failed answer means: one table for every OpenAI-compatible provider."""

import email.utils
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.transport import TransportError
from proxy.chunks import StreamFault, error_text
from proxy.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamLimited,
    UpstreamMissing,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

_DENIED = (401, 402, 403)
_AGAIN = (408, 409, 425)
_CLIENT, _SERVER = 400, 500
_MISSING, _LIMITED = 404, 429


def from_status(status: int, headers: Mapping[str, str], body: bytes, now: float) -> UpstreamError:
    """The error for a status that is not a success. `now` is Unix time, for dates in Retry-After."""
    error = _error_member(body)
    code = _text(error, "code")
    wait = retry_after(headers, now)
    if status in _DENIED:
        return UpstreamDenied("The provider rejected the gateway's credentials.", kind="denied", upstream_status=status)
    if status == _MISSING:
        return UpstreamMissing("The provider does not have this model.", kind="missing", upstream_status=status)
    if status == _LIMITED:
        exhausted = "insufficient_quota" in (code, _text(error, "type"))
        return UpstreamLimited("The provider's rate limit is reached.", retry_after=wait, exhausted=exhausted)
    if _CLIENT <= status < _SERVER and status not in _AGAIN:
        raw = body if isinstance(error, dict) and isinstance(error.get("message"), str) else _wrapped(error)
        return UpstreamRefused(upstream_status=status, raw=raw, code=code)
    return UpstreamUnavailable(
        f"The provider answered with status {status}.", kind="status", upstream_status=status, retry_after=wait
    )


def from_transport(error: TransportError) -> UpstreamError:
    """The error for an exchange that failed below HTTP."""
    if error.fault in ("connect_timeout", "timeout"):
        return UpstreamTimeout("The provider did not answer in time.", kind=error.fault)
    return UpstreamUnavailable("The provider could not be reached or broke off.", kind=error.fault)


def from_stream(fault: StreamFault, status: int) -> UpstreamError:
    """The error for a stream that was no good before its first content."""
    return UpstreamUnavailable(
        "The provider's stream failed before its first content.", kind=fault.kind, upstream_status=status
    )


def bad_answer(status: int, kind: str) -> UpstreamError:
    """The error for a success that is no answer: HTML, broken JSON, an error object."""
    return UpstreamUnavailable("The provider's answer is not a valid one.", kind=kind, upstream_status=status)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """How long the provider asks to wait, in seconds: the millisecond forms first, then seconds or an HTTP date."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < float("inf") else None


def _error_member(body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's OpenAI endpoint wraps its errors in a list
    return value.get("error", value.get("detail")) if isinstance(value, dict) else None


def _text(error: Any, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


def _wrapped(error: Any) -> bytes:
    message = error_text(error) if error is not None else "The provider refused the request."
    return msgspec.json.encode(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    )
