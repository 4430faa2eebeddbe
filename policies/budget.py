"""Budgets: what a call may cost at most is reserved before it goes out, and its cost takes that place afterwards."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from proxy.call import Budget, Call, Charge, Outcome, Record
from proxy.chain import Handler
from proxy.deployments import Route
from proxy.endpoints import CHAT, COMPLETIONS, RESPONSES
from proxy.errors import Forbidden
from proxy.money import Price, most_of
from proxy.reply import Reply
from proxy.values import Duration, duration

PriceOf = Callable[[str, str, str], Price | None]

_MARGIN = 16
"""Tokens that a vendor may wrap around a request."""
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MAKES_TEXT = (CHAT, COMPLETIONS, RESPONSES)
_LARGEST = 2**53
_DIGITS = len(str(_LARGEST))
"""A larger count is a mistake: no provider takes it."""


class BudgetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`assume_output`: tokens that a call without a limit of its own is taken to make, or the model's most if fewer.

    `allow_unpriced`: callers with a budget may use models without a price, which then cost nothing. `lease`: how long
    after an instance's death the calls it had in flight are settled.
    """

    assume_output: int = 4096
    allow_unpriced: bool = False
    lease: Duration = duration("10m")

    def problems(self) -> list[str]:
        """What cannot be meant."""
        problems = ["assume_output: must be at least 1"] if self.assume_output < 1 else []
        return problems + (["lease: must be at least 1s"] if self.lease < 1 else [])


class Accounts(Protocol):
    """Where budgets are kept, for every instance alike."""

    async def reserve(self, record: Record, budgets: tuple[Budget, ...], amount: int) -> tuple[Charge, ...]:
        """Reserve `amount` nano-USD of each. Raises BudgetExceeded, and Overloaded when nobody can tell."""
        ...

    def over(self, call_id: str) -> None:
        """The call has ended: its record settles what it holds."""
        ...


class _Prices(NamedTuple):
    """Of all places where a route may lead; and one that has none."""

    known: tuple[Price, ...]
    unpriced: str


class EnforceBudgets:
    """Lets a call go out only when every budget of its caller has room for the most that it can cost.

    Nothing is given back here: the record of a call, however it ended, settles what was reserved for it. Fails closed:
    without the database callers with a budget are refused, others are not asked. Raises BudgetExceeded, Overloaded and,
    for a model without a price, Forbidden.
    """

    def __init__(
        self, config: BudgetConfig, accounts: Accounts, price_of: PriceOf, find_route: Callable[[str], Route]
    ) -> None:
        self._config = config
        self._accounts = accounts
        self._price_of = price_of
        self._find_route = find_route

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Reserve, and pass the call on."""
        budgets = call.caller.budgets
        if not budgets:
            return await next(call)
        most = self.most(call)
        if not most:
            return await next(call)
        call.record.charges = await self._accounts.reserve(call.record, budgets, most)
        try:
            reply = await next(call)
        except BaseException:
            self._accounts.over(call.id)
            raise

        async def close(_outcome: Outcome) -> None:
            self._accounts.over(call.id)

        reply.on_close(close)
        return reply

    def most(self, call: Call) -> int:
        """nano-USD: what this call costs at most, wherever its route may lead. Raises Forbidden."""
        prices = self._prices(call.route)
        if prices.unpriced and not self._config.allow_unpriced:
            raise Forbidden(
                f"The model '{call.head.model}' has no price, so that callers with a budget may not use it.",
                code="unpriced_model",
                param="model",
            )
        prompt = call.record.prompt * 4 // 3 + _MARGIN
        completion = self._completion(call)
        choices = _choices(call)
        tier = _text(call, "service_tier")
        audio = "audio" in call.head.members or b'"input_audio"' in call.body
        return max(
            (most_of(price, prompt, completion, choices=choices, tier=tier, audio=audio) for price in prices.known),
            default=0,
        )

    def _completion(self, call: Call) -> int:
        if call.endpoint not in _MAKES_TEXT:
            return 0
        return max((_number(call, name) or 0 for name in _LIMITS), default=0) or self._config.assume_output

    def _prices(self, route: Route) -> _Prices:
        routes = [route]
        names = (*route.fallbacks, *route.context_window_fallbacks, *route.content_policy_fallbacks)
        routes += [self._find_route(name) for name in dict.fromkeys(names)]
        known, unpriced = [], ""
        for deployment in (each for one in routes for each in one.deployments):
            price = self._price_of(deployment.provider_name, deployment.model, route.name)
            if price is None:
                unpriced = deployment.model
            else:
                known.append(price)
        return _Prices(tuple(known), unpriced)


def _choices(call: Call) -> int:
    """How many answers are asked for."""
    each = max(_number(call, "n") or 1, _number(call, "best_of") or 1)
    return each * _prompts(call) if call.endpoint is COMPLETIONS else each


def _prompts(call: Call) -> int:
    """A legacy completion may ask several things at once: a list of texts, or of lists of tokens."""
    raw = bytes(call.head.members.get("prompt", b""))
    if not raw.startswith(b"["):
        return 1
    prompts: list[object] = msgspec.json.decode(raw)
    return len(prompts) if prompts and not isinstance(prompts[0], int) else 1


def _number(call: Call, name: str) -> int | None:
    """A member that is a whole number; None where it is absent or every provider will find fault with it.

    `1e5`, `100.0` and `"100"` are numbers too: some servers take them, and what they make is paid for.
    """
    raw = bytes(call.head.members.get(name, b""))
    if raw.isdigit():
        return int(raw) if len(raw) <= _DIGITS else None
    try:
        value = float(raw.strip(b'"'))
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value < _LARGEST else None


def _text(call: Call, name: str) -> str:
    raw = call.head.members.get(name)
    if raw is None or not bytes(raw).startswith(b'"'):
        return ""
    text: str = msgspec.json.decode(raw)
    return text
