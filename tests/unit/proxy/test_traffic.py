"""The charts' figures, with a clock that the tests move."""

import pytest
from support.calls import Clock
from support.sealed import sealed

from proxy.call import Attempt, Record, Verdict
from proxy.traffic import STEPS, Range, Traffic


def at(clock: Clock, **facts: object) -> Record:
    """A record that is sealed now."""
    return sealed(started=clock.now - 0.5, duration=0.5, **facts)


def test_a_call_shows_in_each_range_once_its_step_is_over() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock))
    clock.now += 1200
    for span, (step, number) in STEPS.items():
        points = traffic.points(span)
        assert len(points) == number
        seen = [point["at"] for point in points if point["calls"]]
        assert seen == ([] if step * number < 1200 else [1_000_000 - 1_000_000 % step])
        assert traffic.totals(span)["calls"] == len(seen)


def test_points_are_evenly_spaced_and_idle_ones_are_nought() -> None:
    """Percentiles of nothing are null, not 0."""
    clock = Clock(1_000_000.0)
    points = Traffic(clock).points("5m")
    times = [point["at"] for point in points]
    assert times == list(range(1_000_000 - 300, 1_000_000, 5))
    assert {point["calls"] for point in points} == {0}
    assert {point["p95"] for point in points} == {None}


def test_later_points_only() -> None:
    """What a watcher has is not sent again."""
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    clock.now += 11
    traffic.write(at(clock))
    assert [point["at"] for point in traffic.points("5m", after=1_000_000)] == [1_000_005]
    clock.now += 5
    (point,) = traffic.points("5m", after=1_000_005)
    assert (point["at"], point["calls"]) == (1_000_010, 1)
    assert traffic.points("5m", after=1_000_010) == []


def test_every_call_has_one_end() -> None:
    """Answered, refused, blocked, left or failed: the kinds add up to the calls."""
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    for facts in (
        {},
        {"status": 429, "outcome": "error"},
        {"status": 400, "outcome": "guard_blocked"},
        {"status": 200, "outcome": "guard_blocked"},
        {"status": 0, "outcome": "client_disconnect"},
        {"status": 200, "outcome": "client_disconnect"},
        {"status": 502, "outcome": "error"},
        {"status": 200, "outcome": "upstream_interrupted"},
        {"status": 404, "outcome": "complete"},
    ):
        traffic.write(at(clock, **facts))
    clock.now += 60
    totals = traffic.totals("5m")
    assert [totals[name] for name in ("calls", "refused", "blocked", "left", "failed")] == [9, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("kind", "status", "end"),
    [("limited", 429, "failed"), ("missing", 404, "failed"), ("refused", 400, "refused"), ("ok", 400, "refused")],
)
def test_what_a_provider_fails_at_is_no_refusal(kind: str, status: int, end: str) -> None:
    """Its limit reaches the client as 429, as ours does; only ours says something of the client."""
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock, status=status, outcome="error", attempts=[Attempt("p", "m", kind=kind)]))
    totals = traffic.totals("5m")
    assert {name: totals[name] for name in ("refused", "failed")} == {"refused": 0, "failed": 0} | {end: 1}


def test_hits_spending_and_saving_add_up_over_coarser_steps() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    for _ in range(100):
        clock.now += 7
        traffic.write(at(clock, cache="miss", cost=5))
        traffic.write(at(clock, cache="hit-exact", cost=0, saved=5))
        traffic.write(at(clock, cache="hit-semantic", cost=0, saved=5))
        traffic.write(at(clock, cache="bypass", cost=5))
    clock.now += 700
    totals = traffic.totals("24h")
    named = ("calls", "missed", "hits_exact", "hits_semantic", "bypassed", "spent", "saved", "tokens")
    assert [totals[name] for name in named] == [400, 100, 100, 100, 100, 1000, 1000, 400 * 320]


def test_the_busiest_come_first_and_an_hour_is_remembered() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock, caller="early"))
    for _ in range(3):
        clock.now += 901
        traffic.write(at(clock, caller="often"))
    tables = traffic.busiest(10)
    assert [(row["name"], row["calls"]) for row in tables["callers"]] == [("often", 3), ("early", 1)]
    clock.now += 901
    traffic.write(at(clock, caller="often"))
    assert [row["name"] for row in traffic.busiest(10)["callers"]] == ["often"]
    clock.now += 10_000
    traffic.write(at(clock, caller="late"))
    tables = traffic.busiest(10)
    assert [row["name"] for row in tables["callers"]] == ["late"]
    assert tables["since"] == int(clock.now)


def test_callers_without_number_are_told_together() -> None:
    """Memory does not grow with the names."""
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    for number in range(3000):
        traffic.write(at(clock, caller=f"caller-{number}"))
    rows = traffic.busiest(1000)["callers"]
    assert len(rows) == 501
    assert (rows[0]["name"], rows[0]["calls"]) == ("other", 2500)


def test_guards_that_did_something_are_counted() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    verdicts = [
        Verdict("injection", "allow"),
        Verdict("injection", "block"),
        Verdict("secrets", "redact", "output", shadow=True),
    ]
    traffic.write(at(clock, guards=verdicts))
    rows = {(row["guard"], row["side"], row["action"]): row["count"] for row in traffic.busiest(5)["guards"]}
    assert rows == {("injection", "input", "block"): 1, ("secrets", "output", "redact (shadow)"): 1}


def test_an_amendment_adds_its_end_and_no_call() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock))
    traffic.write(at(clock, outcome="client_disconnect", amended=True))
    clock.now += 60
    totals = traffic.totals("5m")
    assert (totals["calls"], totals["left"]) == (1, 1)


def test_a_clock_that_goes_back_loses_nothing() -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock))
    clock.now -= 30
    traffic.write(at(clock))
    clock.now += 120
    assert traffic.totals("5m")["calls"] == 2


@pytest.mark.parametrize(("span", "step", "number"), [(span, *shape) for span, shape in STEPS.items()])
def test_totals_have_a_call_at_once_and_for_as_long_as_the_range(span: Range, step: int, number: int) -> None:
    clock = Clock(1_000_000.0)
    traffic = Traffic(clock)
    traffic.write(at(clock))
    assert traffic.totals(span)["calls"] == 1
    assert traffic.totals(span)["p50"] is not None
    clock.now = 1_000_000 - 1_000_000 % step + step * number
    assert traffic.totals(span)["calls"] == 1
    clock.now += step
    assert traffic.totals(span)["calls"] == 0
