"""What is reserved is never less than what a call can cost, and nothing goes out unreserved."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from support.calls import Provider, answers, breaks, make_call, make_route

from policies.attempt import SendOnce
from policies.budget import BudgetConfig, EnforceBudgets
from proxy.call import Budget, Call, Caller, Charge, Record
from proxy.chain import Handler, chain
from proxy.deployments import Route
from proxy.endpoints import COMPLETIONS, EMBEDDINGS, RESPONSES
from proxy.errors import BudgetExceeded, Forbidden, UpstreamUnavailable
from proxy.money import Price, Rates

BUDGETS = (Budget("key:k1", 10**9),)
CALLER = Caller(id="key:k1", budgets=BUDGETS)
PRICES = {
    "cheap": Price(Rates(1_000, 2_000)),
    "dear": Price(Rates(5_000, 10_000), most_output=1000),
    "free": Price(Rates(0)),
    "tiers": Price(Rates(1_000, 2_000), tiers={"priority": Price(Rates(3_000, 6_000))}),
}


class Book:
    """Accounts that remember what was reserved, and refuse when told to."""

    def __init__(self, *, spent: bool = False) -> None:
        self.spent = spent
        self.reserved: list[int] = []
        self.ended: list[str] = []

    async def reserve(self, record: Record, budgets: tuple[Budget, ...], amount: int) -> tuple[Charge, ...]:
        if self.spent:
            raise BudgetExceeded("spent")
        self.reserved.append(amount)
        return tuple(Charge(budget.account, budget.period, 0, amount) for budget in budgets)

    def over(self, call_id: str) -> None:
        self.ended.append(call_id)


def policy(book: Book, config: BudgetConfig | None = None, routes: Sequence[Route] = ()) -> EnforceBudgets:
    by_name = {route.name: route for route in routes}

    def price_of(_provider: str, model: str, _route: str) -> Price | None:
        return PRICES.get(model)

    return EnforceBudgets(config or BudgetConfig(), book, price_of, by_name.__getitem__)


def most(call: Call, config: BudgetConfig | None = None, routes: Sequence[Route] = ()) -> int:
    return policy(Book(), config, routes).most(call)


def call_to(*models: str, prompt: int = 0, caller: Caller = CALLER, **members: Any) -> Call:
    """A call of a budgeted caller; `prompt` are tokens as the read step counts them."""
    call = make_call(route=make_route(Provider(answers), *models), caller=caller, **members)
    call.record.prompt = prompt
    return call


def test_the_most_is_input_with_a_margin_and_the_output_it_may_make() -> None:
    """A third more than was counted, and sixteen tokens."""
    assert most(call_to("cheap", prompt=300, max_tokens=100)) == 416 + 200
    assert most(call_to("cheap", prompt=300, max_completion_tokens=100)) == 416 + 200
    assert most(call_to("cheap", max_tokens=100, max_completion_tokens=50)) == 16 + 200


def test_without_a_limit_it_is_the_assumption_or_the_models_most() -> None:
    """Whichever is less."""
    assert most(call_to("cheap")) == 16 + 2 * 4096
    assert most(call_to("cheap"), BudgetConfig(assume_output=10)) == 16 + 20
    assert most(call_to("dear")) == 16 * 5 + 1000 * 10


def test_every_choice_and_every_prompt_counts() -> None:
    assert most(call_to("cheap", max_tokens=10, n=3)) == 16 + 60
    several = make_call(
        endpoint=COMPLETIONS, route=make_route(Provider(answers), "cheap"), caller=CALLER, prompt=["a", "b"],
        max_tokens=10, best_of=2,
    )  # fmt: skip
    assert most(several) == 16 + 80
    tokens = make_call(
        endpoint=COMPLETIONS, route=make_route(Provider(answers), "cheap"), caller=CALLER, prompt=[1, 2], max_tokens=10
    )
    assert most(tokens) == 16 + 20


def test_embeddings_make_no_text_and_responses_have_their_own_limit() -> None:
    route = make_route(Provider(answers), "cheap")
    assert most(make_call(endpoint=EMBEDDINGS, route=route, caller=CALLER, input="x")) == 16
    responses = make_call(endpoint=RESPONSES, route=route, caller=CALLER, input="x", max_output_tokens=7)
    assert most(responses) == 16 + 14


def test_the_dearest_place_counts_where_the_route_may_lead() -> None:
    """Its own deployments, its fallbacks and those for refused requests."""
    provider = Provider(answers)
    second = make_route(provider, "dear", name="second")
    call = call_to("cheap", "free", max_tokens=10)
    assert most(call) == 16 + 20
    for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        route = make_route(provider, "cheap", **{kind: ("second",)})
        assert most(call.replace(route=route), routes=[second]) == 16 * 5 + 100


def test_a_service_tier_is_reserved_at_the_dearer_of_both() -> None:
    assert most(call_to("tiers", max_tokens=10)) == 16 + 20
    assert most(call_to("tiers", max_tokens=10, service_tier="priority")) == 16 * 3 + 60


@pytest.mark.parametrize("odd", ["ten", -5, 1.5, None, [], 10**30])
def test_a_limit_that_is_none_is_not_believed(odd: object) -> None:
    """The provider will find fault with it; the assumption holds until then."""
    assert most(call_to("cheap", max_tokens=odd)) == 16 + 2 * 4096


@pytest.mark.parametrize("spelt", [b"1e5", b"100000.0", b"1.0E+5", b'"100000"', b'"1e5"'])
def test_a_limit_is_believed_in_any_spelling(spelt: bytes) -> None:
    """Some servers take them all, so that none may get around what must be reserved."""
    call = call_to("cheap")
    for name in ("max_tokens", "max_completion_tokens"):
        head = msgspec.structs.replace(call.head, members={**call.head.members, name: msgspec.Raw(spelt)})
        assert most(call.replace(head=head)) == 16 + 2 * 100_000
    head = msgspec.structs.replace(call.head, members={**call.head.members, "n": msgspec.Raw(b"3.0")})
    assert most(call.replace(head=head)) == 16 + 3 * 2 * 4096


async def test_a_model_without_a_price_is_refused_to_who_has_a_budget() -> None:
    """And to nobody else; and not if the operator says so."""
    book = Book()
    handler = chain([policy(book)], SendOnce(lambda: 0.0))
    with pytest.raises(Forbidden) as caught:
        await handler(call_to("cheap", "unknown"))
    assert caught.value.code == "unpriced_model"
    await handler(call_to("unknown", caller=Caller(id="k2")))
    lenient = chain([policy(book, BudgetConfig(allow_unpriced=True))], SendOnce(lambda: 0.0))
    await lenient(call_to("cheap", "unknown", max_tokens=1))
    assert book.reserved == [18]


async def test_nothing_is_sent_when_the_budget_is_spent() -> None:
    provider = Provider(answers)
    call = make_call(route=make_route(provider, "cheap"), caller=CALLER)
    with pytest.raises(BudgetExceeded):
        await chain([policy(Book(spent=True))], SendOnce(lambda: 0.0))(call)
    assert provider.asked == []


async def test_a_call_holds_its_lease_until_its_reply_is_closed() -> None:
    """The record says what was reserved."""
    book = Book()
    call = call_to("cheap", max_tokens=1)
    reply = await chain([policy(book)], SendOnce(lambda: 0.0))(call)
    assert call.record.charges == (Charge("key:k1", "total", 0, 18),)
    assert book.ended == []
    await reply.aclose("complete")
    assert book.ended == [call.id]


@pytest.mark.parametrize("error", [UpstreamUnavailable("no", kind="status"), asyncio.CancelledError(), RuntimeError()])
async def test_a_call_without_a_reply_is_over(error: BaseException) -> None:
    """However it ended."""
    book = Book()

    async def fails(_call: Call) -> object:
        raise error

    with pytest.raises(type(error)):
        await policy(book)(call_to("cheap"), fails)  # type: ignore[arg-type]
    assert len(book.ended) == 1


async def test_what_costs_nothing_reserves_nothing() -> None:
    """Free models work with a spent budget."""
    book = Book(spent=True)
    handler: Handler = chain([policy(book)], SendOnce(lambda: 0.0))
    await handler(call_to("free"))
    assert book.reserved == []


async def test_who_has_no_budget_is_not_asked() -> None:
    book = Book(spent=True)
    handler: Handler = chain([policy(book)], SendOnce(lambda: 0.0))
    await handler(call_to("cheap", caller=Caller(id="k2")))
    with pytest.raises(UpstreamUnavailable):
        await handler(make_call(route=make_route(Provider(breaks), "cheap"), caller=Caller(id="k2")))
