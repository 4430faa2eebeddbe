"""The table: every figure that is published, what it is held against, and the goal it must meet.

A new row is one entry in `ROWS`. If it needs another gateway configuration, that is an entry in
`servers.CONFIGURATIONS` and the target `gateway:<name>`; if it needs another load, a `Request`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from load import Request
from samples import Sample
from servers import KEY

CALL = Request("1 kB chat call")
LARGE = Request("300 kB chat call", prompt=300_000)
EVENTS = Request("500 events, 10 ms apart", model="stream-500-10ms", stream=True)
METERED = Request("500 events, usage asked", model="stream-500-10ms", stream=True, include_usage=True)
SHORT = Request("10 events, 10 ms apart", model="stream-10-10ms", stream=True)
STEADY = Request("500 events, 20 ms apart", model="stream-500-20ms", stream=True)
SLOW = Request("40 events, 500 ms apart", model="stream-40-500ms", stream=True)
SAME = Request("the same 1 kB chat call", unique=False)
SAME_STREAM = Request("the same 1 kB chat call, streamed", stream=True, unique=False)
KEYED = Request("1 kB chat call with a key", headers=(("authorization", f"Bearer {KEY}"),))
KEYED_SAME = Request("the same 1 kB chat call with a key", unique=False, headers=KEYED.headers)
REQUESTS = (CALL, LARGE, EVENTS, METERED, SHORT, STEADY, SLOW)

PLAIN = "gateway:record"


@dataclass(frozen=True)
class Row:
    """One line. `compare` says what `must` and `aim` bound: the value, its ratio to the control, or the difference."""

    name: str
    part: str
    unit: str
    value: Sample
    control: Sample | None = None
    compare: Literal["value", "ratio", "difference"] = "value"
    must: float | None = None
    aim: float | None = None


@dataclass(frozen=True)
class Result:
    """A row's figures: medians over the rounds; `compared` is the median of the rounds' own comparisons."""

    row: Row
    value: float
    control: float | None
    compared: float
    verdict: Literal["aim", "must", "NOT MET", ""]


def judge(row: Row, taken: Mapping[Sample, Sequence[float]]) -> Result:
    """Compare within each round, so that a noisy moment hits both sides, then take medians."""
    values = taken[row.value]
    controls = taken[row.control] if row.control else None
    if row.compare == "value" or controls is None:
        compared = statistics.median(values)
    elif row.compare == "ratio":
        compared = statistics.median(mine / theirs for mine, theirs in zip(values, controls, strict=True))
    else:
        compared = statistics.median(mine - theirs for mine, theirs in zip(values, controls, strict=True))
    verdict: Literal["aim", "must", "NOT MET", ""] = ""
    if row.must is not None:
        verdict = "must" if compared <= row.must else "NOT MET"
    if row.aim is not None and compared <= row.aim:
        verdict = "aim"
    return Result(row, statistics.median(values), statistics.median(controls) if controls else None, compared, verdict)


def _call(target: str, request: Request = CALL, concurrency: int = 32) -> Sample:
    return Sample("cpu_call", target, request, concurrency)


def _event(target: str, request: Request = EVENTS) -> Sample:
    return Sample("cpu_event", target, request, 100)


ROWS: Sequence[Row] = (
    Row("C1: raw ASGI echo, CPU per call", "controls", "µs", _call("C1")),
    Row("C2: Litestar @asgi echo, CPU per call", "controls", "µs", _call("C2"), _call("C1"), "ratio"),
    Row("C3: aiohttp relay, CPU per call", "controls", "µs", _call("C3"), _call("C1"), "ratio"),
    Row("C3: CPU per relayed event", "controls", "µs", _event("C3")),
    Row("mock upstream: CPU per call", "controls", "µs", _call("direct"), _call("C3"), "ratio", 0.33),
    Row("1 kB chat call, record only: CPU", "calls", "µs", _call(PLAIN), _call("C3"), "ratio", 1.6, 1.35),
    Row("300 kB prompt: CPU over a 1 kB prompt", "calls", "µs",
        _call(PLAIN, LARGE, 4), _call(PLAIN), "difference", 3000, 1000),
    Row("300 kB prompt: CPU (control: C3)", "calls", "µs", _call(PLAIN, LARGE, 4), _call("C3", LARGE, 4), "ratio"),
    Row("exact hit from memory: CPU", "caches", "µs", _call("gateway:exact", SAME), _call("C1", SAME), "ratio", 4, 3),
    Row("exact hit from memory, streamed: CPU", "caches", "µs",
        _call("gateway:exact", SAME_STREAM), _call("C1", SAME), "ratio", 4, 3),
    Row("exact hit from memory behind single flight: CPU", "caches", "µs",
        _call("gateway:exact+flight", SAME), _call("C1", SAME), "ratio", 4, 3),
    Row("exact hit from embedded Qdrant: CPU over one from memory", "caches", "µs",
        _call("gateway:exact from store", SAME), _call("gateway:exact", SAME), "difference", 30),
    Row("exact miss, looked up and stored: CPU over the same without the cache", "caches", "µs",
        _call("gateway:exact+flight"), _call("gateway:flight"), "difference"),
    Row("1 kB chat call, all policies: CPU", "policies", "µs", _call("gateway:all", KEYED), _call("C3"), "ratio", 2.6, 2.0),
    Row("input guard on it: CPU added", "policies", "µs",
        _call("gateway:all+guard", KEYED), _call("gateway:all", KEYED), "difference", 250, 120),
    Row("a budget on it: CPU added", "policies", "µs",
        _call("gateway:all+budget", KEYED), _call("gateway:all", KEYED), "difference", 400),
    Row("exact hit, all policies and a remembered guard verdict: CPU", "policies", "µs",
        _call("gateway:all+guard", KEYED_SAME), _call("C1", SAME), "ratio", 4, 3),
    Row("output guard on a relayed event: CPU added", "policies", "µs",
        _event("gateway:output guard"), _event(PLAIN), "difference", 10),
    Row("records shipped to a local MLflow: CPU of the serving process", "policies", "µs",
        Sample("cpu_serving", "gateway:logged", CALL), Sample("cpu_serving", PLAIN, CALL), "ratio", 1.15, 1.08),
    Row("relayed event: CPU", "streams", "µs", _event(PLAIN), _event("C3"), "ratio", 1.5, 1.2),
    Row("relayed event, client asks for usage: CPU", "streams", "µs",
        _event(PLAIN, METERED), _event("C3", METERED), "ratio"),
    Row("300 streams at 50 events/s: gap p99.9", "streams", "ms",
        Sample("gap_p999", PLAIN, STEADY, 300), Sample("gap_p999", "C3", STEADY, 300), "value", 100),
    Row("600 streams at 50 events/s: gap p99.9", "streams", "ms",
        Sample("gap_p999", PLAIN, STEADY, 600), Sample("gap_p999", "C3", STEADY, 600), "value", None, 100),
    Row("one call at a time: added latency p50", "latency", "ms",
        Sample("latency_p50", PLAIN, CALL), Sample("latency_p50", "direct", CALL), "difference", 1.0, 0.5),
    Row("C3, one call at a time: added latency p50", "latency", "ms",
        Sample("latency_p50", "C3", CALL), Sample("latency_p50", "direct", CALL), "difference"),
    Row("half load: added time to first token p99", "latency", "ms",
        Sample("first_p99", PLAIN, SHORT), Sample("first_p99", "direct", SHORT), "difference", 2.0, 1.0),
    Row("C3, the same load: added time to first token p99", "latency", "ms",
        Sample("first_p99", "C3", SHORT), Sample("first_p99", "direct", SHORT), "difference"),
    Row("half load, records shipped to a local MLflow: time to first token p99 over none shipped", "latency", "ms",
        Sample("first_p99", "gateway:logged", SHORT), Sample("first_p99", PLAIN, SHORT), "difference", 0.5),
    Row("RSS idle", "memory", "MB", Sample("rss_idle", PLAIN, CALL), Sample("rss_idle", "C3", CALL), "value", 90, 80),
    Row("RSS per open stream", "memory", "kB",
        Sample("rss_stream", PLAIN, SLOW), Sample("rss_stream", "C3", SLOW), "value", 100, 50),
    Row("start to first answer", "start", "s",
        Sample("start", PLAIN, CALL), Sample("start", "C3", CALL), "value", 1.0, 0.7),
)  # fmt: skip
