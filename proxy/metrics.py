"""What scrapers are told: counters and histograms since start, fed with every sealed record.

Labels are names that the operator configured or kinds that the code knows. What clients or providers can invent (the
model behind a route with `*`, a provider's error code) is taken up to a number of different ones; the rest is `other`.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from proxy.amendments import Amendments
from proxy.call import Attempt, Record, Usage
from proxy.histogram import Histogram

OTHER = "other"
NONE = "none"
"""The route of a call that was refused before it was read, and the provider of one that reached none."""

DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84)
"""OpenTelemetry's bounds for GenAI operations, in seconds, and one more."""
FIRST_CHUNKS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
OVERHEADS = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_OK = 200
_LANES = 5000
_MODELS = 200
"""Models that nobody configured and a provider has answered for."""
_KINDS = 100
"""Different error codes, results of attempts and guards' names, each."""


class RouteTimes:
    """How long the calls of one endpoint and route take, in seconds, as their clients see it."""

    __slots__ = ("duration", "first_content", "overhead")

    def __init__(self) -> None:
        self.duration = Histogram(DURATIONS)
        self.first_content = Histogram(FIRST_CHUNKS)
        self.overhead = Histogram(OVERHEADS)


class ModelTimes:
    """How long a provider takes for one model and endpoint, in seconds by error ("" is none), and its tokens."""

    __slots__ = ("completion", "duration", "first_chunk", "prompt")

    def __init__(self) -> None:
        self.duration: dict[str, Histogram] = {"": Histogram(DURATIONS)}
        self.first_chunk = Histogram(FIRST_CHUNKS)
        self.prompt = Histogram(TOKENS)
        self.completion = Histogram(TOKENS)


class Lane:
    """Counters of the calls of one endpoint and route that one provider's model answered. Money in nano-USD."""

    __slots__ = ("audio", "cache_write", "cached", "completion", "fallbacks", "model", "outcomes", "prompt", "reasoning", "route", "saved", "spent")  # fmt: skip

    def __init__(self, route: RouteTimes, model: ModelTimes | None) -> None:
        self.route = route
        self.model = model
        self.outcomes: defaultdict[tuple[int, str | None], int] = defaultdict(int)
        """By status class (2 is 2xx, 0 is none sent) and outcome."""
        self.fallbacks = self.spent = self.saved = 0
        self.prompt = self.completion = self.cached = self.cache_write = self.reasoning = self.audio = 0


Counts = defaultdict[tuple[str, ...], int]
LaneKey = tuple[str, str, str, str]
"""Endpoint, route, provider, model."""


