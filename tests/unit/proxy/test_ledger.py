"""The ledger is right however often, in whatever pieces and however late it is told."""

import random
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from support.calls import Clock
from support.postgres import Postgres, shared_postgres
from support.stores import ENGINES, account, opened, rows

from proxy.accounts import Accounts
from proxy.call import Budget, Record, Usage
from proxy.ledger import expire, prune, settle
from proxy.sql import Store

NOON = 1_772_625_600.0
BUDGETS = (Budget("key:k1", 1_000_000, "day"), Budget("owner:acme", 10_000_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with shared_postgres(tmp_path_factory.mktemp("ledger") / "postgres") as running:
        yield running


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(request, tmp_path) as found:
        yield found


def sealed(number: int, cost: int | None = 100, **facts: object) -> Record:
    record = Record(
        id=f"{number:032x}", endpoint="chat", started=NOON, caller="key:k1", owner="acme", route="r", provider="p",
        upstream_model="m", status=200, outcome="complete", usage=Usage(10, 20, cached=5), cost=cost,
    )  # fmt: skip
    return msgspec.structs.replace(record, **facts)


async def reserved(store: Store, record: Record, amount: int = 500) -> Record:
    """The same call after it has reserved."""
    accounts = Accounts(store, lease=60, now=Clock(NOON))
    return msgspec.structs.replace(record, charges=await accounts.reserve(record, BUDGETS, amount))


async def totals(store: Store) -> tuple[int, int, int]:
    """What the rows, the sums by day and the account say was spent."""
    ((by_row,),) = await rows(store, "SELECT coalesce(sum(cost), 0) FROM ledger")
    ((by_day,),) = await rows(store, "SELECT coalesce(sum(cost), 0) FROM usage_days")
    return int(by_row), int(by_day), (await account(store, "key:k1"))[0]


async def test_a_settled_call_is_spent_and_holds_nothing_any_more(store: Store) -> None:
    record = await reserved(store, sealed(1))
    assert await account(store, "key:k1") == (0, 500)
    await store.run(partial(settle, records=[record]))
    assert await account(store, "key:k1") == (100, 0)
    assert await account(store, "owner:acme") == (100, 0)
    assert await totals(store) == (100, 100, 100)
    assert await rows(store, "SELECT count(*) FROM leases") == [(0,)]
    assert await rows(store, "SELECT calls, prompt, completion, cached FROM usage_days") == [(1, 10, 20, 5)]


async def test_settling_again_changes_nothing(store: Store) -> None:
    """Whatever was not committed when an instance died is settled twice."""
    records = [await reserved(store, sealed(number)) for number in range(3)]
    await store.run(partial(settle, records=records))
    await store.run(partial(settle, records=records[1:]))
    await store.run(partial(settle, records=records))
    assert await totals(store) == (300, 300, 300)
    assert await account(store, "key:k1") == (300, 0)


async def test_an_amended_record_takes_the_place_of_the_first(store: Store) -> None:
    """In the same batch or a later one: sums and accounts change by the difference."""
    first = await reserved(store, sealed(1, outcome="client_disconnect"))
    amended = msgspec.structs.replace(first, cost=40, amended=True, usage=Usage(10, 2, estimated=True))
    await store.run(partial(settle, records=[first]))
    await store.run(partial(settle, records=[amended]))
    assert await totals(store) == (40, 40, 40)
    assert await rows(store, "SELECT calls, completion, cached, estimated FROM usage_days") == [(1, 2, 0, 1)]
    second = await reserved(store, sealed(2))
    await store.run(partial(settle, records=[second, msgspec.structs.replace(second, cost=7)]))
    assert await totals(store) == (47, 47, 47)
    assert await account(store, "key:k1") == (47, 0)


async def test_a_call_that_failed_gets_everything_back(store: Store) -> None:
    """Its row says so."""
    record = await reserved(store, sealed(1, cost=0, status=502, outcome="error", usage=None))
    await store.run(partial(settle, records=[record]))
    assert await account(store, "key:k1") == (0, 0)
    assert await rows(store, "SELECT status, cost FROM ledger") == [(502, 0)]


async def test_a_call_never_heard_of_again_costs_what_was_reserved(store: Store) -> None:
    """Not before its lease has run out; and if it is heard of after all, what it really cost."""
    record = await reserved(store, sealed(1))
    assert await store.run(partial(expire, now=NOON + 60)) == 0
    assert await store.run(partial(expire, now=NOON + 61)) == 1
    assert await account(store, "key:k1") == (500, 0)
    assert await rows(store, "SELECT outcome, cost, caller, owner, route, estimated FROM ledger") == [
        ("crashed", 500, "key:k1", "acme", "r", 1)
    ]
    assert await store.run(partial(expire, now=NOON + 61)) == 0
    await store.run(partial(settle, records=[record]))
    assert await account(store, "key:k1") == (100, 0)
    assert await totals(store) == (100, 100, 100)


async def test_pieces_repetitions_and_crashes_come_to_the_same_sum(store: Store) -> None:
    """However the records of 60 calls are cut into batches, repeated, amended and preceded by expiry."""
    draw = random.Random(7)
    final: dict[str, int] = {}
    story: list[Record] = []
    for number in range(60):
        record = await reserved(store, sealed(number, cost=draw.randrange(500)))
        story.append(record)
        if draw.random() < 0.3:
            story.append(msgspec.structs.replace(record, cost=draw.randrange(500), amended=True))
        final[record.id] = story[-1].cost or 0
    await store.run(partial(expire, now=NOON + 61))
    position = 0
    while position < len(story):
        size = draw.randrange(1, 9)
        await store.run(partial(settle, records=story[position : position + size]))
        position += size if draw.random() < 0.7 else 0  # else: died before the commit, and begins there again
    total = sum(final.values())
    assert await totals(store) == (total, total, total)
    assert await account(store, "key:k1") == (total, 0)
    assert await rows(store, "SELECT sum(calls) FROM usage_days") == [(60,)]


async def test_what_we_refused_ourselves_is_not_in_it(store: Store) -> None:
    """Unless something was reserved; answers of a cache are, at no cost."""
    hit = sealed(3, cost=0, provider="", saved=90)
    await store.run(
        partial(
            settle,
            records=[
                sealed(1, cost=None, provider="", usage=None, status=429, outcome="error"),
                sealed(2, route="", provider="", status=200),
                hit,
            ],
        )
    )
    assert await rows(store, "SELECT call_id, cost, saved FROM ledger") == [(hit.id, 0, 90)]


async def test_an_unknown_price_is_no_price_of_nothing(store: Store) -> None:
    """The row has no cost, the day counts it apart."""
    await store.run(partial(settle, records=[sealed(1, cost=None), sealed(2, cost=0)]))
    assert await rows(store, "SELECT cost FROM ledger ORDER BY call_id") == [(None,), (0,)]
    assert await rows(store, "SELECT calls, unpriced FROM usage_days") == [(2, 1)]


async def test_odd_names_and_numbers_are_taken(store: Store) -> None:
    """What no database takes as it is: NUL, half a character, a billion billion tokens."""
    record = sealed(1, upstream_model="a\0b\ud800ü" + "x" * 999, usage=Usage(10**30, 1), cost=10**25)
    await store.run(partial(settle, records=[record]))
    ((model, prompt),) = await rows(store, "SELECT model, prompt FROM ledger")
    assert model.startswith("ab?ü")
    assert len(model) < 201
    assert prompt == 2**53


async def test_every_day_caller_and_model_of_a_batch_has_its_own_sums(store: Store) -> None:
    """However many calls there are at once; names that are the same once they are cut are one."""
    names = ("a", "b", "b\0", "x" * 200 + "1", "x" * 200 + "2")
    records = [
        sealed(number, cost=number, upstream_model=names[number % 5], started=NOON + 86400 * (number % 2), saved=None)
        for number in range(211)
    ]
    await store.run(partial(settle, records=records))
    by_row = "SELECT day, model, count(*), sum(cost) FROM ledger GROUP BY day, model ORDER BY day, model"
    found = await rows(store, "SELECT day, model, calls, cost FROM usage_days ORDER BY day, model")
    assert found == [(day, model, calls, int(cost)) for day, model, calls, cost in await rows(store, by_row)]
    assert [model for _, model, _, _ in found] == 2 * ["a", "b", "x" * 200]
    assert sum(calls for _, _, calls, _ in found) == 211


async def test_rows_are_forgotten_and_sums_are_not(store: Store) -> None:
    await store.run(partial(settle, records=[sealed(1, started=NOON - 10), sealed(2)]))
    await store.run(partial(prune, before=NOON))
    assert await rows(store, "SELECT call_id FROM ledger") == [(sealed(2).id,)]
    assert await rows(store, "SELECT calls FROM usage_days") == [(2,)]
