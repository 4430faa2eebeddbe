import json
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adapters import shipper
from adapters.mlflow import Refused, Unavailable
from adapters.otlp import encode
from adapters.shipper import Sampler, TraceShipper
from proxy.call import Record
from proxy.outbox import Outbox
from proxy.segments import Cursor, Stored, Texts
from proxy.values import Sampling


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper, "_PATIENCE", 0.0)
    monkeypatch.setattr(shipper, "_PAUSE", 0.0)
    monkeypatch.setattr(shipper, "_BACKOFF", 0.001)
    monkeypatch.setattr(shipper, "_BACKOFF_CAP", 0.002)


def record(number: int, **members: object) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=1000.0 + number, outcome="complete", **members)  # type: ignore[arg-type]


Answer = Callable[[list[int]], None]


class Target:
    """Takes traces, or does not, as a function says; ends the shipping once `until` are there or were tried."""

    def __init__(self, answer: Answer = lambda _ids: None, *, until: int = 0, tries: int = 10_000) -> None:
        self.stop = threading.Event()
        self.got: list[int] = []
        self.texts: dict[int, str] = {}
        self.requests: list[list[int]] = []
        self._answer = answer
        self._until = until
        self._tries = tries

    def send(self, request: ExportTraceServiceRequest) -> None:
        spans = [span for span in request.resource_spans[0].scope_spans[0].spans if not span.parent_span_id]
        ids = [int(span.trace_id.hex(), 16) for span in spans]
        self.requests.append(ids)
        if len(self.requests) >= self._tries:
            self.stop.set()
        self._answer(ids)
        self.got += ids
        for span in spans:
            said = {each.key: each.value.string_value for each in span.attributes}
            self.texts[int(span.trace_id.hex(), 16)] = said.get("mlflow.spanInputs", "")
        if len(set(self.got)) >= self._until:
            self.stop.set()


def plainly(batch: list[Stored]) -> ExportTraceServiceRequest:
    return encode(batch, str, {})


def ship(
    folder: Path,
    target: Target,
    sampling: Sampling | None = None,
    pressure: int = 10**9,
    encoded: shipper.Encode = plainly,
) -> TraceShipper:
    made = TraceShipper(
        "mlflow",
        folder,
        traces=target,
        encode=encoded,
        sampling=sampling or Sampling(),
        pressure=pressure,
        stop=target.stop,
        random=Random(1),
    )
    made.run()
    return made


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path, 10**8)


