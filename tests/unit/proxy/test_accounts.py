"""Budgets are never overdrawn by what is reserved, on either engine and from however many instances."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.calls import Clock
from support.postgres import Postgres, shared_postgres
from support.stores import ENGINES, account, opened, rows

from proxy.accounts import Accounts, began, ends
from proxy.call import Budget, Charge, Period, Record
from proxy.errors import BudgetExceeded, Overloaded
from proxy.health import State
from proxy.schema_steps import DatabaseAwayError
from proxy.sql import Sql, Store

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()  # a Wednesday


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with shared_postgres(tmp_path_factory.mktemp("accounts") / "postgres") as running:
        yield running


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(request, tmp_path) as found:
        yield found


def accounts_of(store: Store, now: float = NOON) -> tuple[Accounts, Clock]:
    clock = Clock(now)
    return Accounts(store, lease=60, now=clock), clock


def record(number: int) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=NOON, caller="key:k1", owner="acme", route="r")


async def attempt(
    accounts: Accounts, number: int, budgets: tuple[Budget, ...], amount: int
) -> tuple[Charge, ...] | None:
    try:
        return await accounts.reserve(record(number), budgets, amount)
    except BudgetExceeded:
        return None


async def test_a_nearly_spent_budget_takes_exactly_what_still_fits(store: Store) -> None:
    """Two hundred calls at once, two instances."""
    budgets = (Budget("key:k1", 1000),)
    instances = [accounts_of(store)[0] for _ in range(2)]
    await attempt(instances[0], 1000, budgets, 930)
    granted = await asyncio.gather(*(attempt(instances[n % 2], n, budgets, 7) for n in range(200)))
    assert sum(each is not None for each in granted) == 10
    assert await account(store, "key:k1") == (0, 1000)
    assert await rows(store, "SELECT count(*) FROM leases") == [(11,)]


async def test_all_budgets_of_a_caller_or_none(store: Store) -> None:
    """What the owner's budget refuses is not taken from the key's."""
    accounts, _ = accounts_of(store)
    both = (Budget("key:k1", 100), Budget("owner:acme", 50, "month"))
    assert await attempt(accounts, 1, both, 40) is not None
    assert await attempt(accounts, 2, both, 40) is None
    assert await account(store, "key:k1") == (0, 40)
    assert await account(store, "owner:acme") == (0, 40)


async def test_a_refusal_says_when_there_is_more(store: Store) -> None:
    """And not what others of the same owner have spent."""
    accounts, _ = accounts_of(store)
    with pytest.raises(BudgetExceeded) as caught:
        await accounts.reserve(record(1), (Budget("owner:acme", 10, "month"),), 11)
    assert caught.value.headers["x-lockgate-budget-reset"] == "2026-04-01T00:00:00Z"
    assert caught.value.headers["x-should-retry"] == "false"
    assert "monthly budget" in caught.value.message
    with pytest.raises(BudgetExceeded) as caught:
        await accounts.reserve(record(2), (Budget("key:k1", 10),), 11)
    assert "x-lockgate-budget-reset" not in caught.value.headers


async def test_a_new_period_begins_with_nothing_spent(store: Store) -> None:
    """At midnight UTC."""
    accounts, clock = accounts_of(store)
    budget = (Budget("key:k1", 10, "day"),)
    assert await attempt(accounts, 1, budget, 10) is not None
    clock.now = datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC).timestamp()
    assert await attempt(accounts, 2, budget, 1) is None
    clock.now += 1
    assert await attempt(accounts, 3, budget, 10) is not None


async def test_a_budget_given_in_mid_period_counts_what_was_spent_since_it_began(store: Store) -> None:
    """By key and by owner, from the sums by day."""
    days = [("2026-02-28", 5), ("2026-03-02", 20), ("2026-03-04", 30)]

    def fill(sql: Sql) -> None:
        sql.many(
            "INSERT INTO usage_days VALUES (:day, 'key:k1', 'acme', 'r', 'p', 'm', 1, 0, 0, 0, :cost, 0, 0, 0)",
            [{"day": day, "cost": cost} for day, cost in days],
        )

    await store.run(fill)
    accounts, _ = accounts_of(store)
    for number, (budget, spent) in enumerate(
        [
            (Budget("key:k1", 1000, "month"), 50),
            (Budget("key:k1", 1000, "day"), 30),
            (Budget("owner:acme", 1000, "total"), 55),
            (Budget("owner:other", 1000, "total"), 0),
        ]
    ):
        assert await attempt(accounts, number, (budget,), 1) is not None
        query = "SELECT spent FROM accounts WHERE account = :account AND period = :period"
        assert await rows(store, query, {"account": budget.account, "period": budget.period}) == [(spent,)]


async def test_a_call_that_left_while_it_reserved_holds_nothing(store: Store) -> None:
    """Its lease goes with the next transaction."""
    accounts, _ = accounts_of(store)
    budget = (Budget("key:k1", 10),)
    waiting = asyncio.ensure_future(attempt(accounts, 1, budget, 10))
    while accounts._asks or accounts._worker is None:  # noqa: ASYNC110 - until the transaction is on its way
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await accounts._worker
    assert await account(store, "key:k1") == (0, 0)
    assert await rows(store, "SELECT count(*) FROM leases") == [(0,)]
    assert accounts.live == set()


class CutShort:
    """A store at whose every commit the call that waits for it is cancelled, before it hears of the commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name = store.name
        self.waiting: asyncio.Task[object] | None = None

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def state(self) -> State:
        return self._store.state()

    async def run(self, work: Callable[[Sql], Any]) -> Any:
        result = await self._store.run(work)
        if self.waiting is not None:
            asyncio.get_running_loop().call_soon(self.waiting.cancel)
        return result


