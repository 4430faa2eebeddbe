"""Takes figures from the outbox to MLflow: interval by interval, again and again until they are taken.

Blocking, for a thread of a process of its own, like `adapters.shipper`.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import msgspec

from adapters.mlflow import Metrics, Refused, Unavailable
from adapters.run_metrics import Meter
from adapters.shipper import Progress, Waits
from proxy.segments import Cursor, Tail

logger = logging.getLogger("lockgate.shipper")


class MetricShipper:
    """The figures of every interval, from all records. Totals and cursor are written together: each record counts once.

    `now` is Unix time.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        name: str,
        folder: Path,
        *,
        metrics: Metrics,
        interval: float,
        lag: Callable[[], int],
        stop: threading.Event,
        now: Callable[[], float],
        random: Random,
    ) -> None:
        self._folder = folder
        self._metrics = metrics
        self._lag = lag
        self._stop = stop
        self._now = now
        self._waits = Waits(stop, random)
        self._cursor = Cursor(folder, name)
        mark = self._cursor.load()
        self._position = mark[0] if mark else 0
        self._tail = Tail(folder, self._position)
        self._meter = Meter(interval, _note_of(mark).totals)
        self.progress = Progress(name)

    def run(self) -> None:
        """Count until told to stop."""
        while True:
            stopping = self._stop.is_set()
            batch = self._tail.read()
            for each in batch:
                if not self._meter.belongs(each.record) and not self._flush():
                    return
                self._meter.add(each.record)
                self._position = each.position
            if (stopping and not batch) or (not batch and self._meter.is_over(self._now())):
                flushed = self._flush()
                if stopping or not flushed:
                    return
            if not batch:
                self._stop.wait(1.0)

    def _flush(self) -> bool:
        """Log the interval; False when it is time to stop."""
        end = self._meter.end
        if end is None:
            return True
        at = min(end, self._now())
        figures: Mapping[str, float] = self._meter.take(self._lag())
        while True:
            try:
                self._metrics.log(figures, at)
                break
            except (Unavailable, Refused) as error:
                self.progress.trouble = str(error)[:200]
            except Exception as error:  # as in TraceShipper
                logger.exception("figures could not be logged")
                self.progress.trouble = repr(error)[:200]
            if not self._waits.once():
                return False
        self._waits.reset()
        self.progress.trouble = ""
        try:
            self._cursor.save(self._position, msgspec.json.encode(_Note(self._meter.totals)))
        except OSError as error:
            logger.warning("a cursor could not be written: %s", error)
        return True


class _Note(msgspec.Struct):
    """What stands beside the cursor of the figures."""

    totals: dict[str, int] = {}


def _note_of(mark: tuple[int, bytes] | None) -> _Note:
    if mark is None or mark[1] == b"null":
        return _Note()
    try:
        return msgspec.json.decode(mark[1], type=_Note)
    except msgspec.DecodeError:
        return _Note()
