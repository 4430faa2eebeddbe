import threading
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from adapters import shipper
from adapters.metric_shipper import MetricShipper
from adapters.mlflow import Unavailable
from proxy.call import Record, Usage
from proxy.outbox import Outbox


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper, "_BACKOFF", 0.001)
    monkeypatch.setattr(shipper, "_BACKOFF_CAP", 0.002)


def record(number: int, **members: object) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=1000.0 + number, outcome="complete", **members)  # type: ignore[arg-type]


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path, 10**8)


class Figures:
    """Takes figures, or fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.stop = threading.Event()
        self.logged: list[tuple[float, dict[str, float]]] = []
        self.stop_when_logged = False
        self._failures = failures

    def log(self, figures: Mapping[str, float], at: float) -> None:
        if self._failures:
            self._failures -= 1
            raise Unavailable("no")
        self.logged.append((at, dict(figures)))
        if self.stop_when_logged:
            self.stop.set()


def count(folder: Path, figures: Figures, now: float = 5000.0) -> MetricShipper:
    made = MetricShipper(
        "figures",
        folder,
        metrics=figures,
        interval=10.0,
        lag=lambda: 0,
        stop=figures.stop,
        now=lambda: now,
        random=Random(1),
    )
    made.run()
    return made


def test_every_record_is_in_exactly_one_interval_though_the_process_ends_in_between(
    tmp_path: Path, outbox: Outbox
) -> None:
    """Totals and cursor go together: what was not logged is counted by the next process, what was is not."""
    for number in range(25):
        outbox.write(record(number, usage=Usage(1, 2)))
    first = Figures()
    first.stop.set()
    count(tmp_path, first)
    assert [(at, each["requests"]) for at, each in first.logged] == [(1010.0, 10), (1020.0, 10), (1030.0, 5)]
    for number in range(25, 30):
        outbox.write(record(number, usage=Usage(1, 2)))
    second = Figures(failures=1)
    second.stop.set()
    count(tmp_path, second)
    assert second.logged == []
    third = Figures()
    third.stop.set()
    count(tmp_path, third)
    assert [each["requests"] for _, each in third.logged] == [5]
    assert third.logged[-1][1]["total/requests"] == 30
    assert third.logged[-1][1]["total/output_tokens"] == 60


def test_figures_wait_out_an_outage(tmp_path: Path, outbox: Outbox) -> None:
    """And are stamped with the time they are of."""
    outbox.write(record(1))
    figures = Figures(failures=3)
    figures.stop_when_logged = True
    count(tmp_path, figures)
    assert [at for at, _ in figures.logged] == [1010.0]
