"""What the operator's charts show: the last minutes, hour and day, and who and what was busy in the last hour."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any, Literal

from proxy.amendments import Amendments
from proxy.call import Record
from proxy.histogram import bucket, percentiles
from proxy.metrics import OTHER

Range = Literal["5m", "1h", "24h"]
Json = dict[str, Any]

STEPS: dict[Range, tuple[int, int]] = {"5m": (5, 60), "1h": (30, 120), "24h": (600, 144)}
"""Seconds a point and points, of each range."""

_QUARTER = 900
_QUARTERS = 4
_KEYS = 500
"""Different callers, routes and deployments, each, that a quarter of an hour tells apart."""
_OPEN = 32
"""Different ones of whom calls are counted before they are added up: never many at a time."""
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_NO_FAILURE = ("ok", "refused")
"""What an attempt comes to when the provider works as it should."""


class Tally:
    """Sums over some calls. Money in nano-USD; durations by `proxy.histogram.bucket`."""

    __slots__ = ("blocked", "bypassed", "calls", "failed", "first", "hits_exact", "hits_semantic", "latency", "left", "missed", "refused", "saved", "spent", "tokens")  # fmt: skip

    def __init__(self) -> None:
        self.calls = self.failed = self.refused = self.left = self.blocked = 0
        self.hits_exact = self.hits_semantic = self.missed = self.bypassed = 0
        self.tokens = self.spent = self.saved = 0
        self.latency: defaultdict[int, int] = defaultdict(int)
        self.first: defaultdict[int, int] = defaultdict(int)

    def merge(self, other: "Tally") -> None:
        """Add another one's sums."""
        for name in _SUMS:
            more = getattr(other, name)
            if more:
                setattr(self, name, getattr(self, name) + more)
        for mine, theirs in ((self.latency, other.latency), (self.first, other.first)):
            for number, count in theirs.items():
                mine[number] += count

    def sums(self) -> Json:
        """The sums by name, and percentiles in seconds: of whole durations, and of the time to a stream's first content."""
        latency = percentiles(self.latency, (0.5, 0.95, 0.99))
        first = percentiles(self.first, (0.5, 0.95))
        return {
            **{name: getattr(self, name) for name in _SUMS},
            **dict(zip(("p50", "p95", "p99"), latency, strict=True)),
            **dict(zip(("first50", "first95"), first, strict=True)),
        }


_SUMS = ("calls", "failed", "refused", "left", "blocked", "hits_exact", "hits_semantic", "missed", "bypassed", "tokens", "spent", "saved")  # fmt: skip


_NOTHING = Tally()


class Quarter:
    """A quarter of an hour by caller, route and deployment, and the verdicts of guards in it."""

    __slots__ = ("at", "callers", "deployments", "guards", "routes")

    def __init__(self, at: int) -> None:
        self.at = at
        self.callers: dict[str, Tally] = {}
        self.routes: dict[str, Tally] = {}
        self.deployments: dict[str, Tally] = {}
        self.guards: defaultdict[tuple[str, str, str], int] = defaultdict(int)


class Ring:
    """The last tallies of one step, in seconds. Moments without calls take no memory."""

    def __init__(self, step: int, points: int) -> None:
        self.step = step
        self._points = points
        self._kept: deque[tuple[int, Tally]] = deque(maxlen=points)
        self._finished: tuple[int, Tally] = (0, _NOTHING)

    def add(self, at: int, tally: Tally) -> None:
        """Add a finished finer tally that began at `at`, in Unix seconds."""
        at -= at % self.step
        if self._kept and self._kept[-1][0] >= at:
            self._kept[-1][1].merge(tally)
        else:
            fresh = Tally()
            fresh.merge(tally)
            self._kept.append((at, fresh))

    def total(self, until: int) -> Tally:
        """The sum of all steps, the one that is not over at `until` too."""
        end = until - until % self.step
        if self._finished[0] != end:
            finished = Tally()
            for at, tally in self._kept:
                if end - self.step * self._points <= at < end:
                    finished.merge(tally)
            self._finished = (end, finished)
        whole = Tally()
        whole.merge(self._finished[1])
        if self._kept and self._kept[-1][0] >= end:
            whole.merge(self._kept[-1][1])
        return whole

    def points(self, until: int, after: int = 0) -> Iterator[tuple[int, Tally]]:
        """Every step that is over at `until`, idle ones too, oldest first; only those that begin later than `after`."""
        end = until - until % self.step
        begin = max(end - self.step * self._points, after + self.step if after else 0)
        kept = {at: tally for at, tally in self._kept if at >= begin}
        for at in range(begin - begin % self.step, end, self.step):
            yield at, kept.get(at, _NOTHING)


