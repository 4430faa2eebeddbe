"""The composition root: which policies stand in which order, and what they are made of."""

import fcntl
import importlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import IO, Protocol

import msgspec
from litestar.types import ControllerRouterHandler

from adapters.fake import Engine
from adapters.fake_transport import FakeTransport
from adapters.network import proxies_in, tls_context
from adapters.transport import Request, Transport, TransportError
from adapters.transport_aiohttp import AiohttpTransport
from policies.attempt import SendOnce
from policies.authenticate import Authenticate, AuthenticateConfig
from policies.cooldown import CooldownConfig, Cooldowns
from policies.failover import Failover, FailoverConfig
from policies.local_only import LocalOnly
from policies.read import ReadBody
from policies.record import KeepTexts, Kept, RecentRecords, Sink, WriteRecord
from policies.single_flight import SingleFlight
from proxy.build import Plan, ProviderMaker, listens, make_routes, plan, timeouts
from proxy.call import Call
from proxy.callers import Callers
from proxy.chain import Handler, Policy, chain
from proxy.config import Config
from proxy.cors import Cors
from proxy.edge import Edge
from proxy.endpoints import ENDPOINTS
from proxy.failures import Failures
from proxy.models import ModelList
from proxy.outbox import Outbox
from proxy.router import Router
from proxy.runtime import Runtime, Service
from proxy.shipping import shipping
from proxy.values import Secret
from proxy.version import VERSION

Named = tuple[str, Policy]

_KEYS_TIME = 10.0
_KEYS_SIZE = 512 * 1024
"""Bounds on fetching an issuer's keys, in seconds and bytes."""
_OK = 200


class MakeTransport(Protocol):
    """What every implementation of the transport seam is made from."""

    def __call__(self, tls: ssl.SSLContext, *, agent: str, proxies: Mapping[str, str]) -> Transport:
        """A transport."""
        ...


class Identifies(Service, Protocol):
    """What `proxy.identity` offers, looked up by name only where authentication is configured."""

    callers: Callers

    def configure(
        self, config: AuthenticateConfig, admin_key: Secret, signing: Secret, fetch: Callable[[str], Awaitable[bytes]]
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
    outbox: Outbox | None = None
    lock: IO[bytes] | None = None
    """Held as long as this instance owns the state folder."""
    identity: Identifies | None = None
    services: tuple[Service, ...] = ()
    """In the order in which they start; they end in the reverse."""

    @classmethod
    def open(cls, config: Config) -> "Keepers":
        """Make the state folder and what stands in it. Raises OSError."""
        folder = Path(config.server.state_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = _only_instance(folder)
        keepers = _keepers_of(config, Outbox(folder / "outbox", config.record.max_size))
        return msgspec.structs.replace(_with_identity(keepers, config), lock=lock)

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


def _keepers_of(config: Config, outbox: Outbox | None) -> Keepers:
    recent = RecentRecords()
    return Keepers(
        sinks=(recent,),
        recent=recent,
        cooldowns=Cooldowns(_cooldown(config), time.monotonic),
        random=Random(),  # noqa: S311 - jitter and weights, no secrets
        outbox=outbox,
        services=() if outbox is None else (outbox, *shipping(config, outbox)),
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
    callers = keepers.identity.callers if keepers.identity is not None else _admin_only(config)
    before, after = policies(config, keepers, router, callers)
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
        callers=callers,
        closes=[transport.aclose, fake.aclose],
    )
    _configure_identity(config, keepers, transport)  # last: it holds at once, so nothing may fail any more
    return runtime, planned


def describe(config: Config, environment: Mapping[str, str]) -> tuple[Plan, list[str]]:
    """What a configuration comes to: its plan and the names of its policies in order. Touches no state."""
    planned, router = _offline(config, environment)
    before, after = policies(config, _keepers_of(config, None), router, _admin_only(config))
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


def policies(config: Config, keepers: Keepers, router: Router, callers: Callers) -> tuple[list[Named], list[Named]]:
    """THE order, outermost first: those before a body is read, which serve every path, and those after."""
    origins = config.cors.origins if config.cors is not None else ()
    server = config.server
    kept = Kept()
    record = WriteRecord(keepers.sinks, time.time, log=keepers.outbox, kept=kept)
    before: list[Named] = [
        # sees everything, refusals too
        ("record", record),
    ]
    if config.needs_identity:
        # before a body is read: who may not call costs next to nothing
        before.append(("authenticate", Authenticate(callers)))
    else:
        # while there is no authentication: this machine only
        before.append(("local_only", LocalOnly((server.host, *server.hosts), origins)))
    after: list[Named] = [
        # only now is a body read from the socket
        ("read", ReadBody(router, limit=server.body_limit, in_flight=server.body_bytes_in_flight)),
    ]
    if config.record.bodies != "off":
        # as the client sends and sees it: outside of everything that changes or answers a call
        after.append(("texts", KeepTexts(kept, config.record.bodies)))
    if config.single_flight is not None:
        # before anything that costs: followers neither look up, embed nor spend
        after.append(("single_flight", SingleFlight(config.single_flight, _no_guards, record.amend)))
    if config.failing_over is not None:
        # innermost: what it tries again has passed everything else once
        after.append(("failover", _failover(config.failing_over, keepers, router)))
    return before, after


def _configure_identity(config: Config, keepers: Keepers, transport: Transport) -> None:
    """Let in whom the configuration names. Raises OSError when this instance began without what it now asks for."""
    identity = keepers.identity
    if identity is None:
        if config.needs_identity:
            raise OSError("authenticate: this instance began without it; restart")
        return

    async def fetch(url: str) -> bytes:
        try:
            answer = await transport.send(
                Request(
                    url=url, method="GET", headers={"accept": "application/json"}, total=_KEYS_TIME, limit=_KEYS_SIZE
                )
            )
        except TransportError as error:
            raise OSError(str(error)) from error
        if answer.status != _OK:
            raise OSError(f"status {answer.status}")
        return answer.body

    nobody = AuthenticateConfig(keys=False)
    identity.configure(config.authenticate or nobody, config.secrets.admin_key, config.secrets.signing, fetch)


def _admin_only(config: Config) -> Callers:
    return Callers(config.secrets.admin_key, Failures(AuthenticateConfig().failures, time.monotonic))


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
