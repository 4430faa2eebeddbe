"""What the dashboard shows: once, and then as it changes, as server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakSet

import msgspec
from litestar import get
from litestar.params import FromQuery
from litestar.response import Stream
from litestar.types import ControllerRouterHandler, Guard

from proxy.admin_requests import Recent, newest
from proxy.errors import Overloaded
from proxy.pulse import Pulse
from proxy.sse import frame
from proxy.traffic import Range, Traffic

Json = dict[str, Any]

_WATCHERS = 20
_LONGEST = 300.0
"""Seconds after which a watcher must come anew, with a key that still holds."""
_TABLES = 5
"""Beats from one time that tables are sent to the next."""
_FRESH = 0.9
"""Seconds that what is the same for all watchers is kept."""
_ROWS = 12
_CALLS = 30


class Live:
    """The view of one instance. `state` are its figures of the moment, `deployments` their standing, `draining` whether
    it is going down.
    """

    def __init__(  # noqa: PLR0913 - what it shows, by name
        self,
        *,
        traffic: Traffic,
        recent: Recent,
        pulse: Pulse,
        state: Callable[[], Json],
        deployments: Callable[[], list[Json]],
        draining: Callable[[], bool],
    ) -> None:
        self._traffic = traffic
        self._recent = recent
        self._pulse = pulse
        self._state = state
        self._deployments = deployments
        self._draining = draining
        self._watchers: WeakSet[_Place] = WeakSet()
        self._made: dict[str, tuple[float, Json]] = {}

    def overview(self, span: Range) -> Json:
        """Everything at once. `more`, where there are older calls, is the `before` that `/admin/requests` takes."""
        calls = newest(self._recent.latest(), "", _CALLS)
        return {
            "range": span,
            "state": self._now(),
            "points": self._traffic.points(span),
            "totals": self._totals(span),
            "tables": self._table(),
            "calls": calls,
            "more": calls[-1]["id"] if len(calls) == _CALLS else None,
        }

    def watch(self, span: Range) -> AsyncIterator[bytes]:
        """Events: `overview`, then a `tick` a second with what is new. Raises Overloaded when too many watch."""
        if len(self._watchers) >= _WATCHERS:
            raise Overloaded("Too many watch this instance already.", retry_after=10)
        place = _Place()
        self._watchers.add(place)
        return self._events(span, place)

    async def _events(self, span: Range, place: "_Place") -> AsyncIterator[bytes]:
        try:
            view = self.overview(span)
            yield _event("overview", view)
            last_point = view["points"][-1]["at"]
            last_call = view["calls"][0]["id"] if view["calls"] else ""
            until = time.monotonic() + _LONGEST
            beats = 0
            while time.monotonic() < until and not self._draining():
                await self._pulse.beat()
                beats += 1
                tick: Json = {"state": self._now(), "points": self._traffic.points(span, after=last_point)}
                tick["calls"] = newest(self._recent.latest(), last_call, _CALLS)
                if beats % _TABLES == 0:
                    tick["tables"] = self._table()
                if tick["points"] or tick["calls"]:
                    tick["totals"] = self._totals(span)
                if tick["points"]:
                    last_point = tick["points"][-1]["at"]
                if tick["calls"]:
                    last_call = tick["calls"][0]["id"]
                yield _event("tick", tick)
        finally:
            self._watchers.discard(place)

    def _now(self) -> Json:
        return {**self._state(), "watchers": len(self._watchers), "draining": self._draining()}

    def _table(self) -> Json:
        return self._shared("tables", lambda: {**self._traffic.busiest(_ROWS), "standing": self._deployments()})

    def _totals(self, span: Range) -> Json:
        return self._shared(span, lambda: self._traffic.totals(span))

    def _shared(self, name: str, make: Callable[[], Json]) -> Json:
        """Made at most once a second, however many watch."""
        at, made = self._made.get(name, (0.0, {}))
        if not made or time.monotonic() - at > _FRESH:
            made = make()
            self._made[name] = (time.monotonic(), made)
        return made


class _Place:
    """A watcher's. Taken when it is asked for; free when its stream ends, or goes without ever having begun."""

    __slots__ = ("__weakref__",)


def live_handlers(live: Live, guard: Guard) -> list[ControllerRouterHandler]:
    """`/admin/overview` and `/admin/live`."""

    @get("/admin/overview", guards=[guard], sync_to_thread=False)
    def overview(span: FromQuery[Range] = "1h") -> Json:
        """Figures of the moment, the points of a chart, the busiest callers, routes and deployments, and recent calls."""
        return live.overview(span)

    @get("/admin/live", guards=[guard], sync_to_thread=False)
    def watch(span: FromQuery[Range] = "1h") -> Stream:
        """The same as a stream that goes on for five minutes."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return Stream(live.watch(span), media_type="text/event-stream", headers=headers)

    return [overview, watch]


def _event(name: str, data: Json) -> bytes:
    return frame(msgspec.json.encode(data), name.encode())


async def unhurried(pieces: Any) -> AsyncIterator[bytes]:
    """The pieces, with room for other tasks between them."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