def fill(outbox: Outbox, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        outbox.write(record(number))


def position(folder: Path) -> int:
    mark = Cursor(folder, "mlflow").load()
    return mark[0] if mark else 0


def test_everything_is_shipped_in_batches_and_then_committed(tmp_path: Path, outbox: Outbox) -> None:
    """A hundred at a time, in order."""
    fill(outbox, 250)
    target = Target(until=250)
    made = ship(tmp_path, target)
    assert target.got == list(range(250))
    assert [len(ids) for ids in target.requests] == [100, 100, 50]
    assert position(tmp_path) == outbox.end
    assert (made.progress.shipped, made.progress.lag, made.progress.trouble) == (250, 0, "")


def test_what_could_not_be_delivered_comes_again_until_it_is(tmp_path: Path, outbox: Outbox) -> None:
    """An outage loses nothing, and says why meanwhile."""
    fill(outbox, 5)
    failures = iter(range(7))
    trouble = []

    def answer(_ids: list[int]) -> None:
        if next(failures, None) is not None:
            raise Unavailable("connection refused")
        trouble.append(True)

    target = Target(answer, until=5)
    ship(tmp_path, target)
    assert len(target.requests) == 8
    assert target.got == list(range(5))


def test_nothing_is_committed_that_was_not_delivered(tmp_path: Path, outbox: Outbox) -> None:
    """The next process sends it."""
    fill(outbox, 5)

    def refuse(_ids: list[int]) -> None:
        raise Unavailable("no")

    made = ship(tmp_path, Target(refuse, tries=3))
    assert position(tmp_path) == 0
    assert made.progress.trouble == "no"
    target = Target(until=5)
    ship(tmp_path, target)
    assert target.got == list(range(5))


def test_an_unforeseen_failure_of_a_batch_is_an_outage_like_any(tmp_path: Path, outbox: Outbox) -> None:
    """Shipping goes on."""
    fill(outbox, 2)
    failures = iter([ValueError("bug")])

    def answer(_ids: list[int]) -> None:
        for failure in failures:
            raise failure

    target = Target(answer, until=2)
    ship(tmp_path, target)
    assert target.got == [0, 1]


@pytest.mark.parametrize("poison", [{3}, {0, 99}, {40, 41, 42}])
def test_what_is_refused_beside_neighbours_that_are_taken_is_set_aside(
    tmp_path: Path, outbox: Outbox, poison: set[int]
) -> None:
    """All others arrive; the file says which and why, without texts."""
    fill(outbox, 99)
    outbox.append(record(99), Texts("full", b"told in confidence").encode())

    def answer(ids: list[int]) -> None:
        if poison & set(ids):
            raise Refused("422 bad span")

    target = Target(answer, until=100 - len(poison))
    made = ship(tmp_path, target)
    assert sorted(target.got) == sorted(set(range(100)) - poison)
    assert made.progress.refused == len(poison)
    path = tmp_path / "mlflow.refused.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {int(line["record"]["id"], 16) for line in lines} == poison
    assert {line["why"] for line in lines} == {"422 bad span"}
    assert "confidence" not in path.read_text()


def test_a_record_that_no_trace_can_be_made_of_holds_nobody_up(tmp_path: Path, outbox: Outbox) -> None:
    """It is shipped without its texts where they are at fault, and set aside where it is itself; once, through an outage."""
    for number in range(6):
        outbox.append(record(number), Texts("full", b"hello %d" % number).encode())
    failures = iter(range(2))

    def answer(_ids: list[int]) -> None:
        if next(failures, None) is not None:
            raise Unavailable("connection refused")

    def delicate(batch: list[Stored]) -> ExportTraceServiceRequest:
        for each in batch:
            if each.record.id.endswith("3") or (each.record.id.endswith("2") and each.texts):
                raise RecursionError
        return encode(batch, str, {})

    target = Target(answer, until=5)
    made = ship(tmp_path, target, encoded=delicate)
    assert target.got == [0, 1, 2, 4, 5]
    assert (target.texts[1], target.texts[2]) == ("hello 1", "")
    assert position(tmp_path) == outbox.end
    assert (made.progress.shipped, made.progress.refused, made.progress.trouble) == (5, 1, "")
    (aside,) = (tmp_path / "mlflow.refused.jsonl").read_text().splitlines()
    assert (json.loads(aside)["record"]["id"], json.loads(aside)["why"]) == (f"{3:032x}", "RecursionError()")


def test_a_record_that_is_refused_alone_waits_for_a_neighbour_and_no_longer(tmp_path: Path, outbox: Outbox) -> None:
    """It is set aside as soon as another call is over, and does not hold up those that follow."""
    fill(outbox, 1)

    def answer(ids: list[int]) -> None:
        if 0 in ids:
            if len(target.requests) == 3:
                fill(outbox, 2, first=1)
            raise Refused("422 bad span")

    target = Target(answer, until=2, tries=50)
    made = ship(tmp_path, target)
    assert sorted(target.got) == [1, 2]
    assert (made.progress.refused, made.progress.trouble) == (1, "")
    assert position(tmp_path) == outbox.end


def test_a_server_that_refuses_everything_is_at_fault_itself(tmp_path: Path, outbox: Outbox) -> None:
    """Nothing is set aside, and soon no more is tried: it waits like an outage."""
    fill(outbox, 100)

    def answer(_ids: list[int]) -> None:
        raise Refused("422 the database is locked")

    target = Target(answer, tries=40)
    made = ship(tmp_path, target)
    assert made.progress.refused == 0
    assert "everything is refused" in made.progress.trouble
    assert position(tmp_path) == 0


def test_of_two_records_of_a_call_the_later_is_shipped_with_the_texts_of_either(tmp_path: Path, outbox: Outbox) -> None:
    """In one batch, and also when they are apart."""
    outbox.append(record(1), Texts("full", b"first").encode())
    outbox.write(record(1, status=200, amended=True))
    left = record(2)
    left.outcome = "client_disconnect"
    outbox.append(left, Texts("full", b"second").encode())
    fill(outbox, 100, first=10)
    left.amended = True
    outbox.write(left)
    target = Target(until=102, tries=2)
    ship(tmp_path, target)
    assert target.got.count(1) == 1
    assert target.got.count(2) == 2
    assert target.texts[2] == "second"


def test_a_share_is_the_same_calls_every_time(tmp_path: Path) -> None:
    """About as many as it says."""
    first, again = Sampler(Sampling(0.2)), Sampler(Sampling(0.2))
    kept = [number for number in range(5000) if first.keeps(record(number))]
    assert 900 < len(kept) < 1100
    assert kept == [number for number in range(5000) if again.keeps(record(number))]
    assert not any(Sampler(Sampling(0.0)).keeps(record(number)) for number in range(100))
    assert all(Sampler(Sampling(1.0)).keeps(record(number)) for number in range(100))


def test_a_rate_bounds_each_second() -> None:
    """By when the calls ended, not by when they are shipped."""
    sampler = Sampler(Sampling(per_second=3))
    ended = [1000.0, 1000.1, 1000.2, 1000.3, 1000.9, 1001.0, 1001.5]
    kept = [sampler.keeps(Record(id="0" * 32, endpoint="chat", started=each)) for each in ended]
    assert kept == [True, True, True, False, False, True, True]


def test_a_rate_counts_a_call_once_however_often_it_is_amended() -> None:
    """What is known later goes where the call went."""
    sampler = Sampler(Sampling(per_second=2))

    def told(number: int, *, amended: bool = False) -> bool:
        return sampler.keeps(Record(id=f"{number:032x}", endpoint="chat", started=1000.0, amended=amended))

    assert [told(1), told(1, amended=True), told(2), told(3)] == [True, True, True, False]
    assert (told(2, amended=True), told(3, amended=True)) == (True, False)


def test_under_pressure_errors_and_a_tenth_of_the_rest_are_kept(tmp_path: Path, outbox: Outbox) -> None:
    """Better than losing the oldest unseen; what is left out is counted."""
    for number in range(400):
        each = record(number)
        each.outcome = "error" if number % 10 == 0 else "complete"
        outbox.write(each)
    target = Target(tries=4)
    made = ship(tmp_path, target, pressure=0)
    got = set(target.got)
    assert set(range(0, 400, 10)) <= got
    assert 40 < len(got) < 120
    assert made.progress.thinned == 400 - len(got)
