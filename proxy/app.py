"""The composition root: which policies stand in which order, and what they are made of."""

import importlib
import itertools
import ssl
import time
from collections.abc import Mapping
from random import Random
from typing import Protocol

import msgspec

from adapters.fake import Engine
from adapters.fake_transport import FakeTransport
from adapters.network import proxies_in, tls_context
from adapters.transport import Transport
from adapters.transport_aiohttp import AiohttpTransport
from policies.again import Repeatable
from policies.attempt import SendOnce
from policies.authenticate import Authenticate
from policies.budget import EnforceBudgets
from policies.cache_controls import PartitionBy, ReadCacheControls
from policies.caller_limits import CallerLimits
from policies.client_limits import ClientLimits
from policies.cooldown import Cooldowns
from policies.exact_cache import ExactCache
from policies.failover import Failover
from policies.local_only import LocalOnly
from policies.parameters import Parameters, told
from policies.read import ReadBody
from policies.record import KeepTexts, Kept, WriteRecord
from policies.rename import Rename
from policies.repeats import Repeats
from policies.semantic_cache import SemanticCache
from policies.short_form import ShortForm
from policies.single_flight import SingleFlight
from proxy.build import Plan, ProviderMaker, listens, make_routes, plan, price_book, timeouts
from proxy.call import Call
from proxy.callers import Callers
from proxy.chain import Handler, Policy, chain
from proxy.config import Config
from proxy.cors import Cors
from proxy.costs import Costs
from proxy.deployments import Route
from proxy.doors import Guarding, admin_only, callers_of, guards_of, let_in
from proxy.endpoints import ENDPOINTS
from proxy.keepers import Keepers, cooling, keepers_of
from proxy.models import ModelList
from proxy.paths import GENERATE
from proxy.places import Capacity
from proxy.prices import PriceBook
from proxy.router import Router
from proxy.runtime import Runtime
from proxy.semantic import make_semantic_cache
from proxy.version import VERSION

Named = tuple[str, Policy]
_REPEATS = 4 * 1024 * 1024
"""Bytes of calls that the exact cache answered, for the next like them."""


class Doors(msgspec.Struct, frozen=True):
    """Who is let in, and what is let through."""

    callers: Callers
    guards: Guarding | None

    def digest(self, call: Call) -> bytes:
        """What keys of shared answers carry, so that a tightened guard never meets what an older one let through."""
        return self.guards.digest(call) if self.guards is not None else b""


class MakeTransport(Protocol):
    """What every implementation of the transport seam is made from."""

    def __call__(self, tls: ssl.SSLContext, *, agent: str, proxies: Mapping[str, str]) -> Transport:
        """A transport."""
        ...


def build(config: Config, keepers: Keepers, environment: Mapping[str, str]) -> tuple[Runtime, Plan]:
    """One configuration as a runtime. Raises OSError when a file it names cannot be read."""
    planned = plan(config, listens)
    transport = _transport(config, environment)
    fake = FakeTransport(Engine(time.time))
    router = _router(config, planned, ProviderMaker(transport, fake, time.time))
    keepers.cooldowns.configure(cooling(config))
    keepers.metrics.configure(
        (each.provider, each.model) for route in planned.routes.values() for each in route.deployments
    )
    keepers.access_log.on = config.log.access
    prices = price_book(config, planned)
    guards = guards_of(config, keepers, transport)
    callers = callers_of(config, keepers)
    before, after = policies(config, keepers, router, Doors(callers, guards), prices)
    innermost = SendOnce(time.monotonic, Costs(prices.find).seal if config.exact_cache is not None else None)
    if keepers.caches is not None:
        keepers.caches.explainers.clear()
        for _, policy in after:
            if isinstance(policy, ExactCache):
                keepers.caches.explainers["exact"] = policy.explain
            elif isinstance(policy, SemanticCache):
                keepers.caches.explainers["semantic"] = policy.explain
    handlers: dict[str, Handler] = {}
    for endpoint in ENDPOINTS:
        handlers[endpoint.name] = chain([each for _, each in before + after], innermost)
    handlers["models"] = chain([each for _, each in before + _counting(after)], ModelList(router, int(time.time())))
    shortened = [*(each for _, each in before), ShortForm(), *(each for _, each in after)]
    handlers[GENERATE.name] = chain(shortened, innermost)
    runtime = Runtime(
        handlers=handlers,
        router=router,
        early_headers=timeouts(config.timeouts).early_headers,
        capacity=Capacity(config.server.max_in_flight, config.server.queue, config.server.queue_wait),
        cors=Cors(config.cors.origins) if config.cors is not None else None,
        callers=callers,
        closes=[
            transport.aclose,
            fake.aclose,
            *([guards.aclose] if guards is not None else []),
            *(each.aclose for _, each in after if isinstance(each, SemanticCache)),
        ],
    )
    let_in(config, keepers, transport)  # last: it holds at once, so nothing may fail any more
    return runtime, planned


