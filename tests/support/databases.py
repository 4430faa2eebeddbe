"""Databases for tests: a file, or a new database on one PostgreSQL that serves a whole test module."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from support.postgres import Postgres, postgres

from proxy.state import parse_url

_numbers = itertools.count()


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL for the tests of one module, in a folder of its own: another user must be able to reach it."""
    with tempfile.TemporaryDirectory(prefix="lockgate-") as folder, asyncio.Runner() as runner:
        opened = postgres(Path(folder) / "postgres")
        yield runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """An empty database on the module's PostgreSQL."""
    name = f"t{next(_numbers)}"
    asyncio.run(_create(postgres_server, name))
    return postgres_server.url.removesuffix("postgres") + name


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each engine in turn, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/lockgate.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


async def _create(server: Postgres, name: str) -> None:
    engine = create_async_engine(parse_url(server.url), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
    finally:
        await engine.dispose()
