"""Takes traces from the outbox to where they are looked at: batch by batch, again and again until they are taken.

Blocking, for threads of a process of its own. Nothing is committed before it is delivered, so after any end of this
process what was not delivered is sent again, and what was is sent at most once more, which changes nothing.
"""

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adapters.mlflow import Refused, Traces, Unavailable
from proxy.call import Record
from proxy.segments import Cursor, Stored, Tail, end_of
from proxy.values import Sampling

logger = logging.getLogger("lockgate.shipper")

Encode = Callable[[list[Stored]], ExportTraceServiceRequest]

_BATCH = 100
_BYTES = 4 * 1024 * 1024
"""Bytes of records in one batch, their texts included."""
_PATIENCE = 1.0
"""Seconds that a first record waits for others."""
_PAUSE = 0.25
_BACKOFF = 0.5
_BACKOFF_CAP = 10.0
_PROBES = 16
"""Parts of a refused batch that are tried before the server is held to be at fault and not what is sent."""
_THIN = 10
"""Under pressure one good call in so many keeps its trace."""
_REMEMBERED = 1000
_REFUSED_FILE = 16 * 1024 * 1024


class Progress(msgspec.Struct):
    """How one of them is doing; read by another thread."""

    name: str
    lag: int = 0
    """Bytes in the outbox that are not delivered."""
    shipped: int = 0
    thinned: int = 0
    """Traces left out because the outbox was filling up."""
    refused: int = 0
    skipped: int = 0
    """Bytes that were dropped before they could be read, or damaged."""
    trouble: str = ""
    """Why nothing is delivered at present."""