def describe(config: Config, environment: Mapping[str, str]) -> tuple[Plan, list[str]]:
    """What a configuration comes to: its plan and the names of its policies in order. Touches no state."""
    planned, router = _offline(config, environment)
    keepers = keepers_of(config, None)
    doors = Doors(admin_only(config), guards_of(config, keepers, _transport(config, environment)))
    before, after = policies(config, keepers, router, doors, price_book(config, planned))
    return planned, [name for name, _ in before + after]


def explain_route(config: Config, environment: Mapping[str, str], model: str) -> list[str]:
    """Where a call for this model would go, line by line. Raises UnknownModel."""
    _, router = _offline(config, environment)
    route = router.find(model)
    return [*_way(config, route, router, model), *_limits(config, route)]


def _limits(config: Config, route: Route) -> list[str]:
    """The limits and bounds that a call on this route meets."""
    lines = [each.told() for each in (config.limiting_clients, config.limiting_callers) if each is not None]
    return lines if config.bounding is None else [*lines, told(config.bounding, route.parameters)]


def _way(config: Config, route: Route, router: Router, model: str) -> list[str]:
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


def policies(
    config: Config, keepers: Keepers, router: Router, doors: Doors, prices: PriceBook
) -> tuple[list[Named], list[Named]]:
    """THE order, outermost first: those before a body is read, which serve every path, and those after."""
    kept = Kept() if config.record.bodies != "off" else None
    costs = Costs(prices.find)
    record = WriteRecord(
        keepers.sinks,
        time.time,
        log=keepers.outbox,
        at_once=(keepers.access_log,) if config.log.access else (),
        kept=kept,
        before_seal=(costs.seal,),
    )
    before: list[tuple[str, Policy | None]] = [
        # before anyone asks who it is
        ("client_limits", _client_limits(config, keepers)),
        # before a body is read: who may not call costs next to nothing
        ("authenticate", Authenticate(doors.callers) if config.needs_identity else None),
        # while there is no authentication: this machine only
        ("local_only", None if config.needs_identity else _local_only(config)),
    ]
    exact = _exact_cache(config, keepers, doors)
    after: list[tuple[str, Policy | None]] = [
        # only now is a body read from the socket
        ("read", ReadBody(router, limit=config.server.body_limit, in_flight=config.server.body_bytes_in_flight)),
        # as the client sends and sees it: outside of everything that changes or answers a call
        ("texts", KeepTexts(kept, config.record.bodies) if kept is not None else None),
        # who calls and how much it asks for is known, nothing is spent yet
        ("caller_limits", _caller_limits(config, keepers)),
        # before guards and caches, which see what is sent
        ("parameters", Parameters(config.bounding) if config.bounding is not None else None),
        # before anything is shared or looked up: an answer from a cache is for calls that may be made
        ("input_guards", doors.guards.input if doors.guards is not None else None),
        # before whatever heeds them; a member that is for us alone goes no further
        ("cache_controls", ReadCacheControls() if config.sharing else None),
        # before anything that costs: followers neither look up, embed nor spend, and an exact hit in memory waits for none
        ("single_flight", _single_flight(config, keepers, doors, record, exact)),
        # a hit costs no embedding, no budget and no attempt
        ("exact_cache", exact),
        # an exact hit needs no embedding; whatever is stored has passed all that stands below
        ("semantic_cache", _semantic_cache(config, keepers, doors, router)),
        # inside of the caches: what they keep has been guarded
        ("output_guards", doors.guards.output if doors.guards is not None else None),
        # after everything that may answer for nothing, once for all attempts
        ("budget", _budget(config, keepers, router, prices)),
        # innermost but for names: what it tries again has passed everything else once
        ("failover", _failover(config, keepers, router)),
        # inside of failover: each deployment has its own names
        ("rename", Rename() if any(each.rename for each in config.deployments) else None),
    ]
    first: list[tuple[str, Policy | None]] = [
        # sees everything, refusals too
        ("record", record),
        # outside of all that a call is spared when it is equal to one that the exact cache answered
        ("repeats", _repeats([*_present(before), *_present(after)], exact)),
    ]
    return _present(first + before), _present(after)


