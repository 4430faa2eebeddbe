"""The operator's routes and their one guard: for the admin key, and for keys and tokens whose role is admin."""

from typing import Any

from litestar import get
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler, Guard

from policies.cooldown import Cooldowns
from policies.record import RecentRecords
from proxy.audit import audit
from proxy.call import Record
from proxy.deployments import Route
from proxy.edge import Edge
from proxy.errors import Forbidden, UnknownCall
from proxy.web import credentials_of, peer_of

Json = dict[str, Any]

_READING = ("GET", "HEAD")


def admins_only(edge: Edge) -> Guard:
    """The guard of every route that is the operator's. Whoever passes stands in `request.state.caller`.

    It goes by the configuration of the moment. What changes something is written to the audit log, refusals too.
    """

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        callers = edge.runtime.callers
        peer, method = peer_of(connection), str(connection.scope.get("method", ""))
        if not callers.is_open:
            raise Forbidden("No admin key is configured: set secrets.admin_key (LITELLM_MASTER_KEY).")
        caller = await callers.find(credentials_of(connection), peer)
        if method not in _READING:
            action = method if caller.is_admin else f"{method} refused"
            audit(caller.id, action, connection.url.path, peer=peer)
        if not caller.is_admin:
            raise Forbidden("This needs the admin key, or a key or token whose role is admin.")
        connection.state.caller = caller

    return guard


def admin_handlers(edge: Edge, cooldowns: Cooldowns, recent: RecentRecords) -> list[ControllerRouterHandler]:
    """`/admin/routes` and `/admin/requests/{id}`."""
    guards = [admins_only(edge)]

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
