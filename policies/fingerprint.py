"""What is the same call, and whether an earlier answer to it could be served: shared by caches and single flight."""

import hashlib
from typing import Any

import msgspec

from proxy.call import Call
from proxy.deployments import Route
from proxy.endpoints import CHAT, COMPLETIONS, EMBEDDINGS
from proxy.wire import Members

_IGNORED = frozenset({"model", "stream", "stream_options", "user", "metadata", "cache"})
"""Members that do not change the answer; the model is in the route's part."""
_SHARED = (CHAT, COMPLETIONS, EMBEDDINGS)
_ONE = (b"1", b"null")

_encoder = msgspec.json.Encoder(order="sorted")


def _literal(digits: str) -> msgspec.Raw:
    """A number that is no integer stays the text it was: nothing else is written like it, and no precision is lost."""
    return msgspec.Raw(digits.encode())


_decoder = msgspec.json.Decoder(float_hook=_literal)


def fingerprint(call: Call, *, partition: str, guards: bytes = b"", without: str = "") -> bytes:
    """32 bytes that are equal only for calls with the same answer: same partition and namespace, endpoint, route and
    deployments, same effective guards, and equal values of every member but `without`, known or not, whatever their
    order or spacing.
    """
    given = (partition, call.cache.namespace, call.endpoint.name, call.route, guards)
    return call.head.derive(("fingerprint", without), given, lambda: _digest(call, partition, guards, without))


def _digest(call: Call, partition: str, guards: bytes, without: str) -> bytes:
    own, space, model = partition.encode(), call.cache.namespace.encode(), call.head.model.encode()
    parts = (own, space, call.endpoint.name.encode(), model, route_identity(call.route), guards)
    lengths = b"%d %d %d %d %d %d\x00" % tuple(map(len, parts))
    return hashlib.sha256(b"".join((lengths, *parts, canonical(call, without)))).digest()


def canonical(call: Call, without: str = "") -> bytes:
    """Every member that can change the answer, but `without`, sorted by name at every depth, without spacing: JSON that
    says the same as the body, so that no two that say something else have it in common.
    """
    members: dict[str, Any] = {
        name: _decoded(raw) for name, raw in call.head.members.items() if name not in _IGNORED and name != without
    }
    return _encoder.encode(members)


def canonical_value(raw: bytes | msgspec.Raw) -> bytes:
    """One JSON value in the same form."""
    return _encoder.encode(_decoded(raw))


def _decoded(raw: bytes | msgspec.Raw) -> object:
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError:  # an integer of thousands of digits, which Python will not read: as it is spelled
        return msgspec.Raw(raw)


def route_identity(route: Route) -> bytes:
    """The deployments that a route's answer can come from, in order."""
    own = [f"{each.provider_name}\x00{each.model}" for each in route.deployments]
    return "\x01".join((route.name, *own, *route.fallbacks)).encode()


def is_shareable(call: Call, temperature_ceiling: float) -> bool:
    """Whether one answer may serve several such calls, and the client does not ask to be kept out of stores."""
    return call.cache.store and why_not_shareable(call, temperature_ceiling) is None


def why_not_shareable(call: Call, temperature_ceiling: float) -> str | None:
    """Why one answer may not serve several such calls; None when it may: one choice, not kept at the provider, not
    sampled hotter than the ceiling (an absent temperature counts as 1.0).
    """
    if call.endpoint not in _SHARED:
        return f"the endpoint {call.endpoint.name}"
    if call.endpoint is EMBEDDINGS:
        return None
    head = call.head
    return head.derive("why not shareable", temperature_ceiling, lambda: _why_not(head.members, temperature_ceiling))


def _why_not(members: Members, temperature_ceiling: float) -> str | None:
    for name in ("n", "best_of"):
        if name in members and bytes(members[name]) not in _ONE:
            return f"{name} is not 1"
    if "store" in members and bytes(members["store"]) == b"true":
        return "store is true"
    if _temperature(members.get("temperature")) > temperature_ceiling:
        return f"its temperature is over {temperature_ceiling:g}"
    return None


def _temperature(member: msgspec.Raw | None) -> float:
    raw = bytes(member) if member is not None else b"null"
    if raw == b"null":
        return 1.0
    try:
        return float(raw)
    except ValueError:
        return float("inf")
