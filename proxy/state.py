"""The database: keys, users, budgets and the ledger. A SQLite file by default, PostgreSQL by URL, one schema."""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.errors import Overloaded
from proxy.health import State

logger = logging.getLogger("lockgate")

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_MIGRATION_LOCK = 0x10C6A7E
"""PostgreSQL's advisory lock under which one instance migrates while the others wait."""
_CONNECT = 5.0
_STATEMENT = 5.0
"""Seconds that a connection and a statement may take before the database counts as away."""

_TRIES = 50
_PAUSE = 0.1


class DatabaseAwayError(Overloaded):
    """The database does not answer; what it would have said is not known. The detail is for our log."""

    def __init__(self, detail: str) -> None:
        super().__init__("The gateway's database does not answer: try again.", retry_after=_CONNECT)
        self.detail = detail


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: statements that both engines understand, applied once, in order, whole or not at all."""

    version: int
    name: str
    statements: tuple[str, ...]


class Database:
    """One engine for everything that is kept. Raises OSError at start when it cannot be reached or is too new.

    While it is away `connect` and `begin` raise DatabaseAwayError within seconds; nothing needs to be restarted when
    it is back.
    """

    name = "database"

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self.dialect = self._url.get_backend_name()
        self._engine: AsyncEngine | None = None
        self._away = False

    @property
    def engine(self) -> AsyncEngine:
        """The engine; made at the first use, in the loop that uses it."""
        if self._engine is None:
            self._engine = _engine(self._url)
        return self._engine

    async def start(self) -> None:
        """Bring the schema up to date. Raises OSError."""
        try:
            await migrate(self.engine, migrations())
        except (OSError, DBAPIError, TimeoutError) as error:
            await self.aclose()
            raise OSError(f"the database at {shown(self._url)} cannot be used: {_first_line(error)}") from error

    async def aclose(self) -> None:
        """Let the connections go."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def state(self) -> State:
        """`degraded` while the last use of it failed."""
        return "degraded" if self._away else "ok"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading. Raises DatabaseAwayError."""
        async with self._told(), self.engine.connect() as connection:
            yield await connection.execution_options(reads=True)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, or rolled back by an exception. Raises DatabaseAwayError."""
        async with self._told(), self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Tell a database that is away from everything else, and remember which it is."""
        try:
            yield
        except (OSError, TimeoutError, PoolTimeoutError, OperationalError, InterfaceError) as error:
            if not self._away:
                logger.warning("the database is away: %s", _first_line(error))
            self._away = True
            raise DatabaseAwayError(_first_line(error)) from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._away = True
            raise DatabaseAwayError(_first_line(error)) from error
        if self._away:
            logger.warning("the database is back")
            self._away = False


def parse_url(url: str) -> URL:
    """The URL with the driver we use. Raises ValueError for an engine that is neither SQLite nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("expected a URL such as sqlite:///./var/lockgate.db or postgresql://user@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(f"the database must be sqlite:// or postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername=driver)


def shown(url: URL) -> str:
    """The URL without its password."""
    return url.render_as_string(hide_password=True)


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        arguments: dict[str, Any] = {"timeout": _CONNECT, "command_timeout": _STATEMENT}
        return create_async_engine(url, pool_pre_ping=True, pool_timeout=_CONNECT, connect_args=arguments)
    waiting = {"pool_timeout": _CONNECT} if _make_file(url) else {}  # in memory there is one connection for all
    engine = create_async_engine(url, connect_args={"timeout": _STATEMENT}, **waiting)

    @event.listens_for(engine.sync_engine, "connect")
    def settle(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, as the driver's own way tears them
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=NORMAL")  # survives a killed process; the last commits not a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        immediate = not connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _make_file(url: URL) -> bool:
    """A file for its owner only, with a write-ahead log: a mode the file keeps. False: it is none. Raises OSError."""
    if not url.database or url.database == ":memory:":
        return False
    path = Path(url.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for _ in range(_TRIES):
        with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            return True
        time.sleep(_PAUSE)  # another instance is switching it, which SQLite does not wait for
    raise OSError(f"{path} is locked by another program")


def migrations() -> list[Migration]:
    """The steps that this version brings: `migrations/NNNN-name.sql`, a statement ends with `;` at a line's end."""
    found = []
    for file in (files("proxy") / "migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("-")
        if file.name.endswith(".sql"):
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("--")]
            statements = tuple(each.strip() for each in "\n".join(lines).split(";\n") if each.strip(" \n;"))
            found.append(Migration(int(number), name, statements))
    return sorted(found, key=lambda step: step.version)


async def migrate(engine: AsyncEngine, steps: list[Migration]) -> None:
    """Apply the steps that are missing, one instance at a time. Raises OSError when the schema is newer than ours."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        await connection.execute(
            text("CREATE TABLE IF NOT EXISTS schema_steps (version INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        )
        done = set((await connection.execute(text("SELECT version FROM schema_steps"))).scalars())
        unknown = done - {step.version for step in steps}
        if unknown:
            raise OSError(f"its schema has step {max(unknown)}, which this version does not know: use a newer Lockgate")
        for step in steps:
            if step.version not in done:
                for statement in step.statements:
                    await connection.exec_driver_sql(statement.removesuffix(";"))
                await connection.execute(
                    text("INSERT INTO schema_steps (version, name) VALUES (:version, :name)"),
                    {"version": step.version, "name": step.name},
                )


def _first_line(error: BaseException) -> str:
    """What went wrong without the statement and its values, which may hold what must not be logged."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(cause, (asyncio.TimeoutError, sqlite3.Error)) and not str(cause):
        return type(cause).__name__
    return (str(cause).splitlines() or [type(cause).__name__])[0][:200]
