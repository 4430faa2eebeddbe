"""From configuration to providers and routes: what is there, what is not, and why."""

import importlib
import socket
from collections.abc import Callable, Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import msgspec

from adapters.openai import OpenAIProvider, OpenAISettings
from adapters.transport import Transport
from proxy.config import Config, DeploymentConfig, FakeConfig, LiteLLMConfig, OpenAIConfig, ProviderConfig, RouteConfig
from proxy.config import Timeouts as TimeoutsConfig
from proxy.deployments import Deployment, Provider, Route, Timeouts
from proxy.prices import FAKE, PriceBook, Table, vendor_at

_PROBE = 0.25
"""Seconds that a local server gets to accept a connection at start."""
_FAKE_URL = "http://fake.invalid/v1"


class MakeLiteLLM(Protocol):
    """What the module `adapters.litellm` offers, looked up by name only when a provider of that kind is configured."""

    def __call__(self, name: str, config: LiteLLMConfig) -> Provider:
        """A provider by way of litellm."""
        ...


class Plan(msgspec.Struct, frozen=True):
    """Which providers and routes a configuration comes to; `absent` says why others do not."""

    providers: dict[str, ProviderConfig]
    routes: dict[str, RouteConfig]
    absent: dict[str, str]
    stand_ins: tuple[str, ...] = ()
    """Routes that the fake provider answers because no real one is there."""


def plan(config: Config, answers: Callable[[str], bool]) -> Plan:
    """Decide what is there. `answers` tells whether something listens at a base URL."""
    absent: dict[str, str] = {}
    present: dict[str, ProviderConfig] = {}
    for name, provider in config.providers.items():
        why = _why_absent(provider, answers)
        if why is None:
            present[name] = provider
        else:
            absent[f"provider {name}"] = why
    stand_in = _stand_in(present)
    routes: dict[str, RouteConfig] = {}
    stand_ins = []
    for name, route in config.routes.items():
        kept = tuple(each for each in route.deployments if each.provider in present)
        if not kept and stand_in is not None:
            kept = tuple(DeploymentConfig(provider=stand_in, model=each.model) for each in route.deployments[:1])
            stand_ins.append(name)
        routes[name] = msgspec.structs.replace(route, deployments=kept)
    for name in [name for name in routes if not _reachable(name, routes, set())]:
        absent[f"route {name}"] = "none of its providers, or its fallbacks' providers, is there"
        del routes[name]
    return Plan(present, {name: _prune(route, routes) for name, route in routes.items()}, absent, tuple(stand_ins))


def _why_absent(provider: ProviderConfig, answers: Callable[[str], bool]) -> str | None:
    if isinstance(provider, FakeConfig):
        return None
    if provider.api_key is not None and not provider.api_key:
        return "its api_key is empty"
    if isinstance(provider, OpenAIConfig) and not provider.base_url:
        return "its base_url is empty"
    if isinstance(provider, OpenAIConfig) and provider.probe and not answers(provider.base_url):
        return f"nothing answers at {provider.base_url}"
    return None


def _stand_in(present: Mapping[str, ProviderConfig]) -> str | None:
    """The fake provider that answers for every route, if it is allowed to and no real provider is there."""
    if any(not isinstance(provider, FakeConfig) for provider in present.values()):
        return None
    return next((name for name, each in present.items() if isinstance(each, FakeConfig) and each.stand_in), None)


def _reachable(name: str, routes: Mapping[str, RouteConfig], seen: set[str]) -> bool:
    route = routes.get(name)
    if route is None or name in seen:
        return False
    return bool(route.deployments) or any(_reachable(each, routes, seen | {name}) for each in route.fallbacks)


def _prune(route: RouteConfig, routes: Mapping[str, RouteConfig]) -> RouteConfig:
    return msgspec.structs.replace(
        route,
        fallbacks=tuple(name for name in route.fallbacks if name in routes),
        context_window_fallbacks=tuple(name for name in route.context_window_fallbacks if name in routes),
        content_policy_fallbacks=tuple(name for name in route.content_policy_fallbacks if name in routes),
    )


def listens(base_url: str) -> bool:
    """Whether something accepts connections at this URL. Waits a quarter of a second at most."""
    parts = urlsplit(base_url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_PROBE):
            return True
    except OSError:
        return False


class ProviderMaker:
    """Makes providers. `transport` is the one to real upstreams, `fake` the one that plays scripts."""

    def __init__(self, transport: Transport, fake: Transport, now: Callable[[], float]) -> None:
        self._transport = transport
        self._fake = fake
        self._now = now

    def make(self, name: str, config: ProviderConfig) -> Provider:
        """The provider that this configuration describes."""
        if isinstance(config, OpenAIConfig):
            settings = OpenAISettings(
                name=name,
                base_url=config.base_url,
                api_key=config.api_key.reveal() if config.api_key is not None else "",
                headers={key: value.reveal() for key, value in config.headers.items()},
                api_version=config.api_version,
                usage=config.usage,
                responses=config.responses,
            )
            return OpenAIProvider(settings, self._transport, self._now)
        if isinstance(config, FakeConfig):
            return OpenAIProvider(OpenAISettings(name=name, base_url=_FAKE_URL), self._fake, self._now)
        make = cast("MakeLiteLLM", importlib.import_module("adapters.litellm").make_provider)
        return make(name, config)


def make_routes(config: Config, plan: Plan, providers: Mapping[str, Provider]) -> list[Route]:
    """The routes of a plan. Timeouts come from the route, else from the provider, else from the top level."""
    return [
        Route(
            name=name,
            deployments=tuple(
                Deployment(
                    id=f"{each.provider}/{each.model}",
                    provider_name=each.provider,
                    model=each.model,
                    provider=providers[each.provider],
                    timeouts=timeouts(config.timeouts, plan.providers[each.provider].timeouts, route.timeouts),
                    weight=each.weight,
                    rename=each.rename,
                )
                for each in route.deployments
            ),
            strategy=route.strategy,
            fallbacks=route.fallbacks,
            context_window_fallbacks=route.context_window_fallbacks,
            content_policy_fallbacks=route.content_policy_fallbacks,
            cache_ttl=route.cache_ttl,
            failover=route.failover,
            parameters=route.parameters,
        )
        for name, route in plan.routes.items()
    ]


def price_book(config: Config, plan: Plan) -> PriceBook:
    """The prices of a plan's deployments."""
    vendors = {name: _vendor(provider) for name, provider in plan.providers.items()}
    own = {
        name: frozenset((each.provider, each.model) for each in plan.routes[name].deployments)
        for name in config.prices.routes
        if name in plan.routes
    }
    return PriceBook(config.prices, vendors, own, Table())


def _vendor(provider: ProviderConfig) -> str:
    if isinstance(provider, FakeConfig):
        return FAKE
    return (
        provider.vendor if isinstance(provider, LiteLLMConfig) else vendor_at(provider.base_url, provider.api_version)
    )


def timeouts(*levels: TimeoutsConfig | None) -> Timeouts:
    """The built-in timeouts, overridden by each level in turn."""
    merged = Timeouts()
    for level in levels:
        if level is not None:
            given = {name: value for name, value in msgspec.structs.asdict(level).items() if value is not None}
            merged = msgspec.structs.replace(merged, **given)
    return merged