class Metrics:
    """The aggregate. A sink of sealed records; each costs a few microseconds and no memory that grows."""

    def __init__(self) -> None:
        self.lanes: dict[LaneKey, Lane] = {}
        self.routes: dict[tuple[str, str], RouteTimes] = {}
        self.models: dict[tuple[str, str, str], ModelTimes] = {}
        self.errors: Counts = defaultdict(int)
        """By route and code."""
        self.attempts: Counts = defaultdict(int)
        """By provider, model and result."""
        self.cache: Counts = defaultdict(int)
        """By route and verdict."""
        self.amended: Counts = defaultdict(int)
        """By route and outcome."""
        self.flights: Counts = defaultdict(int)
        """By role."""
        self.guards: Counts = defaultdict(int)
        """By guard, side, action and whether it only looked."""
        self._configured: frozenset[tuple[str, str]] = frozenset()
        self._amendments = Amendments()
        self._answered: set[tuple[str, str]] = set()
        self._codes: set[str] = set()
        self._results: set[str] = set()
        self._guard_names: set[str] = set()

    def configure(self, deployments: Iterable[tuple[str, str]]) -> None:
        """Name these providers' models; what was counted stays."""
        self._configured = frozenset(deployments)

    def write(self, record: Record) -> None:
        """Count one call; of one that was counted already, what is new about it."""
        if record.amended:
            self._amend(record)
            return
        lane = self.lanes.get((record.endpoint, record.route, record.provider, record.upstream_model))
        if lane is None:
            lane = self._lane(record)
        lane.outcomes[record.status // 100, record.outcome] += 1
        times = lane.route
        times.duration.observe(record.duration)
        first = record.first_content
        if first is not None:
            if record.stream:
                times.first_content.observe(first)
            times.overhead.observe(first - record.upstream if first > record.upstream else 0.0)
        if record.usage is not None:
            _count_tokens(lane, record.usage)
        if record.cost:
            lane.spent += record.cost
        if record.attempts:
            self._attempts(record, lane)
        if record.outcome != "complete":
            self._amendments.remember(record)
        if record.error or record.cache or record.saved or record.guards or record.flight:
            self._rare(record, lane)

    def _amend(self, record: Record) -> None:
        ended_otherwise, usage, cost = self._amendments.news(record)
        if ended_otherwise:
            self.amended[record.route or NONE, str(record.outcome)] += 1
        lane = self._lane(record)
        _count_tokens(lane, usage)
        lane.spent += cost

    def _attempts(self, record: Record, lane: Lane) -> None:
        """The provider's side: each attempt is an operation of its own; the last one lasts as long as its answer."""
        last = record.attempts[-1]
        self._attempt(last)
        if lane.model is not None:
            first = record.first_content
            rest = record.duration - first if first is not None else 0.0
            if last.kind != "ok":
                self._failed(lane.model, last.kind, last.seconds + rest)
            elif record.outcome == "upstream_interrupted":
                self._failed(lane.model, "interrupted", last.seconds + rest)
            else:
                lane.model.duration[""].observe(last.seconds + rest)
            if record.stream and last.kind == "ok":
                lane.model.first_chunk.observe(last.seconds)
            if record.usage is not None:
                lane.model.prompt.observe(record.usage.prompt)
                lane.model.completion.observe(record.usage.completion)
        if len(record.attempts) > 1:
            for attempt, following in pairwise(record.attempts):
                lane.fallbacks += attempt.deployment != following.deployment
                self._attempt(attempt)
                times = self._model_times(
                    record.endpoint, attempt.provider, self._model_label(attempt.provider, attempt.model)
                )
                self._failed(times, attempt.kind, attempt.seconds)

    def _attempt(self, attempt: Attempt) -> None:
        key = (attempt.provider, attempt.model, attempt.kind)
        if key not in self.attempts:
            key = (
                attempt.provider,
                self._model_label(attempt.provider, attempt.model),
                _one_of(self._results, attempt.kind),
            )
        self.attempts[key] += 1

    def _failed(self, times: ModelTimes, kind: str, seconds: float) -> None:
        kind = _one_of(self._results, kind)
        histogram = times.duration.get(kind)
        if histogram is None:
            histogram = times.duration[kind] = Histogram(DURATIONS)
        histogram.observe(seconds)

    def _rare(self, record: Record, lane: Lane) -> None:
        """What most calls do not have."""
        route = record.route or NONE
        if record.error:
            self.errors[route, _one_of(self._codes, record.error)] += 1
        if record.cache:
            self.cache[route, record.cache] += 1
        if record.saved:
            lane.saved += record.saved
        if record.flight:
            self.flights[record.flight,] += 1
        for verdict in record.guards:
            shadow = "true" if verdict.shadow else "false"
            self.guards[_one_of(self._guard_names, verdict.guard), verdict.side, verdict.action, shadow] += 1

    def _lane(self, record: Record) -> Lane:
        """The lane of a record that has none under its own names yet."""
        model = record.upstream_model
        if record.provider:
            model = self._model_label(record.provider, model, answered=record.status == _OK)
        key = (record.endpoint, record.route, record.provider, model)
        if key not in self.lanes and len(self.lanes) >= _LANES:
            key = (record.endpoint, OTHER, OTHER, OTHER)
        lane = self.lanes.get(key)
        if lane is None:
            route = self.routes.setdefault((key[0], key[1] or NONE), RouteTimes())
            times = self._model_times(key[0], key[2], key[3]) if key[2] else None
            lane = self.lanes[key] = Lane(route, times)
        return lane

    def _model_times(self, endpoint: str, provider: str, model: str) -> ModelTimes:
        key = (endpoint, provider, model)
        times = self.models.get(key)
        if times is None:
            times = self.models[key] = ModelTimes()
        return times

    def _model_label(self, provider: str, model: str, *, answered: bool = False) -> str:
        """The model's name if it is configured, or one of the first that a provider really has."""
        name = (provider, model)
        if name in self._configured or name in self._answered:
            return model
        if answered and len(self._answered) < _MODELS:
            self._answered.add(name)
            return model
        return OTHER


def _count_tokens(lane: Lane, usage: Usage) -> None:
    lane.prompt += usage.prompt
    lane.completion += usage.completion
    lane.cached += usage.cached
    lane.cache_write += usage.cache_write
    lane.reasoning += usage.reasoning
    lane.audio += usage.audio


def _one_of(known: set[str], name: str) -> str:
    """The name, unless there are too many different ones already."""
    if name in known:
        return name
    if len(known) >= _KINDS:
        return OTHER
    known.add(name)
    return name
