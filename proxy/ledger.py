"""What every call cost, for good: one row a call, its sums by day, and what budgets spent, in one transaction.

The truth is the outbox. Settling a record twice changes nothing, and settling another record of the same call changes
what has changed, so whatever was not committed when an instance died is simply settled again.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from proxy.accounts import TAKE_LEASES, decode_record
from proxy.call import Charge, Record, Usage
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


class Entry(NamedTuple):
    """What is to stand in the ledger, and what was reserved for the call."""

    line: Line
    charges: tuple[Charge, ...]


def settle(sql: Sql, records: Sequence[Record]) -> None:
    """Settle these calls. Of two records of one call the later counts."""
    latest = {record.id: record for record in records}
    charged = [record.id for record in latest.values() if record.charges]
    held = {row[0] for row in sql.rows(TAKE_LEASES.format(listed=sql.listed), _ids(charged))} if charged else set()
    entries = [Entry(_line(record, record.outcome or ""), record.charges) for record in latest.values()]
    _enter(sql, entries, held)


def expire(sql: Sql, now: float) -> int:
    """Settle the leases that have run out, as crashed and at what was reserved; returns how many there were."""
    found = [decode_record(record) for _, record in sql.rows(_EXPIRED, {"now": int(now)})]
    entries = []
    for record in found:
        record.usage = Usage(estimated=True)
        record.cost = max((charge.amount for charge in record.charges), default=0)
        entries.append(Entry(_line(record, _CRASHED), record.charges))
    _enter(sql, entries, {record.id for record in found})
    return len(found)


def prune(sql: Sql, before: float) -> None:
    """Forget the rows of calls that began before; the sums by day stay."""
    sql.many(_PRUNE, [{"before": int(before)}])


def _enter(sql: Sql, entries: list[Entry], held: set[str]) -> None:
    """Write the rows, and put what they change against the rows they replace into sums and accounts.

    `held` are the calls whose reservation ends with this.
    """
    entries = [each for each in entries if _is_kept(each, held)]
    if not entries:
        return
    found = sql.rows(_FIND.format(listed=sql.listed), _ids(each.line.call_id for each in entries))
    before = {row[0]: Line._make(row) for row in found}
    sums: dict[Row, list[int]] = {}
    settled: dict[tuple[str, str, int], list[int]] = {}
    for line, charges in entries:
        old = before.get(line.call_id) if before else None
        _count(sums, line, 1)
        if old is not None:
            _count(sums, old, -1)
        if charges:
            more = (line.cost or 0) - ((old.cost or 0) if old is not None else 0)
            for charge in charges:
                change = settled.setdefault((charge.account, charge.period, charge.began), [0, 0])
                change[0] += more
                change[1] += charge.amount if line.call_id in held else 0
    sql.many(
        _SETTLE,
        [
            {"account": account, "period": period, "began": began, "spent": spent, "released": released}
            for (account, period, began), (spent, released) in sorted(settled.items())
            if spent or released
        ],
    )
    sql.many(_SUM, [dict(zip(_GROUPS + _SUMS, (*key, *change), strict=True)) for key, change in sorted(sums.items())])
    sql.insert("ledger", _COLUMNS, [line for line, _ in entries], _REPLACE)


def _is_kept(entry: Entry, held: set[str]) -> bool:
    """Calls that we refused ourselves, before anything was reserved or tried, are no business of the ledger's."""
    line = entry.line
    return bool(line.route) and (line.status < _REFUSED or bool(line.provider) or line.call_id in held)


def _count(sums: dict[Row, list[int]], line: Line, sign: int) -> None:
    key = line[2:8]  # the columns of _GROUPS
    total = sums.get(key)
    if total is None:
        total = sums[key] = [0] * len(_SUMS)
    cost, saved = line.cost, line.saved
    total[0] += sign
    total[1] += sign * line.prompt
    total[2] += sign * line.completion
    total[3] += sign * line.cached
    total[6] += sign * line.estimated
    if cost is None:
        total[7] += sign
    else:
        total[4] += sign * cost
    if saved is not None:
        total[5] += sign * saved


def _line(record: Record, outcome: str) -> Line:
    usage, started = record.usage or _NO_USAGE, int(record.started)
    names = (record.caller, record.owner, record.route, record.provider, record.upstream_model)
    caller, owner, route, provider, model = [_plain(name[:_LONGEST]) for name in names]
    line = Line(
        record.id, started, _day(started // _DAY), caller, owner, route, provider, model, record.status, outcome,
        usage.prompt, usage.completion, usage.cached, usage.cache_write, usage.reasoning, usage.audio,
        int(usage.estimated), record.cost, record.saved,
    )  # fmt: skip
    return line if max(line[10:16]) <= _MOST and (line.cost or 0) <= _MOST >= (line.saved or 0) else _within(line)


def _within(line: Line) -> Line:
    """What a provider says that cannot be counted is cut to what can."""
    return Line._make(
        min(value, _MOST) if number >= _COUNTS and isinstance(value, int) else value
        for number, value in enumerate(line)
    )


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
