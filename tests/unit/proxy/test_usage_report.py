"""Sums that agree with the ledger, told apart as asked."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from support.postgres import Postgres, shared_postgres
from support.stores import ENGINES, opened

from proxy.call import Record, Usage
from proxy.errors import BadRequest
from proxy.ledger import settle
from proxy.sql import Store
from proxy.usage_report import answer, as_csv, as_table, balances, question

TODAY = date(2026, 3, 4)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with shared_postgres(tmp_path_factory.mktemp("usage") / "postgres") as running:
        yield running


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Six calls of two keys of one owner on three days."""
    async with opened(request, tmp_path) as found:
        records = [
            Record(
                id=f"{number:032x}", endpoint="chat", started=NOON - 86_400 * (number % 3), caller=f"key:{number % 2}",
                owner="acme", route="r", provider="p", upstream_model=f"m{number % 3}", status=200,
                outcome="complete", usage=Usage(10, number), cost=None if number == 5 else 1_000_000_007, saved=3,
            )
            for number in range(6)
        ]  # fmt: skip
        await found.run(partial(settle, records=records))
        yield found


async def test_usage_is_told_apart_by_what_was_asked(store: Store) -> None:
    """In order, with exact amounts."""
    by_key = await store.run(partial(answer, asked=question("key", "2026-03-01", None, {}, TODAY)))
    assert [(row["key"], row["calls"], row["cost_usd"], row["unpriced"]) for row in by_key] == [
        ("key:0", 3, Decimal("3.000000021"), 0),
        ("key:1", 3, Decimal("2.000000014"), 1),
    ]
    by_day_and_model = await store.run(partial(answer, asked=question("day, model", None, None, {}, TODAY)))
    assert [(row["day"], row["model"], row["completion"]) for row in by_day_and_model] == [
        ("2026-03-02", "m2", 7),
        ("2026-03-03", "m1", 5),
        ("2026-03-04", "m0", 3),
    ]


async def test_days_are_included_at_both_ends_and_rows_can_be_chosen(store: Store) -> None:
    asked = question("owner", "2026-03-03", "2026-03-04", {"key": "key:1", "model": None}, TODAY)
    assert [(row["owner"], row["calls"]) for row in await store.run(partial(answer, asked=asked))] == [("acme", 2)]
    nobody = question("owner", None, None, {"owner": "o'neill; --"}, TODAY)
    assert await store.run(partial(answer, asked=nobody)) == []


async def test_balances_are_those_of_the_running_period(store: Store) -> None:
    def fill(sql: object) -> None:
        values = [
            {"period": "day", "began": datetime(2026, 3, day, tzinfo=UTC).timestamp(), "spent": day} for day in (3, 4)
        ]
        values.append({"period": "total", "began": 0, "spent": 9})
        sql.many("INSERT INTO accounts VALUES ('key:0', :period, :began, :spent, 2)", values)  # type: ignore[attr-defined]

    await store.run(fill)
    found = await store.run(partial(balances, now=NOON))
    assert [(row["period"], row["spent_usd"], row["reserved_usd"], row["ends"]) for row in found] == [
        ("day", Decimal("0.000000004"), Decimal("0.000000002"), "2026-03-05T00:00:00+00:00"),
        ("total", Decimal("0.000000009"), Decimal("0.000000002"), None),
    ]


@pytest.mark.parametrize(
    ("by", "first", "param"), [("", None, "by"), ("day,colour", None, "by"), ("day", "yesterday", "from")]
)
def test_a_question_that_makes_no_sense_is_refused(by: str, first: str | None, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        question(by, first, None, {}, TODAY)
    assert caught.value.param == param


def test_without_days_it_is_this_month() -> None:
    assert question("day", None, None, {}, TODAY)[1:3] == ("2026-03-01", "2026-03-04")


def test_without_a_first_day_it_is_the_month_of_the_last() -> None:
    """Else a month that is over would come out empty. A first day to come is its own last."""
    assert question("day", None, "2025-10-31", {}, TODAY)[1:3] == ("2025-10-01", "2025-10-31")
    assert question("day", "2026-04-01", None, {}, TODAY)[1:3] == ("2026-04-01", "2026-04-01")


def test_days_the_wrong_way_round_are_refused() -> None:
    """And are not answered with nothing."""
    with pytest.raises(BadRequest, match="2026-03-02 is later than 'to', 2026-03-01") as caught:
        question("day", "2026-03-02", "2026-03-01", {}, TODAY)
    assert caught.value.param == "from"


def test_a_name_never_becomes_a_formula() -> None:
    """Models are named by clients, and people open exports in spreadsheets."""
    rows = [{"model": "=HYPERLINK(1)", "calls": 1, "cost_usd": Decimal("0.000000000")}]
    assert as_csv(rows, ("model", "calls", "cost_usd")) == "model,calls,cost_usd\n'=HYPERLINK(1),1,0.000000000\n"
    assert as_table([], ("model", "calls")) == ["model  calls"]


def test_a_name_never_commands_a_terminal() -> None:
    """What clients called their models is shown as escapes; columns stay columns. An export has it as it is."""
    rows = [{"model": "m\x1b[2Jx", "calls": 1}, {"model": "plain", "calls": 10}]
    assert as_table(rows, ("model", "calls")) == ["model      calls", "m\\x1b[2Jx      1", "plain         10"]
    assert "\x1b[2J" in as_csv(rows, ("model", "calls"))
