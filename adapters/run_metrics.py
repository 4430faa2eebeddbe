"""The figures of one instance, computed from the records it ships: every record counts, sampled or not."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from proxy.call import NANO, Record

_KNOWN = 10_000
"""Calls remembered for the case that their record is amended."""
_ROUTES = 100
_LONGEST = 100
"""Characters of a route's name."""
_OTHER = "other"
_NONE = "none"
"""For calls that no route took. Their models are the clients' words, which would use the hundred names up."""
_HITS = {"hit-exact": "exact_hits", "hit-semantic": "semantic_hits", "miss": "misses"}
_BAD = ("error", "upstream_interrupted")
_PERCENTILES = (50, 95, 99)

Counts = dict[str, int]


class _Interval(msgspec.Struct):
    """What one interval's records come to, for all routes or for one."""

    counts: Counts = {}
    latencies: list[float] = []
    firsts: list[float] = []
    busy: float = 0.0
    """Seconds that calls took, all together."""


class Meter:
    """Adds records up by the interval in which their calls ended, and for good.

    `interval` is in seconds. `totals` go on from those of an earlier process.
    """

    def __init__(self, interval: float, totals: Counts | None = None) -> None:
        self._interval = interval
        self.totals: Counts = dict(totals or {})
        self._names = {name.split("/")[1] for name in self.totals if name.startswith("route/")}
        self._known: OrderedDict[str, Counts] = OrderedDict()
        self._all = _Interval()
        self._routes: dict[str, _Interval] = {}
        self._bucket: int | None = None

    def belongs(self, record: Record) -> bool:
        """Whether the record is of the interval that is being added up."""
        return self._bucket is None or self._bucket_of(record) <= self._bucket

    def is_over(self, now: float) -> bool:
        """Whether no record of this interval can come any more. `now` is Unix time."""
        return self._bucket is not None and now >= (self._bucket + 1) * self._interval + 1

    @property
    def end(self) -> float | None:
        """Unix time at which the interval ends; None before its first record."""
        return None if self._bucket is None else (self._bucket + 1) * self._interval

    def add(self, record: Record) -> None:
        """Count one record; an amended one takes the place of the one before it, if that is remembered."""
        before = self._known.pop(record.id, None) if record.amended else None
        if record.amended and before is None:
            return  # its call was counted by an earlier process, or long ago: it must not be two
        if self._bucket is None:
            self._bucket = self._bucket_of(record)
        counts = _counts(record)
        self._known[record.id] = counts
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        if before is not None:
            counts = {name: counts.get(name, 0) - before.get(name, 0) for name in counts | before}
        route = self._route(record.route or _NONE)
        interval = self._routes.setdefault(route, _Interval())
        for one in (self._all, interval):
            _add(one.counts, counts)
            if before is None:
                one.busy += record.duration
                one.latencies.append(record.duration)
                if record.stream and record.first_content is not None:
                    one.firsts.append(record.first_content)
        _add(self.totals, counts)
        _add(self.totals, {f"route/{route}/{name}": value for name, value in counts.items()})

    def take(self, lag: int) -> dict[str, float]:
        """The figures of the interval, which then begins anew. `lag` is in bytes."""
        figures = {"outbox_lag_bytes": float(lag), **self._figures(self._all)}
        figures["in_flight"] = self._all.busy / self._interval  # Little (1961): mean number = rate times mean time
        for route, interval in self._routes.items():
            figures |= {f"route/{route}/{name}": value for name, value in self._figures(interval).items()}
        figures |= {f"total/{name}": value for name, value in _spelled(self.totals).items() if "/" not in name}
        self._all, self._routes, self._bucket = _Interval(), {}, None
        return figures

    def _figures(self, interval: _Interval) -> dict[str, float]:
        counts = interval.counts
        requests = counts.get("requests", 0)
        looked = sum(counts.get(name, 0) for name in _HITS.values())
        figures = {
            **_spelled(counts),
            "requests_per_second": requests / self._interval,
            "error_rate": counts.get("errors", 0) / requests if requests else 0.0,
        }
        if looked:
            figures["exact_hit_ratio"] = counts.get("exact_hits", 0) / looked
            figures["semantic_hit_ratio"] = counts.get("semantic_hits", 0) / looked
        for name, values in (("latency", interval.latencies), ("first_content", interval.firsts)):
            if values:
                values.sort()
                figures |= {f"{name}_p{share}_ms": _percentile(values, share) * 1000 for share in _PERCENTILES}
        return figures

    def _route(self, name: str) -> str:
        """A name that MLflow takes; more than a hundred are counted together."""
        clean = _clean(name)
        if clean not in self._names:
            if len(self._names) >= _ROUTES:
                return _OTHER
            self._names.add(clean)
        return clean

    def _bucket_of(self, record: Record) -> int:
        return int((record.started + record.duration) // self._interval)


def _clean(name: str) -> str:
    """The name itself if MLflow takes it, else what it takes of it and a hash, as `fake/*` and `fake_*` are two routes."""
    clean = "".join(letter if letter.isalnum() or letter in "_-. :" else "_" for letter in name)
    if clean in (".", ".."):  # no part of a path may be called so, and MLflow holds names for paths
        clean = "_" * len(clean)
    if clean == name and len(clean) <= _LONGEST:
        return name
    mark = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=3).hexdigest()
    return f"{clean[: _LONGEST - len(mark) - 1]}-{mark}"


def _counts(record: Record) -> Counts:
    counts = {"requests": 1}
    if record.outcome in _BAD:
        counts["errors"] = 1
    if record.outcome == "client_disconnect":
        counts["disconnects"] = 1
    if record.outcome == "guard_blocked":
        counts["blocked"] = 1
    if record.cache in _HITS:
        counts[_HITS[record.cache]] = 1
    if record.usage is not None:
        counts |= {"input_tokens": record.usage.prompt, "output_tokens": record.usage.completion}
    if record.cost is not None:
        counts["cost_usd"] = record.cost
    if record.saved is not None:
        counts["saved_usd"] = record.saved
    if record.fallbacks:
        counts["fallbacks"] = 1
    retries = len(record.attempts) - 1
    return counts | {"retries": retries} if retries > 0 else counts


def _add(into: Counts, counts: Counts) -> None:
    for name, value in counts.items():
        into[name] = into.get(name, 0) + value


def _spelled(counts: Counts) -> dict[str, float]:
    """Money is counted in nano-USD and told in USD."""
    return {name: value / NANO if name.endswith("_usd") else float(value) for name, value in counts.items()}


def _percentile(values: Sequence[float], share: int) -> float:
    """The nearest rank of sorted values."""
    return values[max(0, -(-len(values) * share // 100) - 1)]
