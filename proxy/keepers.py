"""What outlives a reload: the files, stores and services of one instance, made at start and ended with it."""

import fcntl
import importlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import IO, Protocol

import msgspec
from litestar.types import ControllerRouterHandler

from adapters.limits_storage import LazyStorage
from policies.authenticate import AuthenticateConfig
from policies.cooldown import CooldownConfig, Cooldowns
from policies.guards.security import Security, security_key
from policies.record import RecentRecords, Sink
from proxy.accounting import bookkeeper, open_store
from proxy.accounts import Accounts
from proxy.caches import Caches, make_caches
from proxy.callers import AddressOf, Callers
from proxy.claims import LimitStore
from proxy.config import Config, LimitsStore, Secrets
from proxy.edge import Edge
from proxy.logs import AccessLog
from proxy.metrics import Metrics
from proxy.outbox import Outbox
from proxy.pulse import Pulse
from proxy.runtime import Service
from proxy.shipping import shipping
from proxy.sql import Store
from proxy.traffic import Traffic


class Identifies(Service, Protocol):
    """What `proxy.identity` offers, looked up by name only where authentication is configured."""

    callers: Callers

    def configure(
        self,
        config: AuthenticateConfig,
        secrets: Secrets,
        *,
        fetch: Callable[[str], Awaitable[bytes]],
        address_of: AddressOf,
    ) -> None:
        """Go by this configuration from now on. Raises OSError."""
        ...

    def handlers(self, edge: Edge) -> list[ControllerRouterHandler]:
        """Its routes."""
        ...


class Keepers(msgspec.Struct, frozen=True):
    """What outlives a reload: one set an instance, made at start."""

    sinks: tuple[Sink, ...]
    recent: RecentRecords
    cooldowns: Cooldowns
    random: Random
    store: Store
    accounts: Accounts
    limits: LimitStore
    metrics: Metrics
    traffic: Traffic
    pulse: Pulse
    access_log: AccessLog
    security: Security
    """What guards report; `totals` are for metrics."""
    outbox: Outbox | None = None
    lock: IO[bytes] | None = None
    """Held as long as this instance owns the state folder."""
    identity: Identifies | None = None
    services: tuple[Service, ...] = ()
    """In the order in which they start; they end in the reverse."""
    caches: Caches | None = None

    @classmethod
    def open(cls, config: Config) -> "Keepers":
        """Make the state folder and what stands in it. Raises OSError."""
        folder = Path(config.server.state_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = _only_instance(folder)
        keepers = keepers_of(config, Outbox(folder / "outbox", config.record.max_size))
        security = Security(security_key(folder))
        return msgspec.structs.replace(_with_identity(keepers, config), lock=lock, security=security)

    async def start(self) -> None:
        """Start the services. Raises OSError."""
        for service in self.services:
            await service.start()

    async def aclose(self) -> None:
        """End the services, also those that never started, and let the state folder go."""
        for service in reversed(self.services):
            await service.aclose()
        if self.lock is not None:
            self.lock.close()


def _only_instance(folder: Path) -> IO[bytes]:
    """Take the folder for this instance; the system frees it however the process ends. Raises OSError."""
    lock = (folder / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OSError(f"{folder} is in use by another instance: give each its own server.state_dir") from None
    return lock


def _with_identity(keepers: Keepers, config: Config) -> Keepers:
    """Add the database and what is known of it. Their libraries are heavy, so they are loaded only where needed."""
    if not config.needs_identity:
        return keepers
    module = importlib.import_module("proxy.identity")
    database = module.open_database(config)
    identity = module.open_identity(config, database)
    return msgspec.structs.replace(keepers, identity=identity, services=(*keepers.services, database, identity))


def keepers_of(config: Config, outbox: Outbox | None) -> Keepers:
    """What a configuration asks for; without an outbox nothing of it ever starts: enough to describe a chain."""
    store = open_store(config)
    accounts = Accounts(store, lease=config.budgeting.lease, now=time.time)
    limits, services = _limit_store(config.counting)
    recent, metrics, traffic, pulse = RecentRecords(), Metrics(), Traffic(time.time), Pulse()
    access_log = AccessLog(config.log)
    caches = make_caches(config)
    cache_services = caches.services if caches is not None else ()
    return Keepers(
        sinks=(recent, metrics, traffic),
        recent=recent,
        cooldowns=Cooldowns(cooling(config), time.monotonic),
        random=Random(),  # noqa: S311 - jitter and weights, no secrets
        metrics=metrics,
        traffic=traffic,
        pulse=pulse,
        access_log=access_log,
        security=Security(security_key(None)),
        store=store,
        accounts=accounts,
        limits=limits,
        caches=caches,
        outbox=outbox,
        services=(pulse,)
        if outbox is None
        else (
            *services,
            outbox,
            bookkeeper(config, store, outbox, accounts),
            *shipping(config, outbox),
            *cache_services,
            pulse,
        ),
    )


def _limit_store(config: LimitsStore) -> tuple[LimitStore, tuple[Service, ...]]:
    if config.url.startswith("memory:"):
        return LazyStorage(), ()
    make = importlib.import_module("adapters.limits_redis").RedisLimits  # its library loads only where it is used
    store = make(config)
    return store, (store,)


def cooling(config: Config) -> CooldownConfig:
    """How deployments rest."""
    return config.failing_over.cooldown if config.failing_over is not None else CooldownConfig()
