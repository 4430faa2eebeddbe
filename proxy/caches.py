"""What the caches are made of, once an instance: the store, the memory in front of it, and the queue behind."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from adapters.network import tls_context
from adapters.transport_aiohttp import AiohttpTransport
from policies.cache_kept import Counts, ExactKept, Hit, Served
from policies.cache_memory import Memory
from policies.cache_store import Store
from policies.cache_writer import CacheWriter
from policies.semantic_kept import SemanticCounts, SemanticKept, Tallies
from proxy.call import Call
from proxy.config import Config, Qdrant
from proxy.entries import Selection
from proxy.runtime import Service
from proxy.semantic import make_embedder, make_reranker
from proxy.version import VERSION

_PENDING = 64 * 1024 * 1024
"""Bytes of calls and answers that may wait to be stored."""
_FRESH = 10.0
"""Seconds for which memory is trusted before a store that other instances share."""


class Stores(Service, Protocol):
    """Qdrant, embedded or a server: collections by name."""

    kind: str

    def collection(self, name: str, dims: int) -> Store:
        """The collection of this name; to be asked for before the start."""
        ...


class Tier(Protocol):
    """What the operator asks of one cache."""

    async def stats(self) -> dict[str, Any]:
        """Its counts."""
        ...

    async def clear(self, selection: Selection) -> int:
        """Remove what is meant; how many there were. Raises StoreUnavailable."""
        ...

    async def wrong(self, hit: Hit) -> None:
        """A caller says that this hit was wrong. Raises StoreUnavailable."""
        ...


class Caches(msgspec.Struct, frozen=True):
    """The state of the caches. `explainers` are those of the configuration in force, by tier."""

    stores: Stores
    served: Served
    exact: ExactKept | None = None
    semantic: SemanticKept | None = None
    models: tuple[Service, ...] = ()
    """Embedder and reranker."""
    explainers: dict[str, Callable[[Call], dict[str, Any]]] = {}

    @property
    def tiers(self) -> dict[str, Tier]:
        """The caches by name."""
        named: dict[str, Tier | None] = {"exact": self.exact, "semantic": self.semantic}
        return {name: tier for name, tier in named.items() if tier is not None}

    async def wrong(self, hit: Hit) -> None:
        """A caller says that this hit was wrong; where its answer is, the same answer goes from the other cache as well.

        Raises StoreUnavailable.
        """
        if self.exact is not None and self.semantic is not None:
            kept, other = (self.exact, self.semantic) if hit.tier == "exact" else (self.semantic, self.exact)
            twin = await kept.twin(hit)
            if twin is not None:
                await other.clear(Selection(ids=(twin,)))
        await self.tiers[hit.tier].wrong(hit)

    def about(self) -> dict[str, str]:
        """What the store is and how."""
        return {"kind": self.stores.kind, "state": self.stores.state()}

    @property
    def services(self) -> tuple[Service, ...]:
        """In the order in which they start: what writes, after what it writes to."""
        parts = (
            self.stores,
            *self.models,
            self.exact.writer if self.exact is not None else None,
            self.semantic.writer if self.semantic is not None else None,
        )
        return tuple(part for part in parts if part is not None)


def make_caches(config: Config) -> Caches | None:
    """The caches that are configured; None without any. Touches no state: the services are started later."""
    if config.exact_cache is None and config.semantic_cache is None:
        return None
    stores, served = make_stores(config), Served()
    exact = semantic = None
    models: list[Service] = []
    if config.exact_cache is not None:
        store = stores.collection("exact", 0)
        exact = ExactKept(
            store=store,
            memory=Memory(config.exact_cache.memory, time.time, _FRESH if config.qdrant.url else None),
            writer=CacheWriter("exact_cache", _PENDING, store),
            served=served,
            counts=Counts(),
        )
    if config.semantic_cache is not None:
        settings, ca_file = config.semantic_cache, config.transport.ca_file
        embedder = make_embedder(settings.embedder, ca_file)
        asked = settings.reranker
        reranker = make_reranker(asked, ca_file) if asked is not None and asked.base_url else None
        models += [embedder, *([reranker] if reranker is not None else [])]
        store = stores.collection("semantic", embedder.size)
        semantic = SemanticKept(
            store=store,
            embedder=embedder,
            writer=CacheWriter("semantic_cache", _PENDING, store),
            served=served,
            counts=SemanticCounts(),
            tallies=Tallies(),
            now=time.time,
            reranker=reranker,
        )
    return Caches(stores, served, exact, semantic, tuple(models))


def make_stores(config: Config) -> Stores:
    """Qdrant as it is configured. Each adapter is looked up by name: its library is not loaded where it is not used."""
    if config.qdrant.url:
        transport = AiohttpTransport(tls_context(config.transport.ca_file), agent=f"lockgate/{VERSION}")
        server = importlib.import_module("adapters.qdrant_server").QdrantServer
        return cast("Stores", server(config.qdrant, transport, time.time))
    make = cast(
        "Callable[[Path, Qdrant, Callable[[], float]], Stores]",
        importlib.import_module("adapters.qdrant").EmbeddedQdrant,
    )
    return make(store_folder(config), config.qdrant, time.time)


def store_folder(config: Config) -> Path:
    """Where the embedded store is."""
    return Path(config.server.state_dir) / "qdrant"
