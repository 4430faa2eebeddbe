"""Reading a fake model's name: the grammar stands in `adapters/fake.py`."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

BASES = frozenset({"echo", "fixed", "long", "tools", "json", "reasoning", "refusal", "logprobs"})
_FAULT_NAMES = (
    "refuse dns tls connect-timeout reset fin garbage stall reset-body fin-body stall-body stall-content stall-mid cut"
    " cut-reset cut-clean malformed error-mid error-first error-200 html json-invalid short json-for-stream empty"
)
_DIALECT_NAMES = (
    "crlf cr no-space bom comments ids retry event ping-event empty-data multiline done-space no-done no-finish"
    " last-no-blank no-role role-each no-index no-created no-object no-id choices-null delta-null error-null"
    " tool-calls-null tool-no-index tool-no-id tool-index-1 tool-stop usage-always usage-content usage-each usage-none"
    " usage-no-choices error-text error-event obfuscation"
)
FAULTS = frozenset(_FAULT_NAMES.split())
DIALECTS = frozenset(_DIALECT_NAMES.split())
STATUS_OF = {
    "context_length_exceeded": 400,
    "content_policy_violation": 400,
    "content_filter": 400,
    "unsupported_parameter": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
}
_LOWEST, _HIGHEST = 200, 599


class ScriptError(Exception):
    """A known base with a modifier that is none."""


class Script(msgspec.Struct, frozen=True):
    """What a model name asks for; see the grammar. Times are seconds."""

    name: str
    base: str = "echo"
    words: int = 200
    text: str = "This is a fake answer."
    chunks: int = 0
    calls: int = 1
    dims: int = 1536
    delay: float = 0.0
    first: float = 0.0
    every: float = 0.0
    drip: int = 0
    pace: float = 0.0
    hurt: str = "ok"
    """What happens to a hurt call: a status, the name of an error, the name of a fault, or ok."""
    refuses: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Retry hints, `retry-date` still in seconds."""
    at: int = -1
    fails: int = -1
    per: Literal["model", "user", "text", "key"] = "model"
    seq: tuple[str, ...] = ()
    rate: float = 1.0
    seed: int = 0
    pick: tuple[str, ...] = ()
    sse: frozenset[str] = frozenset()


def _duration(value: str) -> float:
    if value.endswith("ms"):
        return float(value[:-2]) / 1000
    return float(value.removesuffix("s"))


def _hurt(value: str) -> str:
    known = value == "ok" or value in FAULTS or value in STATUS_OF
    if not known and not (value.isdigit() and _LOWEST <= int(value) <= _HIGHEST):
        raise ValueError(f"no such hurt: {value}")
    return value


def _hurts(value: str) -> tuple[str, ...]:
    return tuple(_hurt(each) for each in value.split(","))


def _dialects(value: str) -> frozenset[str]:
    names = frozenset(value.split(","))
    if names - DIALECTS:
        raise ValueError(f"no such dialect: {', '.join(sorted(names - DIALECTS))}")
    return names


def _per(value: str) -> str:
    if value not in {"model", "user", "text", "key"}:
        raise ValueError(value)
    return value


_READ: dict[str, tuple[str, Callable[[str], Any]]] = {
    "text": ("text", lambda value: value.replace("_", " ")),
    "chunks": ("chunks", int),
    "calls": ("calls", int),
    "dims": ("dims", int),
    "delay": ("delay", _duration),
    "first": ("first", _duration),
    "every": ("every", _duration),
    "drip": ("drip", int),
    "pace": ("pace", _duration),
    "status": ("hurt", _hurt),
    "error": ("hurt", _hurt),
    "fault": ("hurt", _hurt),
    "refuses": ("refuses", str),
    "at": ("at", int),
    "fails": ("fails", int),
    "per": ("per", _per),
    "seq": ("seq", _hurts),
    "rate": ("rate", float),
    "seed": ("seed", int),
    "pick": ("pick", _hurts),
    "sse": ("sse", _dialects),
}
_HINTS = {
    "retry-after": "retry-after",
    "retry-after-ms": "retry-after-ms",
    "x-ms-retry-after-ms": "x-ms-retry-after-ms",
    "retry-date": "retry-date",
    "should-retry": "x-should-retry",
}


def _words(base: str, argument: str) -> int:
    if base != "long":
        raise ValueError(f"{base} takes no value")
    return int(argument)


def _unknown(key: str) -> tuple[str, Callable[[str], Any]]:
    raise ValueError(f"no such modifier: {key}")


def read_script(model: str) -> Script:
    """The script a model name stands for; an unknown base is plain echo. Raises ScriptError."""
    first, *modifiers = model.split("+")
    base, _, argument = first.partition("=")
    if base not in BASES:
        return Script(name=model)
    members: dict[str, Any] = {"base": base}
    hints: list[tuple[str, str]] = []
    try:
        if argument:
            members["words"] = _words(base, argument)
        for modifier in modifiers:
            key, _, value = modifier.partition("=")
            if key in _HINTS:
                hints.append((_HINTS[key], value))
                continue
            member, read = _READ.get(key) or _unknown(key)
            members[member] = read(value)
    except ValueError as error:
        raise ScriptError(f"The script {model!r} cannot be read: {error}") from None
    return Script(name=model, headers=tuple(hints), **members)
