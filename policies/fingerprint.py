"""What is the same call, and whether an earlier answer to it could be served: shared by caches and single flight."""

import hashlib
from typing import Any

import msgspec

from proxy.call import Call
from proxy.deployments import Route
from proxy.endpoints import CHAT, COMPLETIONS, EMBEDDINGS

_IGNORED = frozenset({"model", "stream", "stream_options", "user", "metadata", "cache"})
"""Members that do not change the answer; the model is in the route's part."""
_SHARED = (CHAT, COMPLETIONS, EMBEDDINGS)
_ONE = (b"1", b"null")

_encoder = msgspec.json.Encoder(order="sorted")


def _literal(digits: str) -> str:
    """A number that is no small integer stays the text it was, apart from any string."""
    return f"\x00number {digits}"


_decoder = msgspec.json.Decoder(float_hook=_literal)


def fingerprint(call: Call, *, partition: str, guards: bytes = b"") -> bytes:
    """32 bytes that are equal only for calls with the same answer: same partition, endpoint, route and deployments,
    same effective guards, and equal values of every member, known or not, whatever their order or spacing.
    """
    names = f"{len(partition)}:{partition}{call.endpoint.name}\x00{len(call.head.model)}:{call.head.model}".encode()
    route = route_identity(call.route)
    lengths = b"%d %d %d\x00" % (len(names), len(route), len(guards))
    return hashlib.sha256(b"".join((lengths, names, route, guards, canonical(call)))).digest()


def canonical(call: Call) -> bytes:
    """Every member that can change the answer, sorted by name at every depth, without spacing."""
    members: dict[str, Any] = {
        name: _decoder.decode(raw) for name, raw in call.head.members.items() if name not in _IGNORED
    }
    return _encoder.encode(members)


def route_identity(route: Route) -> bytes:
    """The deployments that a route's answer can come from, in order."""
    own = [f"{each.provider_name}\x00{each.model}" for each in route.deployments]
    return "\x01".join((route.name, *own, *route.fallbacks)).encode()


def is_shareable(call: Call, temperature_ceiling: float) -> bool:
    """Whether one answer may serve several such calls: one choice, not sampled hotter than the ceiling (an absent
    temperature counts as 1.0), not asked to be kept out of stores.
    """
    if call.endpoint not in _SHARED or "no-store" in call.headers.get("cache-control", "").lower():
        return False
    if call.endpoint is EMBEDDINGS:
        return True
    members = call.head.members
    if "n" in members and bytes(members["n"]) not in _ONE:
        return False
    if "store" in members and bytes(members["store"]) == b"true":
        return False
    if "best_of" in members and bytes(members["best_of"]) not in _ONE:
        return False
    return _temperature(members.get("temperature")) <= temperature_ceiling


def _temperature(member: msgspec.Raw | None) -> float:
    raw = bytes(member) if member is not None else b"null"
    if raw == b"null":
        return 1.0
    try:
        return float(raw)
    except ValueError:
        return float("inf")
