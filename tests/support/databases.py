"""Databases for tests: a file, or a new database on one PostgreSQL that serves the whole session."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import Postgres, fresh, shared_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL in a folder of its own, since another user must be able to reach it. Who stops it starts it again."""
    with (
        tempfile.TemporaryDirectory(prefix="lockgate-") as folder,
        shared_postgres(Path(folder) / "postgres") as running,
    ):
        yield running


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """An empty database on it."""
    return asyncio.run(fresh(postgres_server, f"t{next(_numbers)}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each engine in turn, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/lockgate.db"
    found: str = request.getfixturevalue("postgres_url")
    return found
