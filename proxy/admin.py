"""The operator's routes: for the admin key only, compared in constant time. Without such a key they are closed."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler, Guard

from policies.cooldown import Cooldowns
from policies.record import RecentRecords
from proxy.call import ANYONE, Caller, Record
from proxy.deployments import Route
from proxy.edge import Edge
from proxy.errors import Forbidden, Unauthenticated, UnknownCall
from proxy.values import Secret

Json = dict[str, Any]


def admins_only(admin_key: Secret) -> Guard:
    """A guard that lets the admin key pass, as a bearer token, in `x-api-key` or in `api-key`."""
    expected = admin_key.reveal().encode()

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        presented = presented_key(connection.headers)
        if not expected:
            raise Forbidden("No admin key is configured: set secrets.admin_key (LITELLM_MASTER_KEY).")
        if presented is None:
            raise Unauthenticated("An admin key is needed here.")
        if not hmac.compare_digest(presented.encode("utf-8", "surrogateescape"), expected):
            raise Unauthenticated("Incorrect API key provided.", code="invalid_api_key")

    return guard


def admin_or_anyone(admin_key: Secret) -> Callable[[ASGIConnection[Any, Any, Any, Any]], Awaitable[Caller]]:
    """Who asks, as long as there are no keys of callers: an admin by the admin key, else anyone."""

    async def identify(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
        presented = (presented_key(connection.headers) or "").encode("utf-8", "surrogateescape")
        is_admin = bool(admin_key) and hmac.compare_digest(presented, admin_key.reveal().encode())
        return Caller(id="admin", kind="admin", is_admin=True) if is_admin else ANYONE

    return identify


def presented_key(headers: Any) -> str | None:
    """The key that a request presents: `Authorization: Bearer` first, then `x-api-key`, then `api-key`."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return str(token.strip())
    for name in ("x-api-key", "api-key"):
        if headers.get(name, "").strip():
            return str(headers[name].strip())
    return None


def admin_handlers(
    edge: Edge, cooldowns: Cooldowns, recent: RecentRecords, admin_key: Secret
) -> list[ControllerRouterHandler]:
    """`/admin/routes` and `/admin/requests/{id}`."""
    guards = [admins_only(admin_key)]

    @get("/admin/routes", guards=guards, sync_to_thread=False)
    def routes() -> Json:
        """Every route with its deployments: their standing, what they rest for, and their latency."""
        router = edge.runtime.router
        return {"routes": [_describe(route, cooldowns) for route in (*router.exact.values(), *router.patterns)]}

    @get("/admin/requests/{call_id:str}", guards=guards, sync_to_thread=False)
    def one(call_id: str) -> Record:
        """Why one call went the way it did, while it is remembered."""
        record = recent.find(call_id)
        if record is None:
            raise UnknownCall(f"Call {call_id[:64]} is not among the recent ones.", param="id")
        return record

    return [routes, one]


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
