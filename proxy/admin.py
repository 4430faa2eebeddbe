"""Who may use the operator's routes, and what they say of routes. Keys are compared in constant time."""

import hmac
from typing import Any

from litestar import get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler, Guard

from policies.cooldown import Cooldowns
from policies.local_only import LocalOnly
from proxy.config import Config
from proxy.deployments import Route
from proxy.edge import Edge
from proxy.errors import Forbidden, Unauthenticated
from proxy.values import Secret

Json = dict[str, Any]

_READING = ("GET", "HEAD")


def admins_only(admin_key: Secret, local: LocalOnly | None = None) -> Guard:
    """A guard that lets the admin key pass, as a bearer token, in `x-api-key` or in `api-key`.

    Without such a key nobody passes, but for who only reads on a gateway that serves this machine alone: `local` then
    looks at the request as it does at calls.
    """
    expected = admin_key.reveal().encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        presented = presented_key(connection.headers)
        if not expected:
            if local is None or connection.scope.get("method") not in _READING:
                raise Forbidden("No admin key is configured: set secrets.admin_key (LITELLM_MASTER_KEY).")
            local.check(connection.headers.get("host", ""), connection.headers.get("origin"))
            return
        if presented is None:
            raise Unauthenticated("An admin key is needed here.")
        if not _same(presented, expected):
            raise Unauthenticated("Incorrect API key provided.", code="invalid_api_key")

    return guard


def scrapers_or(token: Secret, admins: Guard) -> Guard:
    """A guard that lets the scrape token pass, and whom `admins` lets."""
    expected = token.reveal().encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        presented = presented_key(connection.headers)
        if not (expected and presented is not None and _same(presented, expected)):
            admins(connection, handler)

    return guard


def _same(presented: str, expected: bytes) -> bool:
    return hmac.compare_digest(presented.encode("utf-8", "surrogateescape"), expected)


def local_guard(config: Config) -> LocalOnly | None:
    """What looks at requests while only this machine is served; pages of other origins never read what it lets pass."""
    return None if config.server.is_public else LocalOnly((config.server.host, *config.server.hosts), ())


def presented_key(headers: Any) -> str | None:
    """The key that a request presents: `Authorization: Bearer` first, then `x-api-key`, then `api-key`."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return str(token.strip())
    for name in ("x-api-key", "api-key"):
        if headers.get(name, "").strip():
            return str(headers[name].strip())
    return None


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
