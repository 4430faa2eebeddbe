"""The composition root: which policies stand in which order, and what they are made of."""

import fcntl
import importlib
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import IO, Protocol

import msgspec

from adapters.fake import Engine
from adapters.fake_transport import FakeTransport
from adapters.network import proxies_in, tls_context
from adapters.transport import Transport
from adapters.transport_aiohttp import AiohttpTransport
from policies.attempt import SendOnce
from policies.cache_controls import PartitionBy, ReadCacheControls
from policies.cooldown import CooldownConfig, Cooldowns
from policies.exact_cache import ExactCache, ExactCacheConfig
from policies.failover import Failover, FailoverConfig
from policies.local_only import LocalOnly
from policies.read import ReadBody
from policies.record import RecentRecords, RecordFile, Sink, WriteRecord
from policies.semantic_cache import SemanticCache, SemanticCacheConfig
from policies.single_flight import SingleFlight
from proxy.build import Plan, ProviderMaker, listens, make_routes, plan, timeouts
from proxy.caches import Caches, make_caches
from proxy.call import Call
from proxy.chain import Handler, Policy, chain
from proxy.config import Config
from proxy.cors import Cors
from proxy.endpoints import ENDPOINTS
from proxy.models import ModelList
from proxy.router import Router
from proxy.runtime import Runtime, Service
from proxy.semantic import make_semantic_cache
from proxy.version import VERSION

Named = tuple[str, Policy]


class MakeTransport(Protocol):
    """What every implementation of the transport seam is made from."""

    def __call__(self, tls: ssl.SSLContext, *, agent: str, proxies: Mapping[str, str]) -> Transport:
        """A transport."""
        ...


class Keepers(msgspec.Struct, frozen=True):
    """What outlives a reload: one set an instance, made at start."""

    sinks: tuple[Sink, ...]
    recent: RecentRecords
    cooldowns: Cooldowns
    random: Random
    records: RecordFile | None = None
    lock: IO[bytes] | None = None
    """Held as long as this instance owns the state folder."""
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
        return msgspec.structs.replace(_keepers_of(config, RecordFile(folder, config.record.max_size)), lock=lock)

    async def start(self) -> None:
        """Start the services. Raises OSError."""
        for service in self.services:
            await service.start()

    async def aclose(self) -> None:
        """End the services, also those that never started, and close the files."""
        for service in reversed(self.services):
            await service.aclose()
        if self.records is not None:
            self.records.close()
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


def _keepers_of(config: Config, records: RecordFile | None) -> Keepers:
    recent = RecentRecords()
    caches = make_caches(config)
    return Keepers(
        sinks=(recent,) if records is None else (records, recent),
        recent=recent,
        cooldowns=Cooldowns(_cooldown(config), time.monotonic),
        random=Random(),  # noqa: S311 - jitter and weights, no secrets
        records=records,
        services=caches.services if caches is not None else (),
        caches=caches,
    )


def _cooldown(config: Config) -> CooldownConfig:
    return config.failing_over.cooldown if config.failing_over is not None else CooldownConfig()


def build(config: Config, keepers: Keepers, environment: Mapping[str, str]) -> tuple[Runtime, Plan]:
    """One configuration as a runtime. Raises OSError when a file it names cannot be read."""
    planned = plan(config, listens)
    transport = _transport(config, environment)
    fake = FakeTransport(Engine(time.time))
    router = _router(config, planned, ProviderMaker(transport, fake, time.time))
    keepers.cooldowns.configure(_cooldown(config))
    before, after = policies(config, keepers, router)
    if keepers.caches is not None:
        keepers.caches.explainers.clear()
        for _, policy in after:
            if isinstance(policy, ExactCache):
                keepers.caches.explainers["exact"] = policy.explain
            elif isinstance(policy, SemanticCache):
                keepers.caches.explainers["semantic"] = policy.explain
    handlers: dict[str, Handler] = {}
    for endpoint in ENDPOINTS:
        handlers[endpoint.name] = chain([each for _, each in before + after], SendOnce(time.monotonic))
    handlers["models"] = chain([each for _, each in before], ModelList(router, int(time.time())))
    runtime = Runtime(
        handlers=handlers,
        router=router,
        early_headers=timeouts(config.timeouts).early_headers,
        max_in_flight=config.server.max_in_flight,
        cors=Cors(config.cors.origins) if config.cors is not None else None,
        closes=[transport.aclose, fake.aclose, *(each.aclose for _, each in after if isinstance(each, SemanticCache))],
    )
    return runtime, planned


def describe(config: Config, environment: Mapping[str, str]) -> tuple[Plan, list[str]]:
    """What a configuration comes to: its plan and the names of its policies in order. Touches no state."""
    planned, router = _offline(config, environment)
    before, after = policies(config, _keepers_of(config, None), router)
    return planned, [name for name, _ in before + after]