class Sampler:
    """Which calls get a trace: by share, by rate, and fewer of the good ones under pressure. Decides alike every time
    it is asked about the same record in the same order.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._second = 0
        self._count = 0
        self._kept: OrderedDict[str, None] = OrderedDict()

    def keeps(self, record: Record) -> bool:
        """By the configuration; of a call that is amended, as of the call."""
        if self._sampling.per_second is not None:
            if record.amended:
                return record.id in self._kept
            second = int(record.started + record.duration)
            if second != self._second:
                self._second, self._count = second, 0
            self._count += 1
            kept = self._count <= self._sampling.per_second
            if kept:
                self._kept[record.id] = None
                if len(self._kept) > _REMEMBERED:
                    self._kept.popitem(last=False)
            return kept
        return _share(record) < self._sampling.share

    @staticmethod
    def keeps_under_pressure(record: Record) -> bool:
        """What went wrong, and one in ten of the rest."""
        return record.outcome != "complete" or _share(record) < 1 / _THIN


def _share(record: Record) -> float:
    """A number from 0 to 1 that only depends on the id, evenly spread."""
    return int.from_bytes(hashlib.blake2b(record.id.encode(), digest_size=7).digest()) / 2**56


class TraceShipper:
    """One destination of traces. `pressure` is how many bytes may wait before fewer are sent."""

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        name: str,
        folder: Path,
        *,
        traces: Traces,
        encode: Encode,
        sampling: Sampling,
        pressure: int,
        stop: threading.Event,
        random: Random,
    ) -> None:
        self._folder = folder
        self._traces = traces
        self._encode = encode
        self._sampler = Sampler(sampling)
        self._pressure = pressure
        self._stop = stop
        self._waits = Waits(stop, random)
        self._cursor = Cursor(folder, name)
        mark = self._cursor.load()
        self._tail = Tail(folder, mark[0] if mark else 0)
        self._refused = folder / f"{name}.refused.jsonl"
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self.progress = Progress(name)

    def run(self) -> None:
        """Ship until told to stop; then what is there, if the destination takes it at once."""
        while True:
            stopping = self._stop.is_set()
            batch = self._gather()
            if batch and not self._deliver(batch):
                return
            if stopping and not batch:
                return
            if not batch:
                self._stop.wait(_PAUSE)

    def _gather(self) -> list[Stored]:
        batch = self._tail.read(_BATCH)
        waited = self._stop.is_set()
        while batch and _room(batch):
            more = self._tail.read(_room(batch))
            if not more and waited:
                break
            if not more:
                self._stop.wait(_PATIENCE)
                waited = True
            batch += more
        self.progress.lag = max(0, end_of(self._folder) - (batch[0].position if batch else self._tail.position))
        self.progress.skipped = self._tail.skipped
        return batch

    def _deliver(self, batch: list[Stored]) -> bool:
        """Whether it is out of the way; False when it is time to stop."""
        chosen = self._chosen(batch)
        while chosen:
            try:
                request, chosen = self._encoded(chosen)
                self._send(request, chosen)
                break
            except Unavailable as error:
                self._trouble(str(error))
            except (
                Exception
            ) as error:  # whatever it is, shipping goes on: nothing is lost as long as it is not committed
                logger.exception("a batch could not be shipped")
                self._trouble(repr(error))
            if not self._waits.once():
                return False
            # what has come meanwhile goes along: only beside one that is taken is it plain that a record is at fault
            more = self._tail.read(_room(batch)) if _room(batch) else []
            batch += more
            chosen = _latest([*chosen, *self._chosen(more)])
        self._waits.reset()
        self.progress.trouble = ""
        self.progress.shipped += len(chosen)
        self._commit(batch[-1].position)
        return True

    def _commit(self, position: int) -> None:
        try:
            self._cursor.save(position)
        except OSError as error:
            logger.warning("a cursor could not be written: %s", error)
        self.progress.lag = max(0, end_of(self._folder) - position)

    def _trouble(self, why: str) -> None:
        if not self.progress.trouble:
            logger.warning("%s: not delivered, records wait on disk: %s", self.progress.name, why)
        self.progress.trouble = why[:200]

    def _chosen(self, batch: list[Stored]) -> list[Stored]:
        """One for each call that gets a trace: the later of two, with the texts of either."""
        pressed = self.progress.lag > self._pressure
        chosen = []
        for each in batch:
            record = each.record
            if not self._sampler.keeps(record):
                continue
            if pressed and not Sampler.keeps_under_pressure(record):
                self.progress.thinned += 1
                continue
            texts = each.texts or (self._texts.get(record.id, b"") if record.amended else b"")
            if texts and record.outcome == "client_disconnect":
                self._remember(record.id, texts)
            chosen.append(each._replace(texts=texts))
        return _latest(chosen)

    def _remember(self, call_id: str, texts: bytes) -> None:
        self._texts[call_id] = texts
        if len(self._texts) > _REMEMBERED:
            self._texts.popitem(last=False)

    def _encoded(self, batch: list[Stored]) -> tuple[ExportTraceServiceRequest, list[Stored]]:
        """A request of these, and which they are: what no trace can be made of is set aside, and holds nobody up."""
        try:
            return self._encode(batch), batch
        except Exception:  # a record of ours is at fault, whatever it is, and never the destination
            logger.exception("a trace could not be made")
        fit = [fitting for each in batch if (fitting := self._fitting(each)) is not None]
        return self._encode(fit), fit

    def _fitting(self, stored: Stored) -> Stored | None:
        """The record as a trace can be made of it: with its texts, without them, or not at all."""
        why = ""
        for each in (stored, stored._replace(texts=b"")):
            try:
                self._encode([each])
            except Exception as error:  # noqa: BLE001 - as above; it is told with the record
                why = repr(error)
            else:
                return each
        self._set_aside(stored.record, why)
        return None

    def _send(self, request: ExportTraceServiceRequest, batch: list[Stored]) -> None:
        if not batch:
            return
        try:
            self._traces.send(request)
        except Refused as error:
            self._bisect(batch, error)

    def _bisect(self, batch: list[Stored], refusal: Refused) -> None:
        """Find what is refused and set it aside, but only when its neighbours are taken: else the server is at fault."""
        parts, outcasts, taken, tries = _halves(batch), [], 0, 0
        while parts:
            part = parts.pop()
            if not taken and tries >= _PROBES:
                break
            tries += 1
            try:
                self._traces.send(self._encode(part))
                taken += len(part)
            except Refused as error:
                if len(part) == 1:
                    outcasts.append((part[0], str(error)))
                else:
                    parts += _halves(part)
        if not taken:
            raise Unavailable(f"everything is refused: {refusal}") from refusal
        for each, why in outcasts:
            self._set_aside(each.record, why)

    def _set_aside(self, record: Record, why: str) -> None:
        """A record that will never be a trace there, for people to look at: without its texts."""
        self.progress.refused += 1
        logger.error("%s gets no trace of call %s: %s", self.progress.name, record.id, why)
        line = json.dumps({"why": why, "record": msgspec.to_builtins(record)}).encode() + b"\n"
        try:
            descriptor = os.open(self._refused, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size < _REFUSED_FILE:
                    os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            logger.warning("what is refused could not be set aside: %s", error)


def _room(batch: list[Stored]) -> int:
    """How many records may still come to a batch."""
    return 0 if sum(len(each.texts) for each in batch) >= _BYTES else _BATCH - len(batch)


def _latest(records: list[Stored]) -> list[Stored]:
    """One for each call, the last."""
    return list({each.record.id: each for each in records}.values())


def _halves(batch: list[Stored]) -> list[list[Stored]]:
    middle = len(batch) // 2
    return [half for half in (batch[:middle], batch[middle:]) if half]


class Waits:
    """Pauses that grow while nothing works."""

    def __init__(self, stop: threading.Event, random: Random) -> None:
        self._stop = stop
        self._random = random
        self._failures = 0

    def once(self) -> bool:
        """Wait; False when it is time to stop."""
        most = min(_BACKOFF_CAP, _BACKOFF * 2**self._failures)
        self._failures += 1
        return not self._stop.wait(self._random.uniform(most / 2, most))

    def reset(self) -> None:
        """It works again."""
        self._failures = 0