def _repeats(behind: list[Named], exact: ExactCache | None) -> Repeats | None:
    """None where a policy in front of the cache sees every call, such as one that keeps texts."""
    between = [policy for _, policy in itertools.takewhile(lambda each: each[1] is not exact, behind)]
    known = [policy for policy in between if isinstance(policy, Repeatable)]
    return Repeats(known, exact, _REPEATS) if exact is not None and len(known) == len(between) else None


def _present(listed: list[tuple[str, Policy | None]]) -> list[Named]:
    """Those that the configuration asks for."""
    return [(name, policy) for name, policy in listed if policy is not None]


def _client_limits(config: Config, keepers: Keepers) -> ClientLimits | None:
    limits = config.limiting_clients
    return ClientLimits(limits, keepers.limits) if limits is not None else None


def _local_only(config: Config) -> LocalOnly:
    origins = config.cors.origins if config.cors is not None else ()
    return LocalOnly((config.server.host, *config.server.hosts), origins)


def _caller_limits(config: Config, keepers: Keepers) -> CallerLimits | None:
    limits = config.limiting_callers
    return CallerLimits(limits, keepers.limits) if limits is not None else None


def _single_flight(
    config: Config, keepers: Keepers, doors: Doors, record: WriteRecord, exact: ExactCache | None
) -> SingleFlight | None:
    if config.single_flight is None:
        return None
    by: PartitionBy = config.exact_cache.partition if config.exact_cache is not None else "tenant"
    # a leader may be answered by the semantic cache, whose partitions can be narrower
    also = config.semantic_cache.partition if config.semantic_cache is not None else by
    at_hand = exact.at_hand if exact is not None else None
    return SingleFlight(
        config.single_flight,
        doors.digest,
        by,
        also=also if also != by else None,
        amend=record.amend,
        at_hand=at_hand,
        followed=keepers.caches.served.follow if keepers.caches is not None else None,
    )


def _exact_cache(config: Config, keepers: Keepers, doors: Doors) -> ExactCache | None:
    if config.exact_cache is None:
        return None
    if keepers.caches is None or keepers.caches.exact is None:
        raise OSError("exact_cache was not configured at start: it begins with a restart")
    follows = config.semantic_cache is not None
    return ExactCache(config.exact_cache, keepers.caches.exact, doors.digest, time.time, semantic_follows=follows)


def _semantic_cache(config: Config, keepers: Keepers, doors: Doors, router: Router) -> SemanticCache | None:
    if config.semantic_cache is None:
        return None
    if keepers.caches is None or keepers.caches.semantic is None:
        raise OSError("semantic_cache was not configured at start: it begins with a restart")
    failover = _failover(config, keepers, router)
    upstream = chain([failover] if failover is not None else [], SendOnce(time.monotonic))
    return make_semantic_cache(
        config.semantic_cache, keepers.caches.semantic, upstream=upstream, find_route=router.find, guards=doors.digest
    )


def _budget(config: Config, keepers: Keepers, router: Router, prices: PriceBook) -> EnforceBudgets | None:
    if config.budget is None and not config.needs_identity:
        return None
    return EnforceBudgets(config.budgeting, keepers.accounts, prices.find, router.find)


def _failover(config: Config, keepers: Keepers, router: Router) -> Failover | None:
    if config.failing_over is None:
        return None
    return Failover(
        config.failing_over, keepers.cooldowns, find_route=router.find, now=time.monotonic, random=keepers.random
    )


def _counting(after: list[Named]) -> list[Named]:
    """What the model list passes besides: it reads no body, and counts as a request."""
    return [each for each in after if each[0] == "caller_limits"]


def _transport(config: Config, environment: Mapping[str, str]) -> Transport:
    tls = tls_context(config.transport.ca_file)
    if config.transport.client == "httpx":  # looked up by name: its library is not loaded where it is not used
        make: MakeTransport = importlib.import_module("adapters.transport_httpx").HttpxTransport
        return make(tls, agent=f"lockgate/{VERSION}", proxies=proxies_in(environment))
    return AiohttpTransport(tls, agent=f"lockgate/{VERSION}", proxies=proxies_in(environment))
