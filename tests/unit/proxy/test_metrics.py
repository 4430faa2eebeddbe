"""What scrapers are told, read back by a strict reader."""

import msgspec
import pytest
from support.prometheus import Point, read
from support.sealed import sealed

from proxy.call import Attempt, Usage, Verdict
from proxy.exposition import Sample, pieces
from proxy.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    made = Metrics()
    made.configure([("openai", "gpt-4o"), ("groq", "kimi")])
    return made


def told(metrics: Metrics, samples: list[Sample] | None = None) -> dict[str, list[Point]]:
    return read(b"".join(pieces(metrics, samples or [])).decode())


def value(families: dict[str, list[Point]], name: str, **labels: str) -> float:
    """The sum of a family's plain samples that have these labels."""
    return sum(point.value for point in families[name] if point.name == name and labels.items() <= point.labels.items())


def count(families: dict[str, list[Point]], name: str, **labels: str) -> float:
    """The measurements of a histogram."""
    return sum(
        point.value
        for point in families[name]
        if point.name == f"{name}_count" and labels.items() <= point.labels.items()
    )


def test_every_call_is_counted_once_by_how_it_ended(metrics: Metrics) -> None:
    metrics.write(sealed())
    metrics.write(sealed())
    metrics.write(sealed(status=502, outcome="error", error="upstream_unavailable", usage=None, first_content=None))
    metrics.write(
        sealed(status=0, outcome="client_disconnect", provider="", upstream_model="", attempts=[], usage=None)
    )
    families = told(metrics)
    name = "lockgate_calls_total"
    assert value(families, name) == 4
    assert value(families, name, status="2xx", outcome="complete", provider="openai", model="gpt-4o") == 2
    assert value(families, name, status="5xx", outcome="error") == 1
    assert value(families, name, status="none", provider="none", model="none") == 1
    assert value(families, "lockgate_errors_total", route="chat", code="upstream_unavailable") == 1
    assert count(families, "lockgate_call_duration_seconds") == 4


def test_a_call_refused_before_it_is_read_has_no_route(metrics: Metrics) -> None:
    refused = sealed(route="", provider="", upstream_model="", attempts=[], usage=None, status=401, outcome="error")
    metrics.write(refused)
    assert value(told(metrics), "lockgate_calls_total", route="none", status="4xx") == 1


def test_each_attempt_is_an_operation_of_its_provider(metrics: Metrics) -> None:
    """A failed one under its error, the last one to the end of its answer; failovers are counted."""
    attempts = [
        Attempt("openai", "gpt-4o", "a", 503, "status", seconds=0.3),
        Attempt("openai", "gpt-4o", "a", None, "timeout", wait=1.0, seconds=3.0),
        Attempt("groq", "kimi", "b", 200, "ok", seconds=0.2),
    ]
    metrics.write(
        sealed(
            provider="groq",
            upstream_model="kimi",
            attempts=attempts,
            fallbacks=1,
            stream=True,
            first_content=4.6,
            duration=9.6,
        )
    )
    families = told(metrics)
    assert value(families, "lockgate_attempts_total", provider="openai", model="gpt-4o", result="timeout") == 1
    assert value(families, "lockgate_attempts_total") == 3
    assert value(families, "lockgate_fallbacks_total", provider="groq", route="chat") == 1
    name = "gen_ai_client_operation_duration_seconds"
    assert count(families, name, gen_ai_provider_name="openai", error_type="status") == 1
    sums = [
        point.value
        for point in families[name]
        if point.name == f"{name}_sum" and point.labels["gen_ai_provider_name"] == "groq"
    ]
    assert sums == [pytest.approx(0.2 + 5.0)]
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert count(families, name, gen_ai_provider_name="groq", gen_ai_operation_name="chat") == 1


def test_tokens_and_money_add_up(metrics: Metrics) -> None:
    """In whole nano-USD; a hit saves and does not spend."""
    metrics.write(sealed(usage=Usage(200, 120, cached=50, reasoning=7), cost=1_700_001))
    metrics.write(sealed(cost=300, attempts=[], usage=Usage(1, 1)))
    metrics.write(sealed(cost=0, saved=1_700_001, cache="hit-exact", attempts=[]))
    families = told(metrics)
    assert value(families, "lockgate_spent_nanousd_total", route="chat") == 1_700_301
    assert value(families, "lockgate_saved_nanousd_total", route="chat") == 1_700_001
    assert value(families, "lockgate_tokens_total", type="prompt") == 200 + 1 + 200
    assert value(families, "lockgate_tokens_total", type="reasoning") == 7
    assert value(families, "lockgate_cache_total", route="chat", verdict="hit-exact") == 1
    assert (
        count(families, "gen_ai_client_token_usage", gen_ai_token_type="output") == 1
    )  # only what a provider was asked


