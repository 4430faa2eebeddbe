"""What every call cost, for good: one row a call, its sums by day, and what budgets spent, in one transaction.

The truth is the outbox. Settling a record twice changes nothing, and settling another record of the same call changes
what has changed, so whatever was not committed when an instance died is simply settled again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from proxy.accounts import TAKE_LEASES, decode_record
from proxy.call import Record, Usage
from proxy.sql import Row, Sql

_CRASHED = "crashed"
"""The outcome of a call of which nothing was heard any more: it costs what was reserved for it."""
_DAY = 86400
_LONGEST = 200
_MOST = 2**53
"""Counts beyond this are a provider's mistake."""
_REFUSED = 400


class Line(NamedTuple):
    """A row of the ledger, in the order of its columns."""

    call_id: str
    started: int
    day: str
    caller: str
    owner: str
    route: str
    provider: str
    model: str
    status: int
    outcome: str
    prompt: int
    completion: int
    cached: int
    cache_write: int
    reasoning: int
    audio: int
    estimated: int
    cost: int | None
    saved: int | None


_COLUMNS = Line._fields
_GROUPS = _COLUMNS[2:8]
_COUNTS = 10
"""Where the columns of counts and money begin."""
_SUMS = ("calls", "prompt", "completion", "cached", "cost", "saved", "estimated", "unpriced")

_FIND = f"SELECT {', '.join(_COLUMNS)} FROM ledger WHERE call_id IN ({{listed}})"  # noqa: S608 - names of ours
_REPLACE = f"ON CONFLICT (call_id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
_SUM = (
    f"INSERT INTO usage_days ({', '.join(_GROUPS + _SUMS)}) "  # noqa: S608 - as above
    f"VALUES ({', '.join(':' + name for name in _GROUPS + _SUMS)}) ON CONFLICT ({', '.join(_GROUPS)}) "
    f"DO UPDATE SET {', '.join(f'{name} = usage_days.{name} + excluded.{name}' for name in _SUMS)}"
)
_SETTLE = """
UPDATE accounts SET spent = spent + :spent, reserved = reserved - :released
WHERE account = :account AND period = :period AND began = :began
"""
_EXPIRED = "DELETE FROM leases WHERE expires < :now RETURNING call_id, record"
_PRUNE = "DELETE FROM ledger WHERE started < :before"

_encode = msgspec.json.Encoder().encode


def settle(sql: Sql, records: Sequence[Record]) -> None:
    """Settle these calls. Of two records of one call the later counts."""
    latest = {record.id: record for record in records}
    charged = [record.id for record in latest.values() if record.charges]
    held = {row[0] for row in sql.rows(TAKE_LEASES.format(listed=sql.listed), _ids(charged))} if charged else set()
    _enter(sql, latest.values(), held)


def expire(sql: Sql, now: float) -> int:
    """Settle the leases that have run out, as crashed and at what was reserved; returns how many there were."""
    found = [decode_record(record) for _, record in sql.rows(_EXPIRED, {"now": int(now)})]
    for record in found:
        record.usage = Usage(estimated=True)
        record.cost = max((charge.amount for charge in record.charges), default=0)
    _enter(sql, found, {record.id for record in found}, _CRASHED)
    return len(found)


def prune(sql: Sql, before: float) -> None:
    """Forget the rows of calls that began before; the sums by day stay."""
    sql.many(_PRUNE, [{"before": int(before)}])


def _enter(sql: Sql, records: Iterable[Record], held: set[str], outcome: str = "") -> None:
    """Write the rows, and put what they change against the rows they replace into sums and accounts.

    `held` are the calls whose reservation ends with this; `outcome` takes the place of the records' own.
    """
    kept = [record for record in records if _is_kept(record, held)]
    if not kept:
        return
    groups = _lines(kept, outcome)
    found = sql.rows(_FIND.format(listed=sql.listed), _ids(record.id for record in kept))
    before = {row[0]: Line._make(row) for row in found}
    _charge(sql, [record for record in kept if record.charges], before, held)
    changes = [(group, _sums(lines, 1)) for group, lines in groups]
    changes += [(line[2:8], _sums([line], -1)) for line in before.values()]
    sql.many(_SUM, [dict(zip(_GROUPS + _SUMS, (*group, *sums), strict=True)) for group, sums in sorted(changes)])
    sql.insert("ledger", _COLUMNS, [line for _, lines in groups for line in lines], _REPLACE)


def _is_kept(record: Record, held: set[str]) -> bool:
    """Calls that we refused ourselves, before anything was reserved or tried, are no business of the ledger's."""
    return bool(record.route) and (record.status < _REFUSED or bool(record.provider) or record.id in held)


def _charge(sql: Sql, records: Iterable[Record], before: Mapping[str, Line], held: set[str]) -> None:
    """Put what these calls cost in the place of what they reserved."""
    settled: dict[tuple[str, str, int], list[int]] = {}
    for record in records:
        old = before.get(record.id)
        more = min(record.cost or 0, _MOST) - ((old.cost or 0) if old is not None else 0)
        for charge in record.charges:
            change = settled.setdefault((charge.account, charge.period, charge.began), [0, 0])
            change[0] += more
            change[1] += charge.amount if record.id in held else 0
    sql.many(
        _SETTLE,
        [
            {"account": account, "period": period, "began": began, "spent": spent, "released": released}
            for (account, period, began), (spent, released) in sorted(settled.items())
            if spent or released
        ],
    )


def _sums(lines: Sequence[Row], sign: int) -> list[int]:
    """What these add to their day, in the order of `_SUMS`."""
    columns = dict(zip(_COLUMNS, zip(*lines, strict=True), strict=True))
    counts = [sum(columns[name]) for name in ("prompt", "completion", "cached")]
    money = [sum(filter(None, columns[name])) for name in ("cost", "saved")]
    sums = [len(lines), *counts, *money, sum(columns["estimated"]), columns["cost"].count(None)]
    return [sign * each for each in sums]


def _lines(records: Iterable[Record], outcome: str) -> list[tuple[Row, list[Row]]]:
    """Their rows, by the columns of `_GROUPS`; a group may come twice."""
    groups: defaultdict[Row, list[Record]] = defaultdict(list)
    for record in records:
        names = (record.caller, record.owner, record.route, record.provider, record.upstream_model)
        groups[int(record.started) // _DAY, *names].append(record)
    return [_grouped(group, members, outcome) for group, members in groups.items()]


def _grouped(group: Row, records: Iterable[Record], outcome: str) -> tuple[Row, list[Row]]:
    day, *names = group
    clean = (_day(day), *[_plain(name[:_LONGEST]) for name in names])
    lines: list[Row] = []
    for record in records:
        usage = record.usage or _NO_USAGE
        lines.append((
            record.id, int(record.started), *clean, record.status, outcome or record.outcome or "",
            usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning, usage.audio,
            int(usage.estimated), record.cost, record.saved,
        ))  # fmt: skip
    most = max(max(filter(None, column), default=0) for column in [*zip(*lines, strict=True)][_COUNTS:])
    return clean, lines if most <= _MOST else [_within(line) for line in lines]


def _within(line: Row) -> Row:
    """What a provider says that cannot be counted is cut to what can."""
    counts = (value if value is None else min(value, _MOST) for value in line[_COUNTS:])
    return (*line[:_COUNTS], *counts)


_NO_USAGE = Usage()


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY, UTC).date().isoformat()


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """What a database takes: PostgreSQL no NUL, nobody half a character; what a client may write must be cut before it
    comes here, where it is remembered.
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _ids(ids: Iterable[str]) -> dict[str, str]:
    return {"ids": _encode(list(ids)).decode()}
