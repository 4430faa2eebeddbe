"""The operator's routes of the caches: what they did, what they hold, what is removed, and why a call hits or not."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler, Guard

from policies.cache_controls import ReadCacheControls
from proxy.caches import Caches
from proxy.call import Call, Caller, Record
from proxy.edge import Edge
from proxy.endpoints import BY_NAME
from proxy.entries import EVERYTHING, Selection, StoreUnavailable
from proxy.errors import BadRequest, Overloaded, UnknownCall
from proxy.reply import Reply
from proxy.values import Duration
from proxy.wire import read_head

Json = dict[str, Any]
Identify = Callable[[ASGIConnection[Any, Any, Any, Any]], Awaitable[Caller]]
"""Who a request of the operator's routes comes from. Raises Unauthenticated."""


class Clearing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to remove: what has everything that is named here. `everything` stands alone."""

    route: str | None = None
    partition: str | None = None
    older_than: str | None = None
    """Such as `1h`."""
    everything: bool = False
    tier: Literal["exact", "semantic"] | None = None

    def selection(self, now: float) -> Selection:
        """Raises BadRequest."""
        named = any(each is not None for each in (self.route, self.partition, self.older_than))
        if named == self.everything:
            raise BadRequest(
                "Name what to clear by 'route', 'partition' or 'older_than', or say 'everything': true.",
                param="everything",
                code="invalid_value",
            )
        if self.everything:
            return EVERYTHING
        before = None
        if self.older_than is not None:
            try:
                before = int(now - Duration.parse(self.older_than))
            except ValueError as error:
                raise BadRequest(f"{error}.", param="older_than", code="invalid_value") from None
        return Selection(route=self.route, partition=self.partition, created_before=before)


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A hit that was wrong, by the `x-request-id` of its answer."""

    request_id: str


class Explained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A call to be explained: its body, its headers, and the partition of whoever would send it."""

    body: dict[str, Any]
    endpoint: str = "chat"
    headers: dict[str, str] = {}
    partition: str = ""


def cache_handlers(
    caches: Caches, edge: Edge, guards: Sequence[Guard], identify: Identify, now: Callable[[], float]
) -> list[ControllerRouterHandler]:
    """`/system/cache/stats`, `clear` and `explain` behind `guards`; `feedback` for every caller."""
    behind = list(guards)

    @get("/system/cache/stats", guards=behind)
    async def stats() -> Json:
        """Counts since the start, and what is held now."""
        return {"store": caches.about(), **{name: await tier.stats() for name, tier in caches.tiers.items()}}

    @post("/system/cache/clear", guards=behind, status_code=200)
    async def clear(data: JSONBody[Clearing]) -> Json:
        """Remove entries; how many each tier had."""
        selection = data.selection(now())
        tiers = {name: tier for name, tier in caches.tiers.items() if data.tier in (None, name)}
        try:
            return {"removed": {name: await tier.clear(selection) for name, tier in tiers.items()}}
        except StoreUnavailable:
            raise Overloaded("The store of the caches is unavailable. Try again.") from None

    async def anybody_known(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        connection.state.caller = await identify(connection)  # before the body is read

    @post("/system/cache/feedback", guards=[anybody_known], status_code=200)
    async def feedback(request: Request[Any, Any, Any], data: JSONBody[Feedback]) -> Json:
        """Mark a hit as wrong: it is not served again."""
        caller: Caller = request.state.caller
        hit = caches.served.find(data.request_id)
        if hit is None or not (caller.is_admin or hit.belongs_to(caller)) or hit.tier not in caches.tiers:
            raise UnknownCall("No answer from a cache of yours is remembered under this id.", param="request_id")
        try:
            await caches.wrong(hit)
        except StoreUnavailable:
            raise Overloaded("The store of the caches is unavailable. Try again.") from None
        return {"status": "noted", "tier": hit.tier}

    @post("/system/cache/explain", guards=behind, status_code=200)
    async def explain(data: JSONBody[Explained]) -> Json:
        """What makes this call the same as another, where its answer would stand, and why it would not."""
        call = await _call(data, edge)
        return {name: explain(call) for name, explain in caches.explainers.items()}

    return [stats, clear, feedback, explain]


async def _call(data: Explained, edge: Edge) -> Call:
    """The call as it would come to the caches. Raises BadRequest, UnknownModel."""
    endpoint = BY_NAME.get(data.endpoint)
    if endpoint is None:
        raise BadRequest(f"There is no endpoint {data.endpoint[:100]!r}.", param="endpoint", code="invalid_value")
    body = msgspec.json.encode(data.body)
    head = read_head(body, endpoint)
    route = edge.runtime.router.find(head.model)
    record = Record(id="", endpoint=endpoint.name, started=0.0)
    headers: Mapping[str, str] = {name.lower(): value for name, value in data.headers.items()}
    caller = Caller(id="explained", partition=data.partition)
    call = Call(
        id="", endpoint=endpoint, headers=headers, record=record, caller=caller, head=head, body=body, route=route
    )
    read: list[Call] = []

    async def keep(call: Call) -> Reply:
        read.append(call)
        return Reply.whole(b"")

    await ReadCacheControls()(call, keep)
    return read[0]