class Traffic:
    """A sink of sealed records. `now` is Unix time in seconds.

    A record is counted in the second in which it is sealed; every ring adds seconds up to its own steps.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._rings = {name: Ring(*shape) for name, shape in STEPS.items()}
        self._amendments = Amendments()
        self._second = int(now())
        self._tally = Tally()
        self._open: dict[tuple[str, str, str], Tally] = {}
        """What is not in the second's tally and the quarter's yet, by caller, route and deployment."""
        self._quarters: deque[Quarter] = deque([Quarter(self._second)], maxlen=_QUARTERS)
        self._quarter = self._quarters[-1]

    def write(self, record: Record) -> None:
        """Count one call."""
        second = int(record.started + record.duration)
        if second > self._second:
            self._turn(second)
        if record.amended:
            self._amend(record)
            return
        if record.outcome != "complete":
            self._amendments.remember(record)
        place = f"{record.provider} {record.upstream_model}" if record.provider else ""
        whose = (record.caller, record.route, place)
        tally = self._open.get(whose)
        if tally is None:
            if len(self._open) >= _OPEN:
                self._close()
            tally = self._open[whose] = Tally()
        _count(tally, record)
        for verdict in record.guards:
            if verdict.action != "allow":
                action = f"{verdict.action} (shadow)" if verdict.shadow else verdict.action
                self._quarter.guards[verdict.guard, verdict.side, action] += 1

    def _amend(self, record: Record) -> None:
        """In the charts only: the tables have the call as it was counted."""
        ended_otherwise, usage, cost = self._amendments.news(record)
        if ended_otherwise:
            _count_end(self._tally, record)
        self._tally.tokens += usage.prompt + usage.completion
        self._tally.spent += cost

    def points(self, span: Range, after: int = 0) -> list[Json]:
        """The finished steps of a range, oldest first: `at` in Unix seconds, sums and percentiles."""
        return [{"at": at, **tally.sums()} for at, tally in self._rings[span].points(self._advance(), after)]

    def totals(self, span: Range) -> Json:
        """Sums and percentiles over a range, up to now."""
        whole = self._rings[span].total(self._advance())
        self._close()
        whole.merge(self._tally)
        return whole.sums()

    def busiest(self, most: int) -> Json:
        """The callers, routes and deployments with the most calls since `since`, and what guards did, by name."""
        self._close()
        return {
            "since": self._quarters[0].at,
            "callers": _busiest([each.callers for each in self._quarters], most),
            "routes": _busiest([each.routes for each in self._quarters], most),
            "deployments": _busiest([each.deployments for each in self._quarters], most),
            "guards": _verdicts(self._quarters),
        }

    def _advance(self) -> int:
        """The current second, with all before it counted."""
        now = int(self._now())
        if now > self._second:
            self._turn(now)
        return now

    def _close(self) -> None:
        """Add what came since to the second and the quarter."""
        quarter = self._quarter
        for (caller, route, place), tally in self._open.items():
            self._tally.merge(tally)
            _of(quarter.callers, caller).merge(tally)
            _of(quarter.routes, route).merge(tally)
            if place:
                _of(quarter.deployments, place).merge(tally)
        self._open.clear()

    def _turn(self, second: int) -> None:
        """The current second is over."""
        self._close()
        if any(getattr(self._tally, name) for name in _SUMS):
            for ring in self._rings.values():
                ring.add(self._second, self._tally)
            self._tally = Tally()
        self._second = second
        if second - self._quarter.at >= _QUARTER:
            if second - self._quarter.at >= _QUARTERS * _QUARTER:
                self._quarters.clear()
            self._quarter = Quarter(second)
            self._quarters.append(self._quarter)


def _of(tallies: dict[str, Tally], name: str) -> Tally:
    tally = tallies.get(name)
    if tally is None:
        if len(tallies) >= _KEYS:
            name = OTHER
        tally = tallies.setdefault(name, Tally())
    return tally


def _count(tally: Tally, record: Record) -> None:
    tally.calls += 1
    tally.latency[bucket(record.duration)] += 1
    if record.stream and record.first_content is not None:
        tally.first[bucket(record.first_content)] += 1
    if record.usage is not None:
        tally.tokens += record.usage.prompt + record.usage.completion
    if record.cost:
        tally.spent += record.cost
    if record.cache:
        _count_cache(tally, record)
    if record.outcome != "complete" or record.status >= _CLIENT_ERROR:
        _count_end(tally, record)


def _count_cache(tally: Tally, record: Record) -> None:
    if record.cache == "hit-exact":
        tally.hits_exact += 1
    elif record.cache == "hit-semantic":
        tally.hits_semantic += 1
    elif record.cache == "miss":
        tally.missed += 1
    else:
        tally.bypassed += 1
    tally.saved += record.saved or 0


def _count_end(tally: Tally, record: Record) -> None:
    """A call that did not end well is one of: blocked by a guard, left by its client, refused, failed."""
    if record.outcome == "guard_blocked":
        tally.blocked += 1
    elif record.outcome == "client_disconnect":
        tally.left += 1
    elif _CLIENT_ERROR <= record.status < _SERVER_ERROR and not _provider_failed(record):
        tally.refused += 1
    else:
        tally.failed += 1


def _provider_failed(record: Record) -> bool:
    """Whether the provider is at fault for the answer: its limits, and what it thinks of our key, are not the caller's doing."""
    return bool(record.attempts) and record.attempts[-1].kind not in _NO_FAILURE


def _busiest(parts: Sequence[Mapping[str, Tally]], most: int) -> list[Json]:
    calls: defaultdict[str, int] = defaultdict(int)
    for part in parts:
        for name, tally in part.items():
            calls[name] += tally.calls
    rows = []
    for name in nlargest(most, calls, key=calls.__getitem__):
        whole = Tally()
        for part in parts:
            whole.merge(part.get(name, _NOTHING))
        rows.append({"name": name, **whole.sums()})
    return rows


def _verdicts(quarters: Iterable[Quarter]) -> list[Json]:
    counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for quarter in quarters:
        for key, count in quarter.guards.items():
            counts[key] += count
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return [{"guard": key[0], "side": key[1], "action": key[2], "count": count} for key, count in ranked]
