"""What a virtual key or a user may do, as an administrator says it, and the caller that comes of it."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from proxy.call import NANO, Budget, Caller, Period
from proxy.errors import BadRequest
from proxy.values import Duration

Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Text = Annotated[str, msgspec.Meta(max_length=200)]
Stricter = Literal["shadow", "flag", "redact", "block"]
"""What a guard may be told to do for one caller: `off` would be no action, and could not loosen another."""
Owners = Mapping[str, Budget]
"""The budget of every owner that has one, by name."""

_MOST_USD = 9_000_000_000
"""What a 64-bit count of nano-USD holds."""
BOUNDED = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "n", "best_of", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "top_logprobs", "dimensions",
)  # fmt: skip
"""What may have bounds, as `parameters:` has it; `max_tokens` binds its other names too."""
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What an administrator may say of a key or a user.

    `models` is an allow-list: empty is none, `*` all, a trailing `*` a prefix. `rpm` and `tpm` are requests and tokens
    a minute, `parallel` calls at a time. `budget` is in USD. `expires` is Unix time in seconds. `clamp` says whether
    a parameter outside of its bounds is moved to the nearest or refused. `guards` are actions of guards by their names,
    for this caller: stricter ones than are configured, which laxer ones do not change.
    """

    name: Text = ""
    owner: Text = ""
    models: tuple[Text, ...] = ()
    rpm: Count | None = None
    tpm: Count | None = None
    parallel: Count | None = None
    budget: Decimal | None = None
    period: Period = "total"
    expires: int | None = None
    enabled: bool = True
    tags: tuple[Text, ...] = ()
    bodies: Literal["full", "redacted", "off"] | None = None
    bounds: dict[str, tuple[float, float]] = {}
    clamp: bool | None = None
    guards: dict[Text, Stricter] = {}
    role: Literal["user", "admin"] = "user"


def merge(old: Grants, changes: Mapping[str, Any], now: float) -> Grants:
    """`old` with these members changed, as they came in JSON. Raises BadRequest that names the member at fault.

    `expires` may also be a duration from now (`30d`) or a date and time in RFC 3339.
    """
    known = {field.name for field in msgspec.structs.fields(Grants)}
    merged = msgspec.structs.asdict(old)
    for name, value in changes.items():
        if name not in known:
            raise BadRequest(f"Unknown parameter: '{name[:100]}'.", param=name[:100], code="unknown_parameter")
        merged[name] = _instant(value, now) if name == "expires" else value
        try:
            msgspec.convert({name: merged[name]}, Grants)
        except msgspec.ValidationError as error:
            raise BadRequest(f"Invalid '{name}': {error}.", param=name, code="invalid_type") from None
    grants = msgspec.convert(merged, Grants)
    if grants.budget is not None:
        nano(grants.budget)
    if "bounds" in changes:  # what was taken before stands in nobody's way: such a key can still be disabled
        _check_bounds(grants.bounds)
    return grants


def _check_bounds(bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raises BadRequest: a bound that binds nothing would be none, and nobody would be told."""
    for name, (low, high) in bounds.items():
        if name not in BOUNDED:
            raise BadRequest(f"Invalid 'bounds': {name[:100]} is none of {', '.join(BOUNDED)}.", param="bounds")
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise BadRequest(f"Invalid 'bounds': {name} has no value between {low} and {high}.", param="bounds")


def nano(usd: Decimal) -> int:
    """USD in whole nano-USD. Raises BadRequest when it is not a whole number of them, negative or beyond counting."""
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise BadRequest(f"Invalid 'budget': it must be from 0 to {_MOST_USD} USD.", param="budget")
    amount = usd * NANO
    if amount != int(amount):
        raise BadRequest("Invalid 'budget': at most nine digits after the point.", param="budget")
    return int(amount)


def usd(amount: int) -> Decimal:
    """nano-USD in USD."""
    return (Decimal(amount) / NANO).normalize() + 0


def _instant(value: Any, now: float) -> Any:
    """Unix time out of a duration from now or a date; anything else is left for the type check to judge."""
    if not isinstance(value, str):
        return value
    try:
        return int(now + Duration.parse(value))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise BadRequest(
            "Invalid 'expires': expected Unix seconds, a duration such as 30d, or 2027-01-31T00:00:00Z.",
            param="expires",
            code="invalid_type",
        ) from None
    return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp())


def user_name(name: object) -> str:
    """A name fit for a user. Raises BadRequest."""
    if not isinstance(name, str) or not _USER_NAME.fullmatch(name):
        raise BadRequest("Invalid 'name': letters, digits and ._@+- only, at most 128.", param="name")
    return name


def caller_of(grants: Grants, *, id: str, kind: Literal["key", "token"], owners: Owners) -> Caller:  # noqa: A002 - the field's name
    """The caller that these grants make. Answers are shared among callers of one owner; without one, with nobody."""
    budgets = []
    if grants.budget is not None:
        budgets.append(Budget(account=id, amount=nano(grants.budget), period=grants.period))
    if grants.owner in owners:
        budgets.append(owners[grants.owner])
    return Caller(
        id=id,
        owner=grants.owner,
        partition=f"owner:{grants.owner}" if grants.owner else id,
        models=grants.models,
        kind=kind,
        is_admin=grants.role == "admin",
        requests=grants.rpm,
        tokens=grants.tpm,
        parallel=grants.parallel,
        budgets=tuple(budgets),
        bounds=grants.bounds,
        clamp=grants.clamp,
        guards=grants.guards,
        tags=grants.tags,
        bodies=grants.bodies,
    )
