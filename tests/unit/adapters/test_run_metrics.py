import pytest
from mlflow.utils.validation import _validate_metric_name

from adapters.run_metrics import Meter
from proxy.call import Attempt, Record, Usage


def record(number: int = 1, **members: object) -> Record:
    given = {"started": 1000.0, "duration": 1.0, "outcome": "complete", "route": "r", **members}
    return Record(id=f"{number:032x}", endpoint="chat", **given)  # type: ignore[arg-type]


def test_an_interval_tells_what_its_calls_came_to() -> None:
    """Counts, rates, percentiles, hit ratios, tokens, money, and how many calls were in flight on average."""
    meter = Meter(10.0)
    for number in range(1, 101):
        meter.add(record(number, duration=number / 100, stream=True, first_content=number / 200, cache="miss"))
    meter.add(record(101, cache="hit-exact", usage=Usage(3, 4), cost=0, saved=2_000_000_000))
    meter.add(record(102, cache="hit-semantic"))
    meter.add(
        record(103, outcome="error", attempts=[Attempt("p", "m")] * 3, fallbacks=1, usage=Usage(1, 0), cost=10**9)
    )
    meter.add(record(104, outcome="client_disconnect", first_content=0.9))
    meter.add(record(105, outcome="guard_blocked"))
    figures = meter.take(lag=7)
    wanted = {
        "requests": 105,
        "requests_per_second": 10.5,
        "errors": 1,
        "error_rate": 1 / 105,
        "disconnects": 1,
        "blocked": 1,
        "exact_hits": 1,
        "exact_hit_ratio": 1 / 102,
        "semantic_hit_ratio": 1 / 102,
        "input_tokens": 4,
        "output_tokens": 4,
        "cost_usd": 1.0,
        "saved_usd": 2.0,
        "fallbacks": 1,
        "retries": 2,
        "latency_p50_ms": 530.0,
        "latency_p99_ms": 1000.0,
        "first_content_p50_ms": 250.0,
        "first_content_p99_ms": 495.0,
        "in_flight": (50.5 + 5) / 10,
        "outbox_lag_bytes": 7.0,
        "total/requests": 105,
        "total/cost_usd": 1.0,
        "route/r/requests": 105,
        "route/r/cost_usd": 1.0,
    }
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted)


def test_intervals_go_by_when_calls_ended() -> None:
    """Also for records that are counted long after."""
    meter = Meter(10.0)
    meter.add(record(1, started=1001.0))
    assert meter.belongs(record(2, started=1007.0))
    assert not meter.belongs(record(2, started=1009.5))
    assert meter.end == 1010.0
    assert [meter.is_over(now) for now in (1009.0, 1010.5, 1011.0)] == [False, False, True]
    meter.take(0)
    assert not meter.is_over(2000.0)
    assert meter.belongs(record(2, started=1009.5))


def test_totals_outlast_the_interval_and_the_process() -> None:
    """They go on where the last process ended."""
    meter = Meter(10.0)
    meter.add(record(1, usage=Usage(5, 6)))
    meter.take(0)
    later = Meter(10.0, meter.totals)
    later.add(record(2, usage=Usage(1, 1)))
    figures = later.take(0)
    assert (figures["requests"], figures["total/requests"], figures["total/input_tokens"]) == (1, 2, 6)


def test_an_amended_record_counts_once() -> None:
    """As what it is in the end."""
    meter = Meter(10.0)
    meter.add(record(1, usage=Usage(5, 6)))
    meter.add(record(1, usage=Usage(7, 6), outcome="client_disconnect", amended=True))
    figures = meter.take(0)
    assert (figures["requests"], figures["input_tokens"], figures["disconnects"]) == (1, 7, 1)


def test_an_amendment_of_a_call_that_is_forgotten_is_no_second_call() -> None:
    """The process before this one has counted it."""
    meter = Meter(10.0)
    meter.add(record(1, amended=True, usage=Usage(7, 6)))
    assert (meter.end, meter.totals) == (None, {})


def test_what_no_route_took_is_counted_together() -> None:
    """Whatever models clients invent, they neither use names up nor make one that MLflow refuses."""
    meter = Meter(10.0)
    for number in range(200):
        meter.add(record(number, route="", model=f"invented {number}", outcome="error"))
    meter.add(record(200, route="", model="..", outcome="error"))
    meter.add(record(201, route="r"))
    figures = meter.take(0)
    assert {name.split("/")[1] for name in figures if name.startswith("route/")} == {"none", "r"}
    assert figures["route/none/requests"] == 201


@pytest.mark.parametrize("name", [".", "..", "a/../b", "é 中", "x" * 300, "\x00", "*"])
def test_mlflow_takes_the_name_of_any_route(name: str) -> None:
    """One that it refuses would hold up all figures for good."""
    meter = Meter(10.0)
    meter.add(record(1, route=name))
    for figure in meter.take(0):
        _validate_metric_name(figure)


def test_two_routes_are_never_added_up_under_one_name() -> None:
    """A name that MLflow takes stays; of another what it takes, and the same hash at every start."""
    names = ("fake/*", "fake_*", "fake__", "gpt-4o", "x" * 100, "x" * 101, "x" * 102, "..", "__")
    for _ in range(2):
        meter = Meter(10.0)
        for number, name in enumerate(names):
            meter.add(record(number, route=name))
        figures = meter.take(0)
        routes = [name.split("/")[1] for name in figures if name.startswith("route/") and name.endswith("/requests")]
        assert len(routes) == len(names)
        assert all(figures[f"route/{name}/requests"] == 1 for name in routes)
        assert {"fake__", "fake__-ebb2b9", "gpt-4o", "x" * 100, "__"} <= set(routes)
        assert max(map(len, routes)) == 100


def test_routes_are_bounded_and_their_names_taken_by_mlflow() -> None:
    """A hundred, the others together."""
    meter = Meter(10.0)
    for number in range(200):
        meter.add(record(number, route=f"weird/*{number}"))
    figures = meter.take(0)
    routes = {name.split("/")[1] for name in figures if name.startswith("route/")}
    assert len(routes) == 101
    assert sum(name.startswith("weird__0-") for name in routes) == 1
    assert figures["route/other/requests"] == 100
