"""The metrics as Prometheus reads them (text format 0.0.4), in pieces small enough not to hold the loop.

What OpenTelemetry has a name for carries it, as its Prometheus exporter would write it; all else begins with `lockgate_`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from proxy.histogram import Histogram
from proxy.metrics import NONE, Lane, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4"
"""The framework adds the charset, UTF-8."""

_PIECE = 200
"""Lines that are written without a pause."""
_OPERATIONS = {
    "chat": {"gen_ai_operation_name": "chat", "openai_api_type": "chat_completions"},
    "responses": {"gen_ai_operation_name": "chat", "openai_api_type": "responses"},
    "completions": {"gen_ai_operation_name": "text_completion"},
}
"""OpenTelemetry's words for an endpoint, where they are not ours."""
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Sample(msgspec.Struct, frozen=True):
    """One value, read when it is asked for."""

    name: str
    help: str
    value: float | Histogram
    labels: Mapping[str, str] = {}
    kind: Literal["gauge", "counter", "histogram"] = "gauge"


def pieces(metrics: Metrics, samples: Iterable[Sample]) -> Iterator[bytes]:
    """The whole text, a few lines at a time; between two of them the metrics may be written to."""
    lines: list[str] = []
    for line in _lines(metrics, samples):
        lines.append(line)
        if len(lines) >= _PIECE:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def _lines(metrics: Metrics, samples: Iterable[Sample]) -> Iterator[str]:
    yield from _calls(metrics)
    yield from _routes(metrics)
    yield from _models(metrics)
    yield from _counts(
        "attempts", "Tries of a deployment, by how they ended.", ("provider", "model", "result"), metrics.attempts
    )
    yield from _counts("errors", "Errors that clients saw, by code.", ("route", "code"), metrics.errors)
    yield from _counts(
        "amended",
        "Calls that ended otherwise than they were counted, by how they really ended.",
        ("route", "outcome"),
        metrics.amended,
    )
    yield from _counts("cache", "Calls by what the caches said.", ("route", "verdict"), metrics.cache)
    yield from _counts("flights", "Calls that shared an upstream call, by role.", ("role",), metrics.flights)
    yield from _counts("guard_verdicts", "Verdicts of guards.", ("guard", "side", "action", "shadow"), metrics.guards)
    yield from _samples(samples)


def _samples(samples: Iterable[Sample]) -> Iterator[str]:
    seen: set[str] = set()
    for sample in sorted(samples, key=lambda each: each.name):
        if sample.name not in seen:
            seen.add(sample.name)
            yield from _head(sample.name, sample.kind, sample.help)
        labels = _labels(sample.labels)
        if isinstance(sample.value, Histogram):
            yield from _histogram(sample.name, labels, sample.value)
        else:
            yield f"{sample.name}{_braced(labels)} {sample.value!r}\n"


def _calls(metrics: Metrics) -> Iterator[str]:
    """What is counted by endpoint, route, provider and model."""
    lanes: list[tuple[str, Lane]] = []
    yield from _head("lockgate_calls_total", "counter", "Calls that are over, by status class and outcome.")
    for key, lane in list(metrics.lanes.items()):
        labels = _lane_labels(*key)
        lanes.append((labels, lane))
        for (status, outcome), count in list(lane.outcomes.items()):
            shown = f"{status}xx" if status else NONE
            yield f'lockgate_calls_total{{{labels},status="{shown}",outcome="{outcome}"}} {count}\n'
    yield from _head(
        "lockgate_tokens_total",
        "counter",
        "Tokens of answers as providers counted them, of hits and shared answers too; cached, cache_write, reasoning and audio are parts of prompt and completion.",
    )
    for labels, lane in lanes:
        for kind in ("prompt", "completion", "cached", "cache_write", "reasoning", "audio"):
            count = getattr(lane, kind)
            if count:
                yield f'lockgate_tokens_total{{{labels},type="{kind}"}} {count}\n'
    for field, name, text in (
        ("fallbacks", "lockgate_fallbacks_total", "Times that a call went on to another deployment."),
        ("spent", "lockgate_spent_nanousd_total", "What calls cost, in billionths of a US dollar."),
        ("saved", "lockgate_saved_nanousd_total", "What cache hits would have cost, in billionths of a US dollar."),
    ):
        yield from _head(name, "counter", text)
        for labels, lane in lanes:
            count = getattr(lane, field)
            if count:
                yield f"{name}{{{labels}}} {count}\n"


