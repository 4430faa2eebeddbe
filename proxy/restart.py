"""Which changes of a configuration a running instance cannot take up."""

from collections.abc import Iterator
from functools import reduce

from proxy.config import Config, RecordConfig

_KEYS = {
    "server.host": "server.host",
    "server.port": "server.port",
    "server.state_dir": "server.state_dir",
    "server.drain_delay": "server.drain_delay",
    "server.drain_timeout": "server.drain_timeout",
    "database": "database",
    "limits_store": "counting",
    "budget.lease": "budgeting.lease",
    "ledger.keep": "ledger.keep",
    "metrics.token": "metrics.token",
    "qdrant": "qdrant",
    **{f"record.{name}": f"record.{name}" for name in RecordConfig.__struct_fields__ if name != "bodies"},
}
"""What is read at start alone, and where its value is in a Config, defaults included."""
_CACHES = {"exact_cache": ("memory",), "semantic_cache": ("embedder", "reranker")}
"""They are made at start; of the rest of their settings a reload takes up all."""


def waiting(began: Config, config: Config) -> list[str]:
    """The keys by which `config` differs from what the instance began with, and which wait for a restart."""
    changed = [key for key, place in _KEYS.items() if _at(began, place) != _at(config, place)]
    return changed + list(_waiting_caches(began, config))


def _waiting_caches(began: Config, config: Config) -> Iterator[str]:
    for key, members in _CACHES.items():
        before, after = getattr(began, key), getattr(config, key)
        if after is not None and before is None:
            yield key
        elif after is not None:
            yield from (f"{key}.{name}" for name in members if getattr(before, name) != getattr(after, name))


def _at(config: Config, place: str) -> object:
    return reduce(getattr, place.split("."), config)
