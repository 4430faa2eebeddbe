"""Stores of the ledger for tests: each law is held on both engines."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.postgres import Postgres, fresh

from proxy.sql import Row, Sql, SqliteStore, Store
from proxy.sql_postgres import PostgresStore

ENGINES = ("sqlite", "postgresql")


@asynccontextmanager
async def opened(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Store]:
    """An empty store of the kind that `request.param` names; PostgreSQL from the fixture `server`."""
    store = await make_store(request, folder)
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()


async def make_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    """The same, not started."""
    if request.param == "sqlite":
        return SqliteStore(folder / "lockgate.db")
    server: Postgres = request.getfixturevalue("server")
    return PostgresStore(await fresh(server, folder.name))


async def rows(store: Store, query: str, values: Mapping[str, Any] | None = None) -> list[Row]:
    """What a query finds."""

    def work(sql: Sql) -> list[Row]:
        return sql.rows(query, values or {})

    return await store.run(work)


async def account(store: Store, name: str) -> tuple[int, int]:
    """What an account has spent and reserved, in all its periods."""
    query = "SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0) FROM accounts WHERE account = :name"
    ((spent, reserved),) = await rows(store, query, {"name": name})
    return int(spent), int(reserved)
