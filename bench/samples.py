"""The ways to take one figure from one target: each is a coroutine function from (laboratory, sample) to a number."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import measure
from load import ClosedLoop, Request, open_loop, poisson
from servers import Farm, Server


@dataclass(frozen=True)
class Effort:
    """How long to look. `cpu` is the least CPU time, in seconds, that a cost is taken over."""

    rounds: int = 5
    cpu: float = 2.0
    warm: float = 0.5
    window: float = 6.0
    calls: int = 500
    streams: int = 500


QUICK = Effort(rounds=1, cpu=0.05, warm=0.1, window=0.4, calls=20, streams=10)


@dataclass(frozen=True)
class Sample:
    """One figure: how it is taken (a name in `KINDS`), from what target, under which load."""

    kind: str
    target: str
    request: Request
    concurrency: int = 32


@dataclass
class Laboratory:
    """What taking samples needs. `rates`: calls a second that load the gateway by half, by request name."""

    farm: Farm
    effort: Effort
    rates: dict[str, float] = field(default_factory=dict)


async def cpu_call(lab: Laboratory, sample: Sample) -> float:
    """CPU microseconds of the target's process tree for each call of a closed loop."""
    cpu, calls, _ = await _cost(lab, sample)
    return cpu / calls


async def cpu_event(lab: Laboratory, sample: Sample) -> float:
    """CPU microseconds for each relayed event; the calls that carry the events are part of it."""
    cpu, _, events = await _cost(lab, sample)
    return cpu / events


async def cpu_serving(lab: Laboratory, sample: Sample) -> float:
    """CPU microseconds a call of the serving process alone, without those that it has started (the shipper)."""
    cpu, calls, _ = await _cost(lab, sample, measure.cpu_alone_ns)
    return cpu / calls


async def _cost(
    lab: Laboratory, sample: Sample, cpu_ns: Callable[[int], int] = measure.cpu_ns
) -> tuple[float, int, int]:
    server = lab.farm.get(sample.target)
    spread = lab.effort.warm if sample.request.stream else 0.0  # streams that beat as one are relayed in cheap batches
    async with ClosedLoop(server.url, sample.request, sample.concurrency, spread) as load:
        tally = load.tally
        await asyncio.sleep(lab.effort.warm)
        began, calls, events = cpu_ns(server.pid), tally.calls, tally.events
        await tally.until(lambda: cpu_ns(server.pid) - began >= lab.effort.cpu * 1e9, tick=0.05)
        cpu = cpu_ns(server.pid) - began
        calls, events = tally.calls - calls, tally.events - events
    tally.check()
    return cpu / 1000, calls, events


async def latency_p50(lab: Laboratory, sample: Sample) -> float:
    """Milliseconds of the median call, one call at a time."""
    server = lab.farm.get(sample.target)
    async with ClosedLoop(server.url, sample.request, 1) as load:
        await load.tally.until(lambda: load.tally.calls >= lab.effort.calls)
    load.tally.check()
    return statistics.median(load.tally.latencies) * 1000


async def first_p50(lab: Laboratory, sample: Sample) -> float:
    """Milliseconds to the first content of the median stream, one stream at a time."""
    server = lab.farm.get(sample.target)
    async with ClosedLoop(server.url, sample.request, 1) as load:
        await load.tally.until(lambda: len(load.tally.firsts) >= max(10, lab.effort.calls // 5))
    load.tally.check()
    return statistics.median(load.tally.firsts) * 1000


async def first_p99(lab: Laboratory, sample: Sample) -> float:
    """Milliseconds from the intended send to the first content, p99 of an open loop at half the gateway's capacity."""
    rate = lab.rates[sample.request.name]
    await _open(lab, sample, rate, lab.effort.warm)
    firsts = await _open(lab, sample, rate, lab.effort.window)
    return measure.percentile(firsts, 0.99) * 1000


async def _open(lab: Laboratory, sample: Sample, rate: float, seconds: float) -> list[float]:
    times = poisson(rate, seconds, seed=1) or [0.0]
    tally = await open_loop(lab.farm.get(sample.target).url, sample.request, times)
    tally.check()
    return tally.firsts


async def gap_p999(lab: Laboratory, sample: Sample) -> float:
    """Milliseconds between neighbouring events of a stream, p99.9 over `concurrency` paced streams at once."""
    server = lab.farm.get(sample.target)
    async with ClosedLoop(server.url, sample.request, sample.concurrency, spread=lab.effort.warm * 2) as load:
        await asyncio.sleep(lab.effort.warm)
        load.tally.gaps.clear()
        await asyncio.sleep(lab.effort.window)
        gaps = list(load.tally.gaps)
    load.tally.check()
    return measure.percentile(gaps, 0.999) * 1000


async def rss_idle(lab: Laboratory, sample: Sample) -> float:
    """Megabytes resident of a new process after its first answers."""
    with lab.farm.fresh(sample.target) as server:
        await _warm_up(server, sample.request, 3)
        return measure.rss_kb(server.pid) / 1024


async def rss_stream(lab: Laboratory, sample: Sample) -> float:
    """Kilobytes resident that each open stream adds to a new, warmed-up process."""
    count = lab.effort.streams
    with lab.farm.fresh(sample.target) as server:
        await _warm_up(server, Request("warm"), 200)
        before = measure.rss_kb(server.pid)
        async with ClosedLoop(server.url, sample.request, count) as load:
            await load.tally.until(lambda: load.tally.opened >= count)
            await asyncio.sleep(lab.effort.warm)
            grown = measure.rss_kb(server.pid) - before
        load.tally.check()
    return grown / count


async def start(lab: Laboratory, sample: Sample) -> float:
    """Seconds from starting the process to the end of its first answer."""
    with lab.farm.fresh(sample.target) as server:
        await _warm_up(server, sample.request, 1)
        return time.perf_counter() - server.began


async def _warm_up(server: Server, request: Request, calls: int) -> None:
    async with ClosedLoop(server.url, request, 1) as load:
        await load.tally.until(lambda: load.tally.calls >= calls, tick=0.001)
    load.tally.check()


KINDS: Mapping[str, Callable[[Laboratory, Sample], Awaitable[float]]] = {
    function.__name__: function
    for function in (
        cpu_call,
        cpu_serving,
        cpu_event,
        latency_p50,
        first_p50,
        first_p99,
        gap_p999,
        rss_idle,
        rss_stream,
        start,
    )
}
