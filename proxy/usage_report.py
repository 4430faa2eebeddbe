"""What was used and what it cost, by day, caller, owner, route, provider and model: from the sums that are kept for good."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from proxy.accounts import began, ends
from proxy.call import NANO
from proxy.errors import BadRequest
from proxy.logs import plain
from proxy.sql import Sql

COLUMNS = {
    "day": "day",
    "key": "caller",
    "owner": "owner",
    "route": "route",
    "provider": "provider",
    "model": "model",
}
"""What usage can be told apart by, and the columns that hold it."""
_COUNTS = ("calls", "prompt", "completion", "cached", "estimated", "unpriced")
_AMOUNTS = ("cost", "saved")
FIGURES = (*_COUNTS, "cost_usd", "saved_usd")


class Question(NamedTuple):
    """Sums by these, in these days (both included), of rows where these columns have these values."""

    by: tuple[str, ...]
    first: str
    last: str
    only: Mapping[str, str] = {}


def question(by: str, first: str | None, last: str | None, only: Mapping[str, str | None], today: date) -> Question:
    """Read what was asked: names joined by commas, days as YYYY-MM-DD. Raises BadRequest.

    Without a first day it is the first of the month of the last one, and without a last day that is today.
    """
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names:
        raise BadRequest(f"Invalid 'by': expected some of {', '.join(COLUMNS)}.", param="by", code="invalid_value")
    end = _day("to", last) if last else today
    begin = _day("from", first) if first else end.replace(day=1)
    if not last:
        end = max(end, begin)
    if begin > end:
        raise BadRequest(f"Invalid 'from': {begin} is later than 'to', {end}.", param="from", code="invalid_value")
    return Question(
        names, begin.isoformat(), end.isoformat(), {name: value for name, value in only.items() if value is not None}
    )


def answer(sql: Sql, asked: Question) -> list[dict[str, Any]]:
    """A row for each, in order; the amounts are exact decimals in USD."""
    groups = [COLUMNS[name] for name in asked.by]
    wheres = ["day >= :first", "day <= :last", *(f"{COLUMNS[name]} = :{name}" for name in asked.only)]
    sums = ", ".join(f"sum({name})" for name in (*_COUNTS, *_AMOUNTS))
    statement = (
        f"SELECT {', '.join(groups)}, {sums} FROM usage_days WHERE {' AND '.join(wheres)} "  # noqa: S608 - names of ours
        f"GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}"
    )
    rows = []
    for row in sql.rows(statement, {"first": asked.first, "last": asked.last, **asked.only}):
        *counts, cost, saved = row[len(groups) :]
        names, figures = dict(zip(asked.by, row, strict=False)), dict(zip(_COUNTS, map(int, counts), strict=True))
        rows.append({**names, **figures, "cost_usd": usd(int(cost)), "saved_usd": usd(int(saved))})
    return rows


def balances(sql: Sql, now: float) -> list[dict[str, Any]]:
    """What each account has spent and reserved in the period of this moment."""
    rows = []
    query = "SELECT account, period, began, spent, reserved FROM accounts ORDER BY account, period, began"
    for account, period, start, spent, reserved in sql.rows(query, {}):
        if start == began(period, now):
            until = ends(period, start)
            rows.append(
                {
                    "account": account,
                    "period": period,
                    "spent_usd": usd(int(spent)),
                    "reserved_usd": usd(int(reserved)),
                    "ends": None if until is None else datetime.fromtimestamp(until, UTC).isoformat(),
                }
            )
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """With a head, also for no rows. What a client may have named never begins a formula in a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in columns])
    return out.getvalue()


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Lines for people: numbers to the right, and nothing that a client named commands their terminal."""
    cells = [list(columns), *([plain(str(_cell(row[name]))) for name in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    right: list[Callable[[str, int], str]] = [
        str.rjust if rows and isinstance(rows[0][name], int | Decimal) else str.ljust for name in columns
    ]
    return ["  ".join(put(cell, width) for put, cell, width in zip(right, line, widths, strict=True)) for line in cells]


def usd(amount: int) -> Decimal:
    """nano-USD in USD, with all nine digits."""
    return (Decimal(amount) / NANO).quantize(Decimal("0.000000001"))


def _cell(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _day(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadRequest(
            f"Invalid '{name}': expected a day such as 2026-11-30.", param=name, code="invalid_value"
        ) from None
