"""Who is let in and what is let through: callers and guards as a configuration asks for them."""

import importlib
import time
from collections.abc import Callable
from typing import Protocol

from adapters.documents import fetcher
from adapters.transport import Transport
from adapters.webhook import poster
from policies.authenticate import AuthenticateConfig
from policies.client_address import ClientAddress
from policies.guards.security import Security
from policies.guards.settings import Post, Side
from proxy.call import Call
from proxy.callers import AddressOf, Callers
from proxy.chain import Policy
from proxy.config import Config
from proxy.config_file import ConfigError
from proxy.failures import Failures
from proxy.keepers import Keepers


class Guarding(Protocol):
    """The guards of one configuration: a policy for each side that has any, and what keys of caches need."""

    @property
    def input(self) -> Policy | None:
        """On what clients send."""
        ...

    @property
    def output(self) -> Policy | None:
        """On what models answer."""
        ...

    def digest(self, call: Call, /) -> bytes:
        """Changes whenever the guards around this call could let another text through."""
        ...

    async def aclose(self) -> None:
        """Release what they hold."""
        ...


class MakeGuarding(Protocol):
    """What makes them. Raises ValueError when a guard cannot be built."""

    def __call__(  # noqa: PLR0913 - collaborators, by name
        self,
        inputs: Side,
        outputs: Side,
        *,
        security: Security,
        post: Post,
        now: Callable[[], float],
        with_texts: bool,
    ) -> Guarding:
        """The guards."""
        ...


def callers_of(config: Config, keepers: Keepers) -> Callers:
    """Who is asked who is let in. Raises OSError when this instance began without what the configuration asks for."""
    if keepers.identity is None and config.needs_identity:
        raise OSError("authenticate: this instance began without it; restart")
    return keepers.identity.callers if keepers.identity is not None else admin_only(config)


def let_in(config: Config, keepers: Keepers, transport: Transport) -> None:
    """Let in whom the configuration names, from now on; where it names nobody, the admin key alone. Raises OSError."""
    if keepers.identity is not None:
        named = config.authenticate or AuthenticateConfig(keys=False)
        keepers.identity.configure(named, config.secrets, fetch=fetcher(transport), address_of=_address_of(config))


def admin_only(config: Config) -> Callers:
    """Nobody but the admin key is known."""
    failures = Failures(AuthenticateConfig().failures, time.monotonic)
    return Callers(config.secrets.admin_key, failures, address_of=_address_of(config))


def _address_of(config: Config) -> AddressOf:
    clients = config.limiting_clients
    return ClientAddress(clients.trusted_proxies if clients is not None else ()).of


def guards_of(config: Config, keepers: Keepers, transport: Transport) -> Guarding | None:
    """The guards, if there are any. Raises ConfigError when one cannot be built, as for a broken file of rules."""
    routes = config.routes.items()
    inputs = Side(config.input_guards, {name: each.input_guards for name, each in routes if each.input_guards})
    outputs = Side(config.output_guards, {name: each.output_guards for name, each in routes if each.output_guards})
    if not (inputs.is_any or outputs.is_any):
        return None
    make: MakeGuarding = importlib.import_module("policies.guards.assembly").Guarding  # heavy: only where needed
    try:
        return make(
            inputs,
            outputs,
            security=keepers.security,
            post=poster(transport),
            now=time.perf_counter,
            with_texts=config.security_log.texts == "full",
        )
    except ValueError as error:
        raise ConfigError([str(error)]) from error
