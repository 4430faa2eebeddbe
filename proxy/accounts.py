"""What budgets have left: reserved before a call in one transaction, whole or not at all, on every instance alike."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from proxy.call import NANO, Budget, Charge, Period, Record
from proxy.errors import BudgetExceeded, Overloaded
from proxy.schema_steps import DatabaseAwayError, RefusedError
from proxy.sql import Sql, Store

Key = tuple[str, Period, int]
"""Account, period and when it began: one row."""

_OWNER = "owner:"
"""How an owner's account begins; any other is that of the caller of this name."""
_GROUP = 500
"""Calls that reserve in one transaction."""
_REST = 1.0
"""Seconds for which nobody asks a database that was away."""
_ADJECTIVES: dict[Period, str] = {"day": "daily", "week": "weekly", "month": "monthly", "total": "total"}

_CREATE = """
INSERT INTO accounts (account, period, began, spent, reserved)
VALUES (:account, :period, :began, (SELECT coalesce(sum(cost), 0) FROM usage_days WHERE day >= :day AND {whose}), 0)
ON CONFLICT (account, period, began) DO NOTHING
"""
_ADD = """
UPDATE accounts SET reserved = reserved + :amount WHERE account = :account AND period = :period AND began = :began
RETURNING spent, reserved
"""
_RENEW = "UPDATE leases SET expires = :expires WHERE call_id = :call_id"
TAKE_LEASES = "DELETE FROM leases WHERE call_id IN ({listed}) RETURNING call_id, record"
_LEASE = "INSERT INTO leases (call_id, expires, record) VALUES (:call_id, :expires, :record)"

_encode = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode


class Ask(NamedTuple):
    """A call that wants to spend up to `amount` of each of these budgets."""

    record: Record
    budgets: tuple[Budget, ...]
    amount: int


class Refused(NamedTuple):
    """A budget that has too little left, and Unix time when there is more; None for never."""

    budget: Budget
    until: int | None


def began(period: Period, now: float) -> int:
    """When the period of this moment began, as Unix time: midnight UTC, Monday's or the first's; 0 for the total."""
    if period == "total":
        return 0
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return int(day.timestamp())


def ends(period: Period, start: int) -> int | None:
    """When a period that began then ends; None for never."""
    if period == "total":
        return None
    days = {"day": 1, "week": 7, "month": 32}[period]
    after = datetime.fromtimestamp(start, UTC) + timedelta(days=days)
    return int(after.replace(day=1).timestamp() if period == "month" else after.timestamp())


def reserve(sql: Sql, asks: Sequence[Ask], *, now: float, lease: float) -> list[list[Charge] | Refused]:
    """Reserve for these calls, the first first; each gets all that it wants or nothing.

    Every row is locked by its first statement until the end, and always in the same order: what is decided in between
    holds, and nobody waits in a circle.
    """
    charges = [[Charge(b.account, b.period, began(b.period, now), ask.amount) for b in ask.budgets] for ask in asks]
    wanted = _sums(charge for own in charges for charge in own)
    taken: dict[Key, int] = {}
    for key in sorted(wanted):
        taken[key] = _add(sql, key, wanted[key]) - wanted[key]
    results = [_decide(ask, own, taken) for ask, own in zip(asks, charges, strict=True)]
    refused = (own for own, result in zip(charges, results, strict=True) if isinstance(result, Refused))
    _let_go(sql, _sums(charge for own in refused for charge in own))
    granted = [(ask.record, result) for ask, result in zip(asks, results, strict=True) if isinstance(result, list)]
    sql.many(_LEASE, [_leased(record, result, int(now + lease)) for record, result in granted])
    return results


def give_back(sql: Sql, calls: Sequence[str]) -> None:
    """Let go what calls hold that never began."""
    found = sql.rows(TAKE_LEASES.format(listed=sql.listed), {"ids": _encode(list(calls)).decode()})
    _let_go(sql, _sums(charge for _, record in found for charge in decode_record(record).charges))


def _sums(charges: Iterable[Charge]) -> dict[Key, int]:
    sums: dict[Key, int] = {}
    for charge in charges:
        sums[_key(charge)] = sums.get(_key(charge), 0) + charge.amount
    return sums


def _let_go(sql: Sql, amounts: Mapping[Key, int]) -> None:
    for key in sorted(amounts):
        _add(sql, key, -amounts[key])


def _decide(ask: Ask, charges: list[Charge], taken: dict[Key, int]) -> list[Charge] | Refused:
    for budget, charge in zip(ask.budgets, charges, strict=True):
        if taken[_key(charge)] + charge.amount > budget.amount:
            return Refused(budget, ends(charge.period, charge.began))
    for charge in charges:
        taken[_key(charge)] += charge.amount
    return charges


