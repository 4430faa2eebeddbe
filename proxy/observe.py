"""Puts together what an operator looks at: metrics, recent calls, the dashboard and the state of the instance."""

import asyncio
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

from litestar import Response, get
from litestar.response import Stream
from litestar.types import ControllerRouterHandler, Guard

from adapters.shipping import Report, ShipperProcess
from proxy.admin_requests import request_handlers
from proxy.edge import Edge
from proxy.exposition import CONTENT_TYPE, Sample, pieces
from proxy.health import Health
from proxy.keepers import Keepers
from proxy.live import Live, live_handlers, unhurried
from proxy.process import cpu_seconds, open_files, resident
from proxy.standings import Standings
from proxy.ui import ui_handlers
from proxy.version import VERSION

Json = dict[str, Any]

_OK, _UNAVAILABLE = 200, 503
_COUNTED = 1000
"""With more calls in flight tasks are not counted: it takes 0.6 µs for each, and a scrape may hold the loop for 2 ms."""


def observing_handlers(
    edge: Edge, health: Health, keepers: Keepers, admins: Guard, scrapers: Guard
) -> list[ControllerRouterHandler]:
    """`/metrics` for scrapers, `/ui`, `/system/health`, and for admins `/admin/requests`, `/admin/overview`, `/admin/live`."""
    instance = Instance(edge, health, keepers)

    @get("/metrics", guards=[scrapers], sync_to_thread=False)
    def scrape() -> Stream:
        """The metrics in Prometheus's text format."""
        return Stream(unhurried(pieces(keepers.metrics, instance.samples())), media_type=CONTENT_TYPE)

    @get("/system/health", sync_to_thread=False)
    def system_health() -> Response[Json]:
        """What `/health/ready` says, with version and uptime."""
        good, parts = health.report()
        body = {"status": "ok" if good else "down", "version": VERSION, "uptime": instance.uptime(), "parts": parts}
        return Response(body, status_code=_OK if good else _UNAVAILABLE)

    live = Live(
        traffic=keepers.traffic,
        recent=keepers.recent,
        pulse=keepers.pulse,
        state=instance.state,
        deployments=instance.standing,
        draining=lambda: health.draining,
    )
    return [
        scrape,
        system_health,
        *request_handlers(keepers.recent, admins),
        *live_handlers(live, admins),
        *ui_handlers(),
    ]


class Instance:
    """The figures of the moment of one instance."""

    def __init__(self, edge: Edge, health: Health, keepers: Keepers) -> None:
        self._edge = edge
        self._health = health
        self._keepers = keepers
        self._began = time.monotonic()
        self._began_at = time.time()
        self._standings = Standings(lambda: edge.runtime.router, keepers.cooldowns)

    def uptime(self) -> int:
        """Seconds since it began."""
        return int(time.monotonic() - self._began)

    def state(self) -> Json:
        """For people."""
        good, parts = self._health.report()
        outbox = self._keepers.outbox
        return {
            "at": time.time(),
            "version": VERSION,
            "uptime": self.uptime(),
            "ready": good,
            "parts": parts,
            "in_flight": len(self._edge.clients),
            "max_in_flight": self._edge.runtime.capacity.calls,
            "lag": self._keepers.pulse.worst,
            "memory": resident(),
            "outbox": None if outbox is None else {"bytes": outbox.size, "lost": outbox.lost + outbox.dropped},
        }

    def standing(self) -> list[Json]:
        """Every deployment that is configured, or was found behind `*`, with what is known of it."""
        return self._standings.described()

    def samples(self) -> list[Sample]:
        """For scrapers."""
        described = {"version": VERSION, "python": platform.python_version()}
        found = [
            Sample("lockgate_build_info", "What runs here.", 1, described),
            Sample("lockgate_in_flight", "Calls that are not over.", len(self._edge.clients)),
            Sample("lockgate_loop_lag_seconds", "How late a timer fires.", self._keepers.pulse.lag, kind="histogram"),
            *self._task_samples(),
            *_process_samples(self._began_at),
            *_part_samples(self._health.report()[1]),
            *self._standings.samples(),
        ]
        for service in self._keepers.services:
            if isinstance(service, ShipperProcess):
                found += _shipper_samples(service.report)
        return found + self._outbox_samples()

    def _task_samples(self) -> list[Sample]:
        if len(self._edge.clients) > _COUNTED:
            return []
        return [Sample("lockgate_tasks", "Tasks of the event loop that are not over.", len(asyncio.all_tasks()))]

    def _outbox_samples(self) -> list[Sample]:
        outbox = self._keepers.outbox
        if outbox is None:
            return []
        name = "lockgate_outbox"
        found = [
            Sample(f"{name}_bytes", "Bytes of records on disk.", outbox.size),
            Sample(f"{name}_lost_total", "Records that the disk refused.", outbox.lost, kind="counter"),
            Sample(f"{name}_dropped_total", "Records dropped unread at the cap.", outbox.dropped, kind="counter"),
        ]
        text = "Bytes of records that a reader has not dealt with."
        return found + [
            Sample(f"{name}_lag_bytes", text, outbox.lag(each), {"reader": each}) for each in outbox.readers
        ]


def _shipper_samples(report: Report) -> list[Sample]:
    """As the process that ships last told it; it counts anew when it is started again."""
    text = "Calls whose trace was shipped, left out because the outbox filled up, or refused for good."
    results = (("shipped", report.shipped), ("thinned", report.thinned), ("refused", report.refused))
    skipped = "Bytes of records that were dropped, or damaged, before they could be shipped."
    return [
        *(Sample("lockgate_traces_total", text, count, {"result": name}, "counter") for name, count in results),
        Sample("lockgate_outbox_skipped_bytes_total", skipped, report.skipped, kind="counter"),
    ]


def _process_samples(began: float) -> list[Sample]:
    """Under the names that Prometheus's own clients use."""
    values: tuple[tuple[str, str, Callable[[], float | None]], ...] = (
        ("resident_memory_bytes", "Resident memory.", resident),
        ("open_fds", "Open files and sockets.", open_files),
        ("max_fds", "The most there may be.", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("start_time_seconds", "Unix time of the start.", lambda: began),
    )
    found = [Sample(f"process_{name}", text, value) for name, text, read in values if (value := read()) is not None]
    return [*found, Sample("process_cpu_seconds_total", "Processor time.", cpu_seconds(), kind="counter")]


def _part_samples(parts: dict[str, str]) -> list[Sample]:
    text = "1 for the state that a part is in."
    return [
        Sample("lockgate_part_state", text, int(state == which), {"part": part, "state": which})
        for part, state in parts.items()
        for which in ("ok", "degraded", "down", "draining")
    ]
