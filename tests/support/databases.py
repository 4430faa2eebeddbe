"""Databases for tests: a file, or a new database on one PostgreSQL that serves the whole session."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import Postgres, fresh, shared_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL; who stops it starts it again."""
    with shared_postgres(tmp_path_factory.mktemp("databases") / "postgres") as running:
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