def explain_route(config: Config, environment: Mapping[str, str], model: str) -> list[str]:
    """Where a call for this model would go, line by line. Raises UnknownModel."""
    _, router = _offline(config, environment)
    route = router.find(model)
    settings = route.failover or config.failing_over
    if settings is None:
        first = route.deployments[0] if route.deployments else None
        where = f"{first.provider_name} {first.model}" if first else "nowhere: it has only fallbacks"
        return [f"{model} is route {route.name}", f"one attempt, no failover configured: {where}"]
    cooldowns = Cooldowns(settings.cooldown, time.monotonic)
    failover = Failover(settings, cooldowns, find_route=router.find, now=time.monotonic, random=Random(0))  # noqa: S311
    return [
        (
            f"{model} is route {route.name}: {route.strategy}, {settings.tries} tries each, "
            f"{settings.max_attempts} attempts in all, within {settings.deadline:g} s"
        ),
        *failover.explain(route),
    ]


def _offline(config: Config, environment: Mapping[str, str]) -> tuple[Plan, Router]:
    planned = plan(config, listens)
    maker = ProviderMaker(_transport(config, environment), FakeTransport(Engine(time.time)), time.time)
    return planned, _router(config, planned, maker)


def _router(config: Config, planned: Plan, maker: ProviderMaker) -> Router:
    providers = {name: maker.make(name, each) for name, each in planned.providers.items()}
    return Router(make_routes(config, planned, providers))


def policies(config: Config, keepers: Keepers, router: Router) -> tuple[list[Named], list[Named]]:
    """THE order, outermost first: those before a body is read, which serve every path, and those after."""
    origins = config.cors.origins if config.cors is not None else ()
    server = config.server
    before: list[Named] = [
        # sees everything, refusals too
        ("record", WriteRecord(keepers.sinks, time.time)),
        # while there is no authentication: this machine only
        ("local_only", LocalOnly((server.host, *server.hosts), origins)),
    ]
    after: list[Named] = [
        # only now is a body read from the socket
        ("read", ReadBody(router, limit=server.body_limit, in_flight=server.body_bytes_in_flight)),
    ]
    failover = None if config.failing_over is None else _failover(config.failing_over, keepers, router)
    if config.single_flight is not None or config.exact_cache is not None or config.semantic_cache is not None:
        # before whatever heeds them; a member that is for us alone goes no further
        after.append(("cache_controls", ReadCacheControls()))
    if config.single_flight is not None:
        # before anything that costs: followers neither look up, embed nor spend
        after.append(("single_flight", SingleFlight(config.single_flight, _no_guards, _partition_by(config))))
    if config.exact_cache is not None:
        # a hit costs no embedding, no budget and no attempt
        after.append(
            (
                "exact_cache",
                _exact_cache(config.exact_cache, keepers, semantic_follows=config.semantic_cache is not None),
            )
        )
    if config.semantic_cache is not None:
        # an exact hit needs no embedding; whatever is stored has passed all that stands below
        upstream = chain([] if failover is None else [failover], SendOnce(time.monotonic))
        after.append(("semantic_cache", _semantic_cache(config.semantic_cache, keepers, upstream)))
    if failover is not None:
        # innermost: what it tries again has passed everything else once
        after.append(("failover", failover))
    return before, after


def _partition_by(config: Config) -> PartitionBy:
    return config.exact_cache.partition if config.exact_cache is not None else "tenant"


def _exact_cache(config: ExactCacheConfig, keepers: Keepers, *, semantic_follows: bool) -> ExactCache:
    if keepers.caches is None or keepers.caches.exact is None:
        raise OSError("exact_cache was not configured at start: it begins with a restart")
    return ExactCache(config, keepers.caches.exact, _no_guards, time.time, semantic_follows=semantic_follows)


def _semantic_cache(config: SemanticCacheConfig, keepers: Keepers, upstream: Handler) -> SemanticCache:
    if keepers.caches is None or keepers.caches.semantic is None:
        raise OSError("semantic_cache was not configured at start: it begins with a restart")
    return make_semantic_cache(config, keepers.caches.semantic, upstream=upstream, guards=_no_guards)


def _failover(config: FailoverConfig, keepers: Keepers, router: Router) -> Failover:
    return Failover(config, keepers.cooldowns, find_route=router.find, now=time.monotonic, random=keepers.random)


def _transport(config: Config, environment: Mapping[str, str]) -> Transport:
    tls = tls_context(config.transport.ca_file)
    if config.transport.client == "httpx":  # looked up by name: its library is not loaded where it is not used
        make: MakeTransport = importlib.import_module("adapters.transport_httpx").HttpxTransport
        return make(tls, agent=f"lockgate/{VERSION}", proxies=proxies_in(environment))
    return AiohttpTransport(tls, agent=f"lockgate/{VERSION}", proxies=proxies_in(environment))


def _no_guards(_call: Call) -> bytes:
    return b""
