"""What every call cost, for good: one row a call, its sums by day, and what budgets spent, in one transaction.

The truth is the outbox. Settling a record twice changes nothing, and settling another record of the same call changes
what has changed, so whatever was not committed when an instance died is simply settled again.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

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

_COLUMNS = (
    "call_id", "started", "day", "caller", "owner", "route", "provider", "model", "status", "outcome", "prompt",
    "completion", "cached", "cache_write", "reasoning", "audio", "estimated", "cost", "saved",
)  # fmt: skip
_GROUPS = ("day", "caller", "owner", "route", "provider", "model")
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
    """What is to stand in the ledger: the row, by column, and what was reserved for the call."""

    row: dict[str, Any]
    charges: tuple[Charge, ...]


def settle(sql: Sql, records: Sequence[Record]) -> None:
    """Settle these calls. Of two records of one call the later counts."""
    latest = {record.id: record for record in records}
    charged = [record.id for record in latest.values() if record.charges]
    held = {row[0] for row in sql.rows(TAKE_LEASES.format(listed=sql.listed), _ids(charged))} if charged else set()
    entries = [Entry(_row(record, record.outcome or ""), record.charges) for record in latest.values()]
    _enter(sql, entries, held)


def expire(sql: Sql, now: float) -> int:
    """Settle the leases that have run out, as crashed and at what was reserved; returns how many there were."""
    found = [decode_record(record) for _, record in sql.rows(_EXPIRED, {"now": int(now)})]
    entries = []
    for record in found:
        record.usage = Usage(estimated=True)
        record.cost = max((charge.amount for charge in record.charges), default=0)
        entries.append(Entry(_row(record, _CRASHED), record.charges))
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
    found = sql.rows(_FIND.format(listed=sql.listed), _ids(each.row["call_id"] for each in entries))
    before = {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in found}
    sums: dict[Row, list[int]] = {}
    settled: dict[tuple[str, str, int], list[int]] = {}
    for row, charges in entries:
        old = before.get(row["call_id"])
        _count(sums, row, 1)
        if old is not None:
            _count(sums, old, -1)
        more = (row["cost"] or 0) - ((old["cost"] or 0) if old is not None else 0)
        for charge in charges:
            change = settled.setdefault((charge.account, charge.period, charge.began), [0, 0])
            change[0] += more
            change[1] += charge.amount if row["call_id"] in held else 0
    sql.many(
        _SETTLE,
        [
            {"account": account, "period": period, "began": began, "spent": spent, "released": released}
            for (account, period, began), (spent, released) in sorted(settled.items())
            if spent or released
        ],
    )
    sql.many(_SUM, [dict(zip(_GROUPS + _SUMS, (*key, *change), strict=True)) for key, change in sorted(sums.items())])
    sql.insert("ledger", _COLUMNS, [row for row, _ in entries], _REPLACE)


def _is_kept(entry: Entry, held: set[str]) -> bool:
    """Calls that we refused ourselves, before anything was reserved or tried, are no business of the ledger's."""
    row = entry.row
    return bool(row["route"]) and (row["call_id"] in held or bool(row["provider"]) or row["status"] < _REFUSED)


def _count(sums: dict[Row, list[int]], row: dict[str, Any], sign: int) -> None:
    numbers = (1, row["prompt"], row["completion"], row["cached"], row["cost"] or 0, row["saved"] or 0,
               row["estimated"], int(row["cost"] is None))  # fmt: skip
    key = tuple(row[name] for name in _GROUPS)
    total = sums.get(key)
    if total is None:
        sums[key] = [sign * number for number in numbers]
    else:
        for index, number in enumerate(numbers):
            total[index] += sign * number


def _row(record: Record, outcome: str) -> dict[str, Any]:
    usage = record.usage or _NO_USAGE
    started = int(record.started)
    return {
        "call_id": record.id,
        "started": started,
        "day": _day(started // _DAY),
        "caller": _plain(record.caller),
        "owner": _plain(record.owner),
        "route": _plain(record.route),
        "provider": _plain(record.provider),
        "model": _plain(record.upstream_model),
        "status": record.status,
        "outcome": outcome,
        "prompt": min(usage.prompt, _MOST),
        "completion": min(usage.completion, _MOST),
        "cached": min(usage.cached, _MOST),
        "cache_write": min(usage.cache_write, _MOST),
        "reasoning": min(usage.reasoning, _MOST),
        "audio": min(usage.audio, _MOST),
        "estimated": int(usage.estimated),
        "cost": None if record.cost is None else min(record.cost, _MOST),
        "saved": None if record.saved is None else min(record.saved, _MOST),
    }


_NO_USAGE = Usage()


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY, UTC).date().isoformat()


def _plain(text: str) -> str:
    """What a database takes: PostgreSQL no NUL, nobody half a character; and not all that a client may write."""
    return _cleaned(text[:_LONGEST])


@lru_cache(maxsize=4096)
def _cleaned(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _ids(ids: Iterable[str]) -> dict[str, str]:
    return {"ids": _encode(list(ids)).decode()}
