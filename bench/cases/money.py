"""What money adds to a call: its price, what is reserved of its budget, and its row in the ledger."""

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from calls import a_call, request
from micro import Cases, Timed

from policies.budget import BudgetConfig, EnforceBudgets
from proxy.accounts import Accounts
from proxy.call import Attempt, Budget, Call, Caller, Charge, Record, Usage
from proxy.costs import Costs
from proxy.deployments import Deployment, Route
from proxy.guess import tokens_asked
from proxy.ids import new_id
from proxy.ledger import settle
from proxy.money import Price, Rates, cost_of
from proxy.reply import Reply
from proxy.sql import SqliteStore

_TOGETHER = 50
_BUDGETS = (Budget("key:1", 10**18, "month"),)
_PRICE = Price(Rates(2_500_000, 10_000_000, cached=1_250_000), most_output=16_384)


class Opened(SqliteStore):
    """A store that is open without a loop of its own."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.mkdtemp()) / "lockgate.db")
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._open).result()


class Provider:
    """Never asked."""

    async def __call__(self, _call: Call, _deployment: Deployment, /) -> Reply:
        """The answer."""
        return Reply.whole(b"{}")

    async def aclose(self) -> None:
        """Nothing is held."""


def _record(call_id: str, *, charged: bool) -> Record:
    charges = (Charge("key:1", "month", 0, 1000),) if charged else ()
    return Record(
        id=call_id, endpoint="chat", started=time.time(), caller="key:1", owner="acme", route="gpt-4o",
        provider="openai", upstream_model="gpt-4o", status=200, outcome="complete", cost=123_456, charges=charges,
        attempts=[Attempt("openai", "gpt-4o")], usage=Usage(300, 50, cached=100),
    )  # fmt: skip


def _policy() -> tuple[EnforceBudgets, list[Call]]:
    route = Route("gpt-4o", (Deployment(id="p/m", provider_name="p", model="m", provider=Provider()),))
    accounts = Accounts(Opened(), lease=600, now=time.time)
    policy = EnforceBudgets(BudgetConfig(), accounts, lambda *_: _PRICE, lambda _: route)
    calls = [
        a_call(request(1000)).replace(route=route, caller=Caller(id="key:1", budgets=_BUDGETS))
        for _ in range(_TOGETHER)
    ]
    return policy, calls


async def _next(_call: Call) -> Reply:
    return Reply.whole(b"{}")


async def _budgeted(policy: EnforceBudgets, call: Call) -> None:
    call_id = new_id()
    record = Record(id=call_id, endpoint="chat", started=0.0, prompt=300, caller="key:1")
    reply = await policy(call.replace(id=call_id, record=record), _next)
    await reply.aclose("complete")


def register(cases: Cases) -> None:
    """Prices, budgets, ledger."""
    _register_prices(cases)
    _register_budgets(cases)

    @cases.case("money: settling 500 records without a budget", goal_ns=500 * 15_000)
    def rows() -> Timed:
        return _settling(charged=False)

    @cases.case("money: settling 500 records with a budget", goal_ns=500 * 15_000)
    def charged() -> Timed:
        return _settling(charged=True)


def _settling(*, charged: bool) -> Timed:
    store = Opened()

    async def run() -> None:
        records = [_record(new_id(), charged=charged) for _ in range(500)]
        await store.run(partial(settle, records=records))

    return run


def _register_prices(cases: Cases) -> None:
    @cases.case("money: cost of a usage")
    def cost() -> Timed:
        usage = Usage(300, 50, cached=100)
        return lambda: cost_of(_PRICE, usage)

    @cases.case("money: cost put into a record", goal_ns=3_000)
    def seal() -> Timed:
        costs, call, record = Costs(lambda *_: _PRICE), a_call(request(1000)), _record("1", charged=False)
        return lambda: costs.seal(call, record)

    @cases.case("money: tokens of a 1 kB request")
    def tokens() -> Timed:
        body = request(1000)
        return lambda: tokens_asked(body)

    @cases.case("money: tokens of a 300 kB request")
    def many_tokens() -> Timed:
        body = request(300_000)
        return lambda: tokens_asked(body)


def _register_budgets(cases: Cases) -> None:
    @cases.case("money: the most a call can cost")
    def most() -> Timed:
        policy, calls = _policy()
        return lambda: policy.most(calls[0])

    @cases.case("money: a budgeted call alone, on SQLite", goal_ns=400_000)
    def alone() -> Timed:
        policy, calls = _policy()

        async def run() -> None:
            await _budgeted(policy, calls[0])

        return run

    @cases.case("money: 50 budgeted calls at once, on SQLite", goal_ns=_TOGETHER * 400_000)
    def together() -> Timed:
        policy, calls = _policy()

        async def run() -> None:
            await asyncio.gather(*(_budgeted(policy, call) for call in calls))

        return run
