"""A server that is away, slow, refusing or of another shape. The server is a stand-in: see tests/support."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable

import jsonschema
import pytest
from support.calls import Clock
from support.entries import at, entry_of
from support.qdrant_stand_in import OPENAPI, QdrantStandIn, check, qdrant_stand_in

from adapters.qdrant_admin import QdrantAdmin
from adapters.qdrant_server import QdrantServer, ServerCollection
from adapters.transport_aiohttp import AiohttpTransport
from proxy.config import Qdrant
from proxy.entries import StoreUnavailable
from proxy.values import Duration, Secret


@pytest.fixture
async def server() -> AsyncIterator[QdrantStandIn]:
    async with qdrant_stand_in() as running:
        yield running


@contextlib.asynccontextmanager
async def connected(server: QdrantStandIn, dims: int = 0) -> AsyncIterator[tuple[QdrantServer, ServerCollection]]:
    """The service, started, and one collection."""
    config = Qdrant(url=server.url, timeout=Duration(0.2), cool_down=Duration(0.05), api_key=Secret(""))
    service = QdrantServer(config, AiohttpTransport(ssl.create_default_context(), agent="test"), Clock(1500.0))
    store = service.collection("exact", dims)
    await service.start()
    if server.is_running:
        await until(lambda: service.state() == "ok")
    try:
        yield service, store
    finally:
        await service.aclose()


async def until(true: Callable[[], bool]) -> None:
    """Wait for what the background does."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.01)


def test_the_stand_in_takes_no_body_that_a_server_would_not() -> None:
    """The published schemas are really applied, inside references too."""
    schema = OPENAPI["routes"]["POST /collections/{collection_name}/points/count"]["request"]
    check({"exact": True, "filter": {"must": [{"key": "route", "match": {"value": "r"}}]}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        check({"exact": "yes"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        check({"filter": {"must": [{"key": "route", "match": 3}]}}, schema)


async def test_a_server_that_dies_is_left_alone_until_it_is_back(server: QdrantStandIn) -> None:
    """One call learns it, the next are refused at once, and it is used again without a restart, as it was."""
    async with connected(server) as (service, store):
        await store.put([entry_of("a")])
        await server.stop()
        with pytest.raises(StoreUnavailable):
            await store.get([entry_of("a").id])
        assert service.state() == "degraded"
        with pytest.raises(StoreUnavailable, match="away"):
            await store.put([entry_of("b")])
        await server.start()
        await until(lambda: service.state() == "ok")
        assert await store.get([entry_of("a").id]) == {entry_of("a").id: entry_of("a")}


async def test_a_server_that_is_not_there_at_start_is_used_once_it_is(server: QdrantStandIn) -> None:
    """Its collections are made then."""
    await server.stop()
    async with connected(server) as (service, store):
        assert service.state() == "degraded"
        await server.start()
        await until(lambda: service.state() == "ok")
        await store.put([entry_of("a")])
        assert await store.count() == 1


async def test_nobody_waits_for_a_slow_server(server: QdrantStandIn) -> None:
    """A lookup ends at the timeout, the next at once."""
    async with connected(server) as (service, store):
        server.delay = 30.0
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.get([entry_of("a").id])
        with pytest.raises(StoreUnavailable, match="away"):
            await store.get([entry_of("a").id])
        assert time.monotonic() - began < 5
        assert service.state() == "degraded"
        server.delay = 0.0
        await until(lambda: service.state() == "ok")


@pytest.mark.parametrize(("status", "state"), [(500, "degraded"), (401, "degraded"), (404, "degraded"), (413, "ok")])
async def test_what_a_refusal_says_of_the_server(server: QdrantStandIn, status: int, state: str) -> None:
    """Errors of its own and missing collections make it rest; fault found with one request does not."""
    async with connected(server) as (service, store):
        server.status = status
        with pytest.raises(StoreUnavailable, match=str(status)):
            await store.put([entry_of("a")])
        assert service.state() == state


async def test_vectors_of_another_length_are_refused_at_start(server: QdrantStandIn) -> None:
    """With the command that mends it; and never put."""
    async with connected(server, dims=2) as (_, store):
        await store.put([entry_of("a", vector=at(0))])
        with pytest.raises(ValueError, match="length 0"):
            await store.put([entry_of("b")])
    with pytest.raises(OSError, match="lockgate cache migrate lockgate_exact"):
        async with connected(server, dims=3):
            pass
    admin = QdrantAdmin(server.url, "")  # what the command does
    await admin.drop("lockgate_exact")
    await admin.aclose()
    async with connected(server, dims=3) as (_, store):
        assert await store.count() == 0


async def test_the_sweeper_removes_what_has_expired(server: QdrantStandIn) -> None:
    """And nothing else."""
    async with connected(server) as (_, store):
        await store.put([entry_of("a", expires_at=1500), entry_of("b")])
        await store.sweep()
        assert await store.count() == 1