def _create(sql: Sql, key: Key) -> None:
    """A row for a period that has none; what its account has spent since the period began counts."""
    account, period, start = key
    name = account.removeprefix(_OWNER)
    day = datetime.fromtimestamp(start, UTC).date().isoformat()
    whose = "owner = :name" if account.startswith(_OWNER) else "caller = :name"
    values = {"account": account, "period": period, "began": start, "day": day, "name": name}
    sql.many(_CREATE.format(whose=whose), [values])


def _add(sql: Sql, key: Key, amount: int) -> int:
    """Spent and reserved together, with `amount` more reserved."""
    account, period, start = key
    values = {"account": account, "period": period, "began": start, "amount": amount}
    found = sql.rows(_ADD, values)
    if not found:
        _create(sql, key)
        found = sql.rows(_ADD, values)
    spent, reserved = found[0]
    return int(spent) + int(reserved)


def _key(charge: Charge) -> Key:
    return charge.account, charge.period, charge.began


def _leased(record: Record, charges: list[Charge], expires: int) -> dict[str, Any]:
    """The lease, with what the ledger must know if nothing more is ever heard of the call."""
    slim = Record(
        id=record.id,
        endpoint=record.endpoint,
        started=record.started,
        caller=record.caller,
        owner=record.owner,
        route=record.route,
        charges=tuple(charges),
    )
    return {"call_id": record.id, "expires": expires, "record": _encode(slim).decode()}


class Accounts:
    """Reserves for calls, many in one transaction when many come at once: a transaction costs more than a call in it.

    `now` is Unix time, `lease` the seconds after which a call of which nothing is heard counts as crashed; calls in
    flight are renewed by `renew`.
    """

    def __init__(self, store: Store, *, lease: float, now: Callable[[], float]) -> None:
        self.live: set[str] = set()
        """Calls in flight that hold a lease."""
        self._store = store
        self._lease = lease
        self._now = now
        self._asks: list[tuple[Ask, asyncio.Future[list[Charge] | Refused]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._left: list[str] = []
        """Calls that were gone before their lease was there."""
        self._away_until = 0.0

    async def reserve(self, record: Record, budgets: tuple[Budget, ...], amount: int) -> tuple[Charge, ...]:
        """Reserve `amount` nano-USD of every budget. Raises BudgetExceeded, and Overloaded when nobody can tell."""
        if self._now() < self._away_until:
            raise _nobody_knows()
        answer: asyncio.Future[list[Charge] | Refused] = asyncio.get_running_loop().create_future()
        self._asks.append((Ask(record, budgets, amount), answer))
        self._begin_work()
        try:
            result = await answer
        except (DatabaseAwayError, RefusedError):
            raise _nobody_knows() from None
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.exception() is None and isinstance(answer.result(), list):
                self._left.append(record.id)  # it was granted in the moment in which the call went
                self._begin_work()
            raise
        if isinstance(result, Refused):
            raise _spent(result, amount)
        self.live.add(record.id)
        return tuple(result)

    def over(self, call_id: str) -> None:
        """The call has ended: its record settles what it holds."""
        self.live.discard(call_id)

    async def renew(self) -> None:
        """Say of the calls in flight that they still are. Raises DatabaseAwayError."""
        calls = [{"call_id": call_id, "expires": int(self._now() + self._lease)} for call_id in self.live]
        if calls:
            await self._store.run(lambda sql: sql.many(_RENEW, calls))

    def _begin_work(self) -> None:
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._asks or self._left:
            group, self._asks = self._asks[:_GROUP], self._asks[_GROUP:]
            left, self._left = self._left, []
            try:
                results = await self._store.run(self._transaction([ask for ask, _ in group], left))
            except (DatabaseAwayError, RefusedError) as error:
                self._away_until = self._now() + _REST
                self._left += left
                for _, answer in group:
                    if not answer.done():
                        answer.set_exception(error)
                if not self._asks:
                    return
                continue
            for (ask, answer), result in zip(group, results, strict=True):
                if not answer.done():
                    answer.set_result(result)
                elif isinstance(result, list):
                    self._left.append(ask.record.id)

    def _transaction(self, asks: list[Ask], left: list[str]) -> Callable[[Sql], list[list[Charge] | Refused]]:
        now = self._now()

        def work(sql: Sql) -> list[list[Charge] | Refused]:
            if left:
                give_back(sql, left)
            return reserve(sql, asks, now=now, lease=self._lease)

        return work


def _nobody_knows() -> Overloaded:
    return Overloaded("The budget of this caller cannot be checked at the moment.", retry_after=_REST)


def _spent(refused: Refused, amount: int) -> BudgetExceeded:
    budget, until = refused
    whose = "owner" if budget.account.startswith(_OWNER) else "caller"
    message = (
        f"The {_ADJECTIVES[budget.period]} budget of this {whose} has too little left for this call, "
        f"which may cost up to {amount / NANO:.6f} USD."
    )
    if until is None:
        return BudgetExceeded(message)
    when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return BudgetExceeded(f"{message} It begins anew at {when}.", headers={"x-lockgate-budget-reset": when})