async def test_a_call_that_leaves_in_the_moment_of_the_grant_holds_nothing(store: Store) -> None:
    """The answer was there, and nobody to take it: the lease would else be settled as a crash, at its full amount."""
    cut = CutShort(store)
    accounts, _ = accounts_of(cut)
    cut.waiting = asyncio.ensure_future(attempt(accounts, 1, (Budget("key:k1", 10),), 10))
    with pytest.raises(asyncio.CancelledError):
        await cut.waiting
    assert accounts._worker is not None
    await accounts._worker
    assert await account(store, "key:k1") == (0, 0)
    assert await rows(store, "SELECT count(*) FROM leases") == [(0,)]


async def test_leases_of_calls_in_flight_are_renewed_and_of_others_not(store: Store) -> None:
    accounts, clock = accounts_of(store)
    for number in (1, 2):
        await attempt(accounts, number, (Budget("key:k1", 10),), 1)
    accounts.over(record(1).id)
    clock.now += 50
    await accounts.renew()
    assert await rows(store, "SELECT expires FROM leases ORDER BY expires") == [(NOON + 60,), (NOON + 110,)]


class Away:
    """A database that does not answer, until it does."""

    name = "ledger"

    def __init__(self) -> None:
        self.asked = 0

    async def start(self) -> None: ...

    async def run(self, work: Callable[[Sql], Any]) -> Any:
        self.asked += 1
        raise DatabaseAwayError("gone")

    async def aclose(self) -> None: ...

    def state(self) -> State:
        return "degraded"


async def test_without_the_database_budgets_fail_closed_and_fast() -> None:
    """503 with a time to come back; for a second nobody asks it again."""
    away = Away()
    accounts, clock = accounts_of(away)
    for number in range(3):
        with pytest.raises(Overloaded) as caught:
            await accounts.reserve(record(number), (Budget("key:k1", 10),), 1)
        assert caught.value.headers["retry-after"] == "1"
    assert away.asked == 1
    clock.now += 1
    with pytest.raises(Overloaded):
        await accounts.reserve(record(4), (Budget("key:k1", 10),), 1)
    assert away.asked == 2


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        ("day", (2026, 3, 4, 23, 59, 59), (2026, 3, 4), (2026, 3, 5)),
        ("week", (2026, 3, 1, 23, 59, 59), (2026, 2, 23), (2026, 3, 2)),
        ("week", (2026, 3, 2, 0, 0, 0), (2026, 3, 2), (2026, 3, 9)),
        ("month", (2026, 12, 31, 12, 0, 0), (2026, 12, 1), (2027, 1, 1)),
        ("month", (2028, 2, 29, 0, 0, 0), (2028, 2, 1), (2028, 3, 1)),
    ],
)
def test_periods_begin_and_end_at_midnight_utc(
    period: Period, moment: tuple[int, ...], start: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    at = datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    assert began(period, at) == datetime(*start, tzinfo=UTC).timestamp()
    assert ends(period, began(period, at)) == datetime(*end, tzinfo=UTC).timestamp()


def test_a_total_never_ends() -> None:
    assert (began("total", NOON), ends("total", 0)) == (0, None)