def test_guards_and_flights_are_counted(metrics: Metrics) -> None:
    verdicts = [Verdict("injection", "block"), Verdict("secrets", "redact", side="output", shadow=True)]
    metrics.write(sealed(guards=verdicts, flight="followed"))
    families = told(metrics)
    name = "lockgate_guard_verdicts_total"
    assert value(families, name, guard="injection", side="input", action="block", shadow="false") == 1
    assert value(families, name, guard="secrets", side="output", action="redact", shadow="true") == 1
    assert value(families, "lockgate_flights_total", role="followed") == 1


def test_an_amendment_counts_no_call_twice(metrics: Metrics) -> None:
    metrics.write(sealed())
    metrics.write(sealed(outcome="client_disconnect", amended=True))
    families = told(metrics)
    assert value(families, "lockgate_calls_total") == 1
    assert value(families, "lockgate_amended_total", route="chat", outcome="client_disconnect") == 1


def test_a_call_that_its_client_left_is_charged_in_full_once_all_is_known(metrics: Metrics) -> None:
    """What was counted when it left is not counted again, nor that it left."""
    left = sealed(outcome="client_disconnect", usage=Usage(200, 20, estimated=True), cost=700, stream=True)
    metrics.write(left)
    for _ in range(2):
        metrics.write(msgspec.structs.replace(left, usage=Usage(210, 120), cost=1700, amended=True))
    families = told(metrics)
    assert value(families, "lockgate_calls_total") == 1
    assert value(families, "lockgate_spent_nanousd_total") == 1700
    assert value(families, "lockgate_tokens_total") == 330


def test_what_clients_invent_makes_no_labels(metrics: Metrics) -> None:
    """Models behind a route with `*` that no provider has, and any number of codes, stay one label."""
    for number in range(5000):
        attempts = [Attempt("openai", f"invented-{number}", "x", 404, "missing", seconds=0.1)]
        metrics.write(
            sealed(
                upstream_model=f"invented-{number}",
                attempts=attempts,
                status=502,
                outcome="error",
                error=f"code-{number}",
            )
        )
    families = told(metrics)
    assert value(families, "lockgate_calls_total", model="other") == 5000
    assert value(families, "lockgate_attempts_total", model="other", result="missing") == 5000
    assert value(families, "lockgate_errors_total") == 5000
    assert sum(map(len, families.values())) < 400


def test_models_that_a_provider_has_are_named_up_to_a_number(metrics: Metrics) -> None:
    for number in range(1000):
        attempts = [Attempt("openai", f"real-{number}", "x", 200, "ok", seconds=0.1)]
        metrics.write(sealed(upstream_model=f"real-{number}", attempts=attempts))
    families = told(metrics)
    assert value(families, "lockgate_calls_total", model="real-7") == 1
    assert value(families, "lockgate_calls_total", model="other") == 800
    assert value(families, "lockgate_calls_total") == 1000


def test_names_with_quotes_and_line_ends_keep_the_format(metrics: Metrics) -> None:
    hostile = 'a"b\\c\nd{e="f"} 1'
    metrics.write(sealed(route=hostile))
    assert value(told(metrics), "lockgate_calls_total", route=hostile) == 1


def test_the_text_is_whole_while_calls_come_in_between(metrics: Metrics) -> None:
    """Each piece is small, and what is written between two of them breaks nothing."""
    for number in range(100):
        metrics.write(sealed(route=f"route-{number}"))
    text, sizes = b"", []
    for number, piece in enumerate(pieces(metrics, [])):
        metrics.write(sealed(route=f"new-{number}", cache="miss", error="x", flight="led"))
        metrics.write(sealed())
        text += piece
        sizes.append(piece.count(b"\n"))
    assert len(sizes) > 5
    assert max(sizes) < 250
    assert value(read(text.decode()), "lockgate_calls_total") >= 100


def test_samples_of_the_moment_stand_in_one_family_each(metrics: Metrics) -> None:
    """However they are mixed, with labels or without."""
    samples = [
        Sample("lockgate_a", "A.", 1, {"x": "1"}),
        Sample("lockgate_b_total", "B.", 2.5, kind="counter"),
        Sample("lockgate_a", "A.", 3, {"x": "2"}),
    ]
    families = told(metrics, samples)
    assert [point.value for point in families["lockgate_a"]] == [1, 3]
    assert families["lockgate_b_total"] == [Point("lockgate_b_total", {}, 2.5)]
