"""What a sealed record costs to count, and the longest piece of a large scrape."""

import itertools
import time

from micro import Cases, Timed

from proxy.call import Attempt, Record, Usage
from proxy.exposition import pieces
from proxy.metrics import Metrics
from proxy.traffic import Traffic


def a_record(route: str = "chat", model: str = "gpt-4o", *, stream: bool = False) -> Record:
    """One good call, as the chain seals it."""
    return Record(
        id="0" * 32, endpoint="chat", started=1000.0, caller="anyone", route=route, provider="openai",
        upstream_model=model, stream=stream, attempts=[Attempt("openai", model, f"openai/{model}", 200, "ok", seconds=0.4)],
        usage=Usage(200, 120), cost=1_700_000, cache="miss", status=200, outcome="complete", first_content=0.41, upstream=0.4, duration=0.9,
    )  # fmt: skip


def full() -> Metrics:
    """50 routes with 10 models each, every histogram filled."""
    metrics = Metrics()
    for route, model in itertools.product(range(50), range(10)):
        for stream in (False, True):
            metrics.write(a_record(f"route-{route}", f"model-{model}", stream=stream))
    return metrics


def register(cases: Cases) -> None:
    """The sinks one by one, and the scrape whole and at its worst piece."""

    @cases.case("metrics: count a record for scrapers")
    def counted() -> Timed:
        metrics, record = Metrics(), a_record(stream=True)
        return lambda: metrics.write(record)

    @cases.case("metrics: count a record for the charts")
    def charted() -> Timed:
        traffic, record = Traffic(time.time), a_record(stream=True)
        return lambda: traffic.write(record)

    @cases.case("metrics: both", goal_ns=5_000)
    def both() -> Timed:
        metrics, traffic, record = Metrics(), Traffic(time.time), a_record(stream=True)

        def write() -> None:
            metrics.write(record)
            traffic.write(record)

        return write

    @cases.case("metrics: a scrape of 50 routes x 10 models, whole")
    def scrape() -> Timed:
        metrics = full()
        return lambda: sum(map(len, pieces(metrics, ())))

    @cases.case("metrics: a scrape of 50 routes x 10 models, one piece of it", goal_ns=2_000_000)
    def piece() -> Timed:
        metrics = full()
        endless = itertools.chain.from_iterable(pieces(metrics, ()) for _ in itertools.count())
        return lambda: next(endless)
