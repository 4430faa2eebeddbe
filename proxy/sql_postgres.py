"""Transactions in one go on PostgreSQL. Looked up by name, so that its libraries load only where it is configured."""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from proxy.health import State
from proxy.schema_steps import DatabaseAwayError, RefusedError
from proxy.sql import Row, Sql, Values
from proxy.state import Database

T = TypeVar("T")

_TRIES = 5
_IN_THE_WAY = ("40001", "40P01")
"""PostgreSQL's codes for a transaction that others did not let through: not serialisable, deadlock."""
_AT_FAULT = ("22", "23")
"""Its classes of errors of which the values are the cause."""
_BUSY = "other transactions stand in the way"


class PostgresStore:
    """Transactions on a server that other instances share."""

    name = "ledger"

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    async def start(self) -> None:
        """Bring the schema up to date. Raises OSError."""
        await self._database.start()

    async def run(self, work: Callable[[Sql], T]) -> T:
        """One transaction, again when others were in its way. Raises DatabaseAwayError, RefusedError."""
        for _ in range(_TRIES):
            try:
                async with self._database.begin() as connection:
                    return await connection.run_sync(lambda sync: work(PostgresSql(sync)))
            except DBAPIError as error:
                state = str(getattr(error.orig, "sqlstate", "") or "")
                if state[:2] in _AT_FAULT:
                    raise RefusedError(str(error.orig)) from error
                if state not in _IN_THE_WAY:
                    raise DatabaseAwayError(str(error.orig)) from error  # whatever it is, it is not the values
        raise DatabaseAwayError(_BUSY)

    async def aclose(self) -> None:
        """Let the connections go."""
        await self._database.aclose()

    def state(self) -> State:
        """`degraded` while the last use of it failed."""
        return self._database.state()


class PostgresSql:
    """A transaction on PostgreSQL."""

    listed = "SELECT jsonb_array_elements_text(CAST(:ids AS jsonb))"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Values) -> list[Row]:
        """Run a statement that gives rows."""
        return [tuple(row) for row in self._connection.execute(_prepared(statement), dict(values))]

    def many(self, statement: str, values: Sequence[Values]) -> None:
        """Run a statement once for each."""
        if values:
            self._connection.execute(_prepared(statement), [dict(each) for each in values])

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[Row], conflict: str) -> None:
        """Insert rows."""
        values = ", ".join(f":{name}" for name in columns)
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) {conflict}"  # noqa: S608 - names of ours
        self.many(statement, [dict(zip(columns, row, strict=True)) for row in rows])


@functools.cache
def _prepared(statement: str) -> TextClause:
    return text(statement)
