"""Bounds of numeric parameters, from the configuration, the route and the caller."""

import math
from collections.abc import Awaitable, Mapping
from functools import partial

import msgspec

from policies.again import NOTHING, Again
from policies.token_estimate import MAX_TOKENS
from proxy.call import Call, Head, Record
from proxy.chain import Handler
from proxy.endpoints import RESPONSES
from proxy.errors import BadRequest, ParameterOutOfBounds
from proxy.reply import Reply
from proxy.wire import Members, kind_of, numbers_of

Bounds = tuple[float, float]
_NULL = b"null"
_ANSWER = "max_tokens"
_REMEMBERED = 1024


class ParametersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The least and the most of each parameter. A route's own take the place of those at the top, one by one.

    `max_tokens` binds `max_completion_tokens` and `max_output_tokens` too. With `clamp` a value outside is moved to
    the nearest bound; without it the call is refused.
    """

    temperature: Bounds | None = None
    top_p: Bounds | None = None
    top_k: Bounds | None = None
    min_p: Bounds | None = None
    max_tokens: Bounds | None = None
    n: Bounds | None = None
    best_of: Bounds | None = None
    frequency_penalty: Bounds | None = None
    presence_penalty: Bounds | None = None
    repetition_penalty: Bounds | None = None
    top_logprobs: Bounds | None = None
    dimensions: Bounds | None = None
    clamp: bool | None = None

    def problems(self) -> list[str]:
        """What cannot be meant."""
        return [
            f"{name}: the bounds must be two numbers, the lower one first"
            for name, (low, high) in self.bounds().items()
            if not (math.isfinite(low) and math.isfinite(high) and low <= high)
        ]

    def bounds(self) -> dict[str, Bounds]:
        """Those that are set, by the name of the member they bind."""
        return {
            name: value
            for name in self.__struct_fields__
            if name != "clamp" and (value := getattr(self, name)) is not None
        }


class _Rules(msgspec.Struct, frozen=True):
    """Bounds of every member that has some, `max_tokens` under each of its names."""

    bounds: tuple[tuple[str, float, float], ...]
    clamp: bool
    answer: float
    """The most tokens of an answer."""


class _Bound(msgspec.Struct, frozen=True):
    """A head within its bounds: what was changed to bring it there, and to which numbers."""

    head: Head
    changed: tuple[str, ...]
    numbers: dict[str, int | float]


class Parameters:
    """Holds a call to the bounds of its route and its caller; a caller's can only narrow them. Whether a value outside is
    moved or refused is the caller's choice before the route's.

    Raises ParameterOutOfBounds, which names parameter and bounds, or BadRequest for what is no number. An absent or
    null parameter is left to the provider, but for the bound of an answer's tokens: that is written into the call,
    since a bound that is evaded by saying nothing would be none. What is changed stands in `record.changed`.
    """

    def __init__(self, config: ParametersConfig) -> None:
        self._config = config
        self._known: dict[tuple[int, int, bool | None], tuple[object, object, _Rules]] = {}

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Pass the call on as it is, or changed."""
        return next(self.held(call))

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """What is changed is the same."""
        bound = self._bound(call)
        if bound is None:
            return call, NOTHING
        return call.replace(head=bound.head), Again(act=partial(_note, bound))

    def held(self, call: Call) -> Call:
        """The call within its bounds. Raises ParameterOutOfBounds, BadRequest."""
        bound = self._bound(call)
        if bound is None:
            return call
        _note(bound, call.record)
        return call.replace(head=bound.head)

    def _bound(self, call: Call) -> _Bound | None:
        rules = self._rules(call)
        return call.head.derive("bounds", rules, lambda: _bound(call, rules))

    def _rules(self, call: Call) -> _Rules:
        """Made once for each route and each caller's bounds, which are told apart by identity and so kept alive."""
        own: ParametersConfig | None = call.route.parameters
        narrower, clamp = call.caller.bounds or None, call.caller.clamp
        known = self._known.get((id(own), id(narrower), clamp))
        if known is not None:
            return known[2]
        rules = _rules_of(self._config, own, narrower or {}, clamp)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[(id(own), id(narrower), clamp)] = (own, narrower, rules)
        return rules


