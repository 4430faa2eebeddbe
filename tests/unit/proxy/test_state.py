"""The database: one schema on both engines, brought up to date by one instance at a time."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from sqlalchemy import text
from support.postgres import Postgres

from proxy.state import Database, DatabaseAwayError, Migration, migrate, migrations, parse_url

FIRST = Migration(1, "one", ("CREATE TABLE one (a TEXT PRIMARY KEY)", "INSERT INTO one (a) VALUES ('x')"))
SECOND = Migration(2, "two", ("ALTER TABLE one ADD COLUMN b BIGINT NOT NULL DEFAULT 7",))
BROKEN = Migration(2, "two", ("CREATE TABLE half (a TEXT)", "CREATE TABLE one (a TEXT)"))


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    async with database.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


async def test_steps_are_applied_once_in_order_and_keep_what_is_there(url: str) -> None:
    database = Database(url)
    await migrate(database.engine, [FIRST])
    await migrate(database.engine, [FIRST, SECOND])
    await migrate(database.engine, [FIRST, SECOND])
    assert await rows(database, "SELECT a, b FROM one") == [("x", 7)]
    await database.aclose()


async def test_a_step_that_fails_leaves_nothing_behind(url: str) -> None:
    database = Database(url)
    await migrate(database.engine, [FIRST])
    with pytest.raises(Exception, match="already exists"):
        await migrate(database.engine, [FIRST, BROKEN])
    await migrate(database.engine, [FIRST, SECOND])
    assert await rows(database, "SELECT version FROM schema_steps ORDER BY version") == [(1,), (2,)]
    await database.aclose()


async def test_instances_that_start_together_migrate_once(url: str) -> None:
    databases = [Database(url) for _ in range(4)]
    await asyncio.gather(*(database.start() for database in databases))
    steps = len(migrations())
    assert await rows(databases[0], "SELECT count(*) FROM schema_steps") == [(steps,)]
    for database in databases:
        await database.aclose()


async def test_a_newer_schema_is_refused(url: str) -> None:
    database = Database(url)
    await migrate(database.engine, [FIRST, SECOND])
    with pytest.raises(OSError, match="newer Lockgate"):
        await migrate(database.engine, [FIRST])
    await database.aclose()


async def test_an_outage_is_told_and_ends_by_itself(postgres_server: Postgres, postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.start()
    assert await _one(database) == 1
    await _outage(postgres_server, database)
    assert await _one(database) == 1
    assert database.state() == "ok"
    await database.aclose()


async def _outage(server: Postgres, database: Database) -> None:
    await server.stop()
    try:
        with pytest.raises(DatabaseAwayError):
            await _one(database)
        assert database.state() == "degraded"
    finally:
        await server.start()


async def _one(database: Database) -> object:
    return (await rows(database, "SELECT 1"))[0][0]


async def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    database = Database("postgresql://me:hunter2@127.0.0.1:9/none")
    with pytest.raises(OSError, match="cannot be used") as caught:
        await database.start()
    assert "hunter2" not in str(caught.value)


async def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/state/lockgate.db")
    await database.start()
    assert (tmp_path / "state" / "lockgate.db").stat().st_mode & 0o777 == 0o600
    await database.aclose()


@pytest.mark.parametrize("bad", ["mysql://x/y", "nonsense", ""])
def test_another_engine_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:"):
        parse_url(bad)


async def test_a_database_with_no_connection_left_counts_as_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for one is told so, and the next one finds it again."""
    monkeypatch.setattr("proxy.state._CONNECT", 0.05)
    database = Database(url)
    with pytest.raises(DatabaseAwayError) as caught:
        await _hold_too_many(database)
    assert caught.value.http_status == 503
    assert await _one(database) == 1
    await database.aclose()


async def _hold_too_many(database: Database) -> None:
    async with contextlib.AsyncExitStack() as held:
        for _ in range(100):
            await held.enter_async_context(database.connect())