def _lane_labels(endpoint: str, route: str, provider: str, model: str) -> str:
    return _labels({"endpoint": endpoint, "route": route or NONE, "provider": provider or NONE, "model": model or NONE})


def _routes(metrics: Metrics) -> Iterator[str]:
    """What clients wait for."""
    routes = [
        (_labels({"endpoint": endpoint, "route": route}), times)
        for (endpoint, route), times in list(metrics.routes.items())
    ]
    yield from _head("lockgate_call_duration_seconds", "histogram", "From a call's arrival to its last byte.")
    for labels, times in routes:
        yield from _histogram("lockgate_call_duration_seconds", labels, times.duration)
    yield from _head("lockgate_first_content_seconds", "histogram", "From a stream's arrival to its first content.")
    for labels, times in routes:
        yield from _histogram("lockgate_first_content_seconds", labels, times.first_content)
    yield from _head(
        "lockgate_overhead_seconds", "histogram", "The gateway's own part of the time to an answer's begin."
    )
    for labels, times in routes:
        yield from _histogram("lockgate_overhead_seconds", labels, times.overhead)


def _models(metrics: Metrics) -> Iterator[str]:
    """What providers take, under OpenTelemetry's names."""
    models = []
    for (endpoint, provider, model), times in list(metrics.models.items()):
        operation = _OPERATIONS.get(endpoint, {"gen_ai_operation_name": endpoint})
        labels = _labels({**operation, "gen_ai_provider_name": provider, "gen_ai_request_model": model})
        models.append((labels, times))
    name = "gen_ai_client_operation_duration_seconds"
    yield from _head(name, "histogram", "A provider's time for one attempt, to its last byte.")
    for labels, times in models:
        for error, histogram in list(times.duration.items()):
            yield from _histogram(name, f'{labels},error_type="{_escape(error)}"' if error else labels, histogram)
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    yield from _head(name, "histogram", "A provider's time to the first content of a stream.")
    for labels, times in models:
        yield from _histogram(name, labels, times.first_chunk)
    name = "gen_ai_client_token_usage"
    yield from _head(name, "histogram", "Tokens a call.")
    for labels, times in models:
        yield from _histogram(name, f'{labels},gen_ai_token_type="input"', times.prompt)
        yield from _histogram(name, f'{labels},gen_ai_token_type="output"', times.completion)


def _counts(name: str, text: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Iterator[str]:
    yield from _head(f"lockgate_{name}_total", "counter", text)
    for key, count in list(counts.items()):
        yield f"lockgate_{name}_total{{{_labels(dict(zip(labels, key, strict=True)))}}} {count}\n"


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    """One histogram's lines, of one moment; nothing of one that is empty."""
    count = sum(histogram.counts)
    if not count:
        return
    before = f"{labels}," if labels else ""
    text = []
    so_far = 0
    for bound, each in zip(histogram.bounds, histogram.counts, strict=False):
        so_far += each
        text.append(f'{name}_bucket{{{before}le="{bound}"}} {so_far}\n')
    text.append(f'{name}_bucket{{{before}le="+Inf"}} {count}\n{name}_sum{_braced(labels)} {histogram.total!r}\n')
    text.append(f"{name}_count{_braced(labels)} {count}\n")
    yield from text


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join([f'{name}="{_escape(value)}"' for name, value in labels.items()])


def _escape(value: str) -> str:
    return value.translate(_ESCAPES)
