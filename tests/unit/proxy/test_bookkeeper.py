"""From the outbox into the ledger: whatever stands in the way, everything arrives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from support.calls import Clock
from support.stores import account, rows

from proxy.accounts import Accounts
from proxy.bookkeeper import Bookkeeper
from proxy.call import Budget, Record, Usage
from proxy.health import State
from proxy.ledger import settle
from proxy.outbox import Outbox
from proxy.schema_steps import DatabaseAwayError, RefusedError
from proxy.sql import Sql, SqliteStore

T = TypeVar("T")
NOON = 1_772_625_600.0
BUDGETS = (Budget("key:k1", 10**9),)


class Shaky:
    """A store that fails as often as it is told to."""

    name = "ledger"

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.away = 0
        self.refuses: set[str] = set()

    async def start(self) -> None:
        await self.store.start()

    async def run(self, work: Callable[[Sql], T]) -> T:
        if self.away:
            self.away -= 1
            raise DatabaseAwayError("gone")
        told = getattr(work, "keywords", {}).get("records", ())
        if any(record.id in self.refuses for record in told):
            raise RefusedError("no")
        return await self.store.run(work)

    async def aclose(self) -> None:
        await self.store.aclose()

    def state(self) -> State:
        return self.store.state()


def record(number: int, **facts: object) -> Record:
    made = Record(
        id=f"{number:032x}", endpoint="chat", started=NOON, caller="key:k1", route="r", provider="p",
        upstream_model="m", status=200, outcome="complete", usage=Usage(1, 1), cost=100,
    )  # fmt: skip
    for name, value in facts.items():
        setattr(made, name, value)
    return made


class Desk:
    """A bookkeeper with all that it needs, on a clock of its own."""

    def __init__(self, folder: Path, keep: float = 0) -> None:
        self.clock = Clock(NOON)
        self.store = Shaky(SqliteStore(folder / "lockgate.db"))
        self.outbox = Outbox(folder / "outbox", 10**7)
        self.accounts = Accounts(self.store, lease=60, now=self.clock)
        self.slept: list[float] = []
        self.keeper = Bookkeeper(
            self.store, self.outbox, self.accounts, keep=keep, lease=60, now=self.clock, sleep=self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds == 15:  # between two looks at the leases
            await asyncio.Event().wait()

    async def close(self) -> None:
        await self.keeper.aclose()
        await self.outbox.aclose()

    async def ledger(self) -> list[tuple[object, ...]]:
        """Its rows, after everything was settled and the files were closed and opened again."""
        await self.close()
        await self.store.start()
        try:
            return await rows(self.store.store, "SELECT call_id, cost FROM ledger ORDER BY call_id")
        finally:
            await self.store.aclose()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.keeper.start()
    yield desk
    await desk.close()


async def test_what_is_sealed_is_settled_before_the_end(desk: Desk) -> None:
    """Also what came at the last moment."""
    for number in range(600):
        desk.outbox.write(record(number))
    assert await desk.ledger() == [(record(number).id, 100) for number in range(600)]


async def test_while_the_database_is_away_records_wait(desk: Desk) -> None:
    """Longer each time, and none is passed over."""
    desk.store.away = 4
    desk.outbox.write(record(1))
    assert await desk.ledger() == [(record(1).id, 100)]
    assert [seconds for seconds in desk.slept if seconds != 15] == sorted(desk.slept)[:4]


async def test_what_the_database_will_not_take_does_not_stop_the_others(desk: Desk) -> None:
    """It is counted, and readiness says so."""
    desk.store.refuses = {record(3).id}
    for number in range(8):
        desk.outbox.write(record(number))
    assert len(await desk.ledger()) == 7
    assert desk.keeper.skipped == 1
    assert desk.keeper.state() == "degraded"


async def test_a_restart_begins_where_the_last_one_ended(tmp_path: Path) -> None:
    """What was written while nobody settled is not forgotten."""
    outbox = Outbox(tmp_path / "outbox", 10**7)
    outbox.reader("ledger")
    outbox.write(record(1))
    await outbox.aclose()
    desk = Desk(tmp_path)
    await desk.keeper.start()
    desk.outbox.write(record(2))
    assert len(await desk.ledger()) == 2


async def test_leases_are_tended_by_the_clock(desk: Desk) -> None:
    """Those of calls in flight are renewed; those of the dead settle once all records have been read."""
    for number in (1, 2):
        await desk.accounts.reserve(record(number), BUDGETS, 500)
    desk.accounts.over(record(1).id)
    desk.clock.now += 61
    await desk.keeper.tend(caught_up=False)
    assert await account(desk.store.store, "key:k1") == (0, 1000)
    await desk.keeper.tend(caught_up=True)
    assert await account(desk.store.store, "key:k1") == (500, 500)
    found = await rows(desk.store.store, "SELECT call_id, outcome FROM ledger")
    assert found == [(record(1).id, "crashed")]


async def test_rows_are_kept_for_so_long(tmp_path: Path) -> None:
    desk = Desk(tmp_path, keep=3600)
    await desk.keeper.start()
    await desk.keeper.tend(caught_up=True)
    await desk.store.run(partial(settle, records=[record(1), record(2, started=NOON + 7200)]))
    desk.clock.now += 7200
    await desk.keeper.tend(caught_up=True)
    assert await desk.ledger() == [(record(2).id, 100)]
