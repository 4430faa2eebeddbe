"""Transactions in one go: work that is written once, as plain calls, and runs on SQLite or PostgreSQL.

A transaction statement by statement through an asynchronous driver costs more than all it does. Here the whole of it is
one function: on SQLite it runs in the one thread that writes, on PostgreSQL (`proxy.sql_postgres`) on one connection.
"""

import asyncio
import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from proxy.health import State
from proxy.schema_steps import DatabaseAwayError, RefusedError, migrations, refuse_newer

logger = logging.getLogger("lockgate")

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, Any]

_ROWS = 64
"""Rows of one statement, at most; always a power of two, so that few statements are ever prepared."""
_BUSY = 5.0
"""Seconds that another program may hold the file."""
_TRIES = 50
_PAUSE = 0.1
_AT_FAULT = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError)
"""Errors of which the values are the cause."""
_CLOSED = "the database is closed"


class Sql(Protocol):
    """One transaction. Parameters are written `:name`."""

    listed: str
    """A query of the values in the JSON list `:ids`, in this engine's words."""

    def rows(self, statement: str, values: Values) -> list[Row]:
        """Run a statement that gives rows."""
        ...

    def many(self, statement: str, values: Sequence[Values]) -> None:
        """Run a statement once for each; not at all for none."""
        ...

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[Row], conflict: str) -> None:
        """Insert rows, in the order of the columns; `conflict` says what to do where one is there."""
        ...


class Store(Protocol):
    """A database in which transactions run whole or not at all."""

    name: str

    async def start(self) -> None:
        """Bring the schema up to date. Raises OSError."""
        ...

    async def run(self, work: Callable[[Sql], T]) -> T:
        """One transaction.

        Raises RefusedError when nothing of it has happened, and DatabaseAwayError when nothing has, or all of it.
        """
        ...

    async def aclose(self) -> None:
        """Let it go."""
        ...

    def state(self) -> State:
        """`degraded` while the last use of it failed."""
        ...


class SqliteStore:
    """A file for one instance, in a thread of its own."""

    name = "ledger"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._away = False

    async def start(self) -> None:
        """Open the file and bring its schema up to date. Raises OSError."""
        self._thread = ThreadPoolExecutor(1, "ledger")
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except sqlite3.Error as error:
            raise OSError(f"the database at {self._path} cannot be used: {error}") from error

    async def run(self, work: Callable[[Sql], T]) -> T:
        """One transaction. Raises DatabaseAwayError, RefusedError."""
        if self._thread is None:
            raise DatabaseAwayError(_CLOSED)
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)
        except _AT_FAULT as error:
            raise RefusedError(str(error)) from error
        except sqlite3.Error as error:
            if not self._away:
                logger.warning("the database is away: %s", error)
            self._away = True
            raise DatabaseAwayError(str(error)) from error
        if self._away:
            logger.warning("the database is back")
            self._away = False
        return result

    async def aclose(self) -> None:
        """Close the file when the last transaction is over."""
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            self._thread.shutdown(wait=False)
            self._thread = None

    def state(self) -> State:
        """`degraded` while the last use of it failed."""
        return "degraded" if self._away else "ok"

    def _open(self) -> None:
        make_file(self._path)
        self._connection = connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")  # survives a killed process; the last commits not a power cut
        self._transact(_migrate)

    def _transact(self, work: Callable[[Sql], T]) -> T:
        connection = self._connection
        if connection is None:
            raise sqlite3.OperationalError(_CLOSED)
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(SqliteSql(connection))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteSql:
    """A transaction on SQLite."""

    listed = "SELECT value FROM json_each(:ids)"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Values) -> list[Row]:
        """Run a statement that gives rows."""
        return self._connection.execute(statement, values).fetchall()

    def many(self, statement: str, values: Sequence[Values]) -> None:
        """Run a statement once for each."""
        self._connection.executemany(statement, values)

    def insert(self, table: str, columns: tuple[str, ...], rows: Sequence[Row], conflict: str) -> None:
        """Insert rows, many with one statement: between two of them the loop's thread wants its turn."""
        at = 0
        while at < len(rows):
            count = 1 << min(len(rows) - at, _ROWS).bit_length() - 1
            values = [*chain.from_iterable(rows[at : at + count])]
            self._connection.execute(_insertion(table, columns, count, conflict), values)
            at += count


@functools.lru_cache(maxsize=2 * _ROWS.bit_length())
def _insertion(table: str, columns: tuple[str, ...], count: int, conflict: str) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * count)} {conflict}"  # noqa: S608 - names of ours


def make_file(path: Path) -> None:
    """A database file for its owner only, with a write-ahead log: a mode the file keeps. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        # never one that is there: closing it would drop the locks that others in this process hold on it (POSIX), and
        # with them the log that a reader elsewhere then takes for abandoned and removes
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for _ in range(_TRIES):
        with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            return
        time.sleep(_PAUSE)  # another instance is switching it, which SQLite does not wait for
    raise OSError(f"{path} is locked by another program")


def _migrate(sql: Sql) -> None:
    steps = migrations()
    _each(sql, ["CREATE TABLE IF NOT EXISTS schema_steps (version INTEGER PRIMARY KEY, name TEXT NOT NULL)"])
    done = {row[0] for row in sql.rows("SELECT version FROM schema_steps", {})}
    refuse_newer(done, steps)
    for step in steps:
        if step.version not in done:
            _each(sql, step.statements)
            sql.many(
                "INSERT INTO schema_steps (version, name) VALUES (:version, :name)",
                [{"version": step.version, "name": step.name}],
            )


def _each(sql: Sql, statements: Iterable[str]) -> None:
    for statement in statements:
        sql.rows(statement, {})
