"""What a request says of the caches, read once and taken off the body."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from policies.again import NOTHING, Again
from proxy.call import NO_CONTROLS, CacheControls, Call, Caller, Record
from proxy.chain import Handler
from proxy.errors import BadRequest
from proxy.reply import Reply
from proxy.values import Duration
from proxy.wire import kind_of

PartitionBy = Literal["tenant", "key", "shared"]

_PREFIX = "x-lockgate-cache-"
_ASKING = frozenset({"cache-control", *(_PREFIX + name for name in ("ttl", "namespace", "threshold", "mode"))})
_LONGEST = 256
_MEMBER = "cache"
Given = dict[str, Any]


def partition_of(caller: Caller, by: PartitionBy) -> str:
    """Who may share entries with this caller: its tenant, itself alone, or everyone. No two of them look alike."""
    if by == "shared":
        return ""
    return caller.partition if by == "tenant" else f"{len(caller.partition)}:{caller.partition}{caller.id}"


class ReadCacheControls:
    """Puts `call.cache` in place: from `Cache-Control`, from the `x-lockgate-cache-*` headers, and from the member
    `cache` that clients of LiteLLM send, which goes no further. A header counts before the member.

    Raises BadRequest for a value that cannot be read; unknown directives and members are passed over.
    """

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Pass on a call that has its controls, and no member `cache`."""
        return next(_controlled(call))

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """The controls are the same; that the member goes no further is written down."""
        return _controlled(call), Again(act=_note) if _MEMBER in call.head.members else NOTHING


def _controlled(call: Call) -> Call:
    headers, members = call.headers, call.head.members
    if _MEMBER in members:
        rest = {name: raw for name, raw in members.items() if name != _MEMBER}
        _note(call.record)
        call = call.replace(head=call.head.with_members(rest))
    elif _ASKING.isdisjoint(headers):
        return call
    given = {**_member(members.get(_MEMBER)), **_directives(headers.get("cache-control", "")), **_ours(call)}
    return call.replace(cache=_controls(given))


def _note(record: Record) -> None:
    record.changed.append(_MEMBER)


def _controls(given: Given) -> CacheControls:
    mode = given.get("mode", "")
    off = mode == "off"
    return msgspec.structs.replace(
        NO_CONTROLS,
        look_up=not given.get("no-cache") and not off,
        store=not given.get("no-store") and not off,
        only_if_cached=bool(given.get("only-if-cached")),
        max_age=given.get("max-age"),
        ttl=given.get("ttl"),
        namespace=given.get("namespace", ""),
        threshold=given.get("threshold"),
        exact=mode in ("", "exact"),
        semantic=mode in ("", "semantic"),
    )


def _directives(header: str) -> Given:
    """RFC 9111 §5.2.1; a `max-age` that cannot be read means that nothing is fresh enough, and of several the least counts.

    What is not spelled as it should be counts as what it was meant for: a stored answer is served to nobody who wanted
    none.
    """
    given: Given = {}
    for part in header.lower().split(","):
        name, _, value = (each.strip() for each in part.partition(";")[0].partition("="))
        if name in ("no-cache", "no-store", "only-if-cached"):
            given[name] = True
        elif name == "max-age":
            digits = value.strip('"')
            age = float(digits) if digits.isdecimal() else 0.0
            given[name] = min(age, given.get(name, age))
    return given


def _ours(call: Call) -> Given:
    headers = call.headers
    given: Given = {}
    readers: dict[str, Callable[[str, str], object]] = {
        "ttl": _seconds,
        "namespace": _namespace,
        "threshold": _threshold,
        "mode": _mode,
    }
    for name, read in readers.items():
        header = _PREFIX + name
        if header in headers:
            given[name] = read(headers[header].strip(), header)
    return given


def _member(raw: msgspec.Raw | None) -> Given:
    """LiteLLM's `cache: {no-cache, no-store, ttl, s-maxage, namespace}`; `s-max-age` is its other spelling, and counts
    first there as well.
    """
    if raw is None or bytes(raw) == b"null":
        return {}
    member = msgspec.json.decode(raw)
    if not isinstance(member, dict):
        raise BadRequest(
            f"Invalid type for 'cache': expected an object, but got {kind_of(raw)} instead.",
            param=_MEMBER,
            code="invalid_type",
        )
    given: Given = {}
    for name in ("no-cache", "no-store"):
        if member.get(name) is not None:
            given[name] = _flag(member[name], f"{_MEMBER}.{name}")
    for name, ours in (("ttl", "ttl"), ("s-maxage", "max-age"), ("s-max-age", "max-age")):
        if member.get(name) is not None:
            given[ours] = _number(member[name], f"{_MEMBER}.{name}")
    if member.get("namespace") is not None:
        given["namespace"] = _text(member["namespace"], f"{_MEMBER}.namespace")
    return given


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _bad(where, "true or false")  # a text that was meant as yes must not have the answer stored
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise _bad(where, "a number of seconds")
    return float(value)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _bad(where, "a string")
    return _namespace(value, where)


def _seconds(value: str, where: str) -> float:
    try:
        return float(Duration.parse(value)) if value[-1:].isalpha() else _number(float(value), where)
    except ValueError:
        raise _bad(where, "a number of seconds, or a duration such as 10m") from None


def _namespace(value: str, where: str) -> str:
    if not value.isprintable() or len(value) > _LONGEST:
        raise _bad(where, f"at most {_LONGEST} printable characters")
    return value


def _threshold(value: str, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise _bad(where, "a number from 0 to 1")
    return number


def _mode(value: str, where: str) -> str:
    if value not in ("exact", "semantic", "off"):
        raise _bad(where, "exact, semantic or off")
    return value


def _bad(where: str, expected: str) -> BadRequest:
    return BadRequest(f"Invalid value for '{where}': expected {expected}.", param=where, code="invalid_value")