def _note(bound: _Bound, record: Record) -> None:
    record.changed = [*record.changed, *bound.changed]
    record.parameters = {**record.parameters, **bound.numbers}


def _bound(call: Call, rules: _Rules) -> _Bound | None:
    """What the rules make of it; None when it is as they say. Raises ParameterOutOfBounds, BadRequest."""
    members = call.head.members
    changed: Members = {}
    answer_is_bound = False
    for name, low, high in rules.bounds:
        raw = members.get(name)
        if raw is None:
            continue
        value = _number(name, raw)
        if value is None:
            continue
        if name in MAX_TOKENS:
            answer_is_bound = True
        if low <= value <= high:
            continue
        if not rules.clamp or low > high:
            raise ParameterOutOfBounds(f"'{name}' must be between {_spelt(low)} and {_spelt(high)}.", param=name)
        changed[name] = msgspec.Raw(_spelt(low if value < low else high).encode())
    if rules.answer < math.inf and not answer_is_bound and call.endpoint.dialect is not None:
        changed[_answer_name(call, members)] = msgspec.Raw(_spelt(rules.answer).encode())
    if not changed:
        return None
    return _Bound(call.head.with_members({**members, **changed}), tuple(sorted(changed)), numbers_of(changed))


def told(top: ParametersConfig, own: ParametersConfig | None) -> str:
    """What a call on a route with these bounds of its own meets, in a line."""
    every = {**top.bounds(), **(own or ParametersConfig()).bounds()}
    parts = [f"{name} {_spelt(low)} to {_spelt(high)}" for name, (low, high) in every.items()]
    return f"bounds, {'clamped' if _clamps(top, own) else 'refused outside'}: {', '.join(parts) or 'none'}"


def _clamps(top: ParametersConfig, own: ParametersConfig | None) -> bool:
    return bool(own.clamp if own is not None and own.clamp is not None else top.clamp)


def _rules_of(
    top: ParametersConfig, own: ParametersConfig | None, narrower: Mapping[str, Bounds], clamp: bool | None
) -> _Rules:
    every = _by_member({**top.bounds(), **(own or ParametersConfig()).bounds()})
    for name, (low, high) in _by_member(narrower).items():
        outer_low, outer_high = every.get(name, (low, high))
        every[name] = (max(low, outer_low), min(high, outer_high))
    return _Rules(
        tuple((name, low, high) for name, (low, high) in every.items()),
        _clamps(top, own) if clamp is None else clamp,
        every[_ANSWER][1] if _ANSWER in every else math.inf,
    )


def _by_member(bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    if _ANSWER not in bounds:
        return dict(bounds)
    return {**dict.fromkeys(MAX_TOKENS, bounds[_ANSWER]), **bounds}


def _number(name: str, raw: msgspec.Raw) -> float | None:
    """A JSON number, None for null. One too large for a float is infinite and thereby outside."""
    try:
        return float(raw)
    except ValueError:
        if bytes(raw) == _NULL:
            return None
    raise BadRequest(
        f"Invalid type for '{name}': expected a number, but got {kind_of(raw)} instead.",
        param=name,
        code="invalid_type",
    )


def _spelt(value: float) -> str:
    """As JSON, whole numbers without a point: token counts are integers to every API."""
    return str(int(value)) if float(value).is_integer() else repr(value)


def _answer_name(call: Call, members: Members) -> str:
    """The name that the client gave a null, else the one that the endpoint knows."""
    default = MAX_TOKENS[2] if call.endpoint is RESPONSES else MAX_TOKENS[0]
    return next((name for name in MAX_TOKENS if name in members), default)
