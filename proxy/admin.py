"""The operator's routes and their one guard: for the admin key, and for keys and tokens whose role is admin."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler, Guard
from litestar.utils import ensure_async_callable

from policies.cooldown import Cooldowns
from policies.local_only import LocalOnly
from proxy.audit import audit
from proxy.call import ANYONE, Caller
from proxy.config import Config
from proxy.credentials import presented
from proxy.deployments import Route
from proxy.edge import Edge
from proxy.errors import Forbidden, GatewayError, Unauthenticated
from proxy.values import Secret
from proxy.web import credentials_of, peer_of

Json = dict[str, Any]

_READING = ("GET", "HEAD")


def admins_only(edge: Edge, local: LocalOnly | None = None) -> Guard:
    """The guard of every route that is the operator's. Whoever passes stands in `request.state.caller`, the address in
    `request.state.client`.

    It goes by the configuration of the moment. What changes something is written to the audit log, refusals too.
    Where no key could open it nobody passes, but for who only reads on a gateway that serves this machine alone:
    `local` then looks at the request as it does at calls.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        callers = edge.runtime.callers
        peer, method = peer_of(connection), str(connection.scope.get("method", ""))
        if not callers.is_open:
            if local is None or method not in _READING:
                raise Forbidden("No admin key is configured: set secrets.admin_key (LITELLM_MASTER_KEY).")
            local.check(connection.headers.get("host", ""), connection.headers.get("origin"))
            connection.state.caller = ANYONE
            return
        headers = credentials_of(connection)
        caller = await callers.find(headers, peer)
        connection.state.client = callers.client(headers, peer)
        if method not in _READING:
            action = method if caller.is_admin else f"{method} refused"
            audit(caller.id, action, connection.url.path, peer=connection.state.client)
        if not caller.is_admin:
            raise Forbidden("This needs the admin key, or a key or token whose role is admin.")
        connection.state.caller = caller

    return guard


def who_asks(edge: Edge, config: Config) -> Callable[[ASGIConnection[Any, Any, Any, Any]], Awaitable[Caller]]:
    """Who a request to a route for every caller belongs to: as with calls, and anyone where calls have no callers.

    What an administrator changes through it is written to the audit log, as everywhere.
    """
    local = local_guard(config)

    async def identify(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
        callers, headers, peer = edge.runtime.callers, credentials_of(connection), peer_of(connection)
        try:
            caller = await callers.find(headers, peer)
        except Unauthenticated:
            if config.needs_identity or local is None:
                raise
            local.check(connection.headers.get("host", ""), connection.headers.get("origin"))
            return ANYONE
        method = str(connection.scope.get("method", ""))
        if caller.is_admin and method not in _READING:
            audit(caller.id, method, connection.url.path, peer=callers.client(headers, peer))
        return caller

    return identify


def scrapers_or(token: Secret, admins: Guard) -> Guard:
    """A guard that lets the scrape token pass, and whom `admins` lets."""
    expected = token.reveal().encode()

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if not (expected and hmac.compare_digest(_presented(connection), expected)):
            await ensure_async_callable(admins)(connection, handler)

    return guard


def _presented(connection: ASGIConnection[Any, Any, Any, Any]) -> bytes:
    try:
        return presented(credentials_of(connection)).encode()
    except GatewayError:
        return b""


def local_guard(config: Config) -> LocalOnly | None:
    """What looks at requests while only this machine is served; pages of other origins never read what it lets pass."""
    return None if config.server.is_public else LocalOnly((config.server.host, *config.server.hosts), ())


def admin_handlers(edge: Edge, cooldowns: Cooldowns, guard: Guard) -> list[ControllerRouterHandler]:
    """`/admin/routes`."""

    @get("/admin/routes", guards=[guard], sync_to_thread=False)
    def routes() -> Json:
        """Every route with its deployments: their standing, what they rest for, and their latency."""
        router = edge.runtime.router
        return {"routes": [_describe(route, cooldowns) for route in (*router.exact.values(), *router.patterns)]}

    return [routes]


def _describe(route: Route, cooldowns: Cooldowns) -> Json:
    return {
        "name": route.name,
        "strategy": route.strategy,
        "fallbacks": route.fallbacks,
        "deployments": [
            {
                "id": each.id,
                "provider": each.provider_name,
                "model": each.model,
                "weight": each.weight,
                **cooldowns.describe(each.id),
            }
            for each in route.deployments
        ],
    }
