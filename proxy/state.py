"""The database: keys, users, budgets and the ledger. A SQLite file by default, PostgreSQL by URL, one schema."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.health import State
from proxy.schema_steps import DatabaseAwayError, Migration, migrations, refuse_newer
from proxy.sql import make_file

__all__ = ["Database", "DatabaseAwayError", "Migration", "migrate", "migrations", "parse_url", "shown"]

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
_AWAY = ("08", "53", "57")
"""PostgreSQL's classes of errors that say nothing of the statement: no connection, no room, starting up or going down."""
_CONNECT = 5.0
_STATEMENT = 5.0
"""Seconds that a connection and a statement may take before the database counts as away."""


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
        except (OSError, TimeoutError, OperationalError, InterfaceError, NoFreeConnectionError) as error:
            if not self._away:
                logger.warning("the database is away: %s", _first_line(error))
            self._away = True
            raise DatabaseAwayError(_first_line(error)) from error
        except DBAPIError as error:
            if not (error.connection_invalidated or (getattr(error.orig, "sqlstate", None) or "")[:2] in _AWAY):
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
    options: dict[str, Any] = {"connect_args": {"timeout": _STATEMENT}}
    if url.database and url.database != ":memory:":
        make_file(Path(url.database))
        options["pool_timeout"] = _CONNECT  # in memory there is one connection for all
    engine = create_async_engine(url, **options)

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


async def migrate(engine: AsyncEngine, steps: list[Migration]) -> None:
    """Apply the steps that are missing, one instance at a time. Raises OSError when the schema is newer than ours."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        await connection.execute(
            text("CREATE TABLE IF NOT EXISTS schema_steps (version INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        )
        done = set((await connection.execute(text("SELECT version FROM schema_steps"))).scalars())
        refuse_newer(done, steps)
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
