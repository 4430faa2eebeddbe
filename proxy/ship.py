"""The process that ships records: `python -m proxy.ship`, started by an instance with its settings on standard input.

It ends on SIGTERM with what it can still deliver, and at once when the instance is gone, however that ended.
"""

import base64
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adapters.metric_shipper import MetricShipper
from adapters.mlflow import Collector, Instance, Metrics, MLflowServer, Traces
from adapters.otlp import encode
from adapters.shipper import Progress, TraceShipper
from adapters.shipping import FIGURES, OTLP, TRACES, Report, ShipperSettings
from adapters.transcript import Redact
from proxy.logs import LogConfig, level_named, set_up_logs
from proxy.segments import Stored
from proxy.values import Sampling

logger = logging.getLogger("lockgate.shipper")

_SQLITE = "sqlite:///"
_REPORT = 2.0
_PRESSURE = 2
"""Traces are thinned when more than this part of the outbox waits: one half."""


class Backend(Traces, Metrics, Protocol):
    """MLflow in either form."""


def main() -> int:
    """Run until told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the instance says when
    os.umask(0o077)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=ShipperSettings)
    set_up_logs(LogConfig(format=settings.log_format, level=level_named(settings.log_level)), os.environ)
    threading.excepthook = _failed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shippers = _shippers(settings, stop)
    threads = [threading.Thread(target=each.run, daemon=True) for each in shippers]
    for thread in threads:
        thread.start()
    _report(threads, [each.progress for each in shippers])
    return 0


def _end_with_parent() -> None:
    """Standard input ends when the instance does, even by kill -9: the next one starts a process of its own."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _failed(failure: threading.ExceptHookArgs) -> None:
    """What fails unforeseen ends the process, which is then started anew."""
    logger.error("shipping failed", exc_info=failure.exc_value)
    os._exit(1)


def _report(threads: Sequence[threading.Thread], progress: Sequence[Progress]) -> None:
    """Tell the instance how it goes whenever that has changed, until all threads have ended."""
    told = None
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(_REPORT / len(threads))
        report = Report(
            ok=not any(each.trouble for each in progress),
            lag=max((each.lag for each in progress), default=0),
            shipped=sum(each.shipped for each in progress),
            thinned=sum(each.thinned for each in progress),
            refused=sum(each.refused for each in progress),
            skipped=max((each.skipped for each in progress), default=0),
            trouble=next((each.trouble for each in progress if each.trouble), ""),
        )
        if report != told:
            os.write(sys.stdout.fileno(), msgspec.json.encode(report) + b"\n")
            told = report


def _shippers(settings: ShipperSettings, stop: threading.Event) -> list[TraceShipper | MetricShipper]:
    folder = Path(settings.folder)
    redact = _Redactor()
    random = Random()  # noqa: S311 - jitter, no secrets
    sampling = Sampling(settings.share, settings.per_second)

    def encoded(batch: list[Stored]) -> ExportTraceServiceRequest:
        return encode(batch, redact, {"service.instance.id": settings.instance})

    def traces(name: str, target: Traces) -> TraceShipper:
        return TraceShipper(
            name,
            folder,
            traces=target,
            encode=encoded,
            sampling=sampling,
            pressure=settings.max_size // _PRESSURE,
            stop=stop,
            random=random,
        )

    shippers: list[TraceShipper | MetricShipper] = []
    if settings.mlflow is not None:
        backend = _backend(settings.mlflow, settings)
        shippers.append(first := traces(TRACES, backend))
        shippers.append(
            MetricShipper(
                FIGURES,
                folder,
                metrics=backend,
                interval=settings.interval,
                lag=lambda: first.progress.lag,
                stop=stop,
                now=time.time,
                random=random,
            )
        )
    if settings.otlp is not None:
        shippers.append(traces(OTLP, Collector(settings.otlp, settings.otlp_headers)))
    return shippers


def _backend(url: str, settings: ShipperSettings) -> Backend:
    if url.startswith(_SQLITE):
        return _Late(Path(url.removeprefix(_SQLITE)).absolute(), settings)
    return MLflowServer(url, settings.experiment, _instance(settings), _credentials())


class _Late:
    """The local store, made when there is something to write: loading MLflow's library takes seconds and 200 MB, and
    an instance that nobody calls never needs it.
    """

    def __init__(self, database: Path, settings: ShipperSettings) -> None:
        self._database = database
        self._settings = settings
        self._made: Backend | None = None
        self._lock = threading.Lock()

    def send(self, request: ExportTraceServiceRequest) -> None:
        """See Traces."""
        self._store().send(request)

    def log(self, figures: Mapping[str, float], at: float) -> None:
        """See Metrics."""
        self._store().log(figures, at)

    def _store(self) -> Backend:
        with self._lock:
            if self._made is None:
                make = importlib.import_module("adapters.mlflow_store").LocalStore
                artifacts = self._database.parent / "mlartifacts"
                self._made = make(self._database, artifacts, self._settings.experiment, _instance(self._settings))
            return self._made


def _instance(settings: ShipperSettings) -> Instance:
    return Instance(settings.instance, settings.mark)


def _credentials() -> dict[str, str]:
    """As MLflow's own client takes them: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"authorization": f"Bearer {token}"}
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if not (name and password):
        return {}
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {encoded}"}


class _Redactor:
    """Hides everything that the guards know to be a secret or personal. Their rules are loaded with the first text:
    whether there is any to redact is each record's to say, and may change while this runs.
    """

    def __init__(self) -> None:
        self._made: Redact | None = None

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._made is None:
            self._made = _redact()
        return self._made(text)


def _redact() -> Redact:
    """Everything that the guards know to be a secret or personal; their rules are loaded only here."""
    finders = [
        importlib.import_module("policies.guards.secrets").secrets(),
        importlib.import_module("policies.guards.personal_data").personal_data(),
    ]
    redacted = importlib.import_module("policies.guards.spans").redact

    def redact(text: str) -> str:
        cleaned: str = redacted(text, [span for finder in finders for span in finder.find(text)])
        return cleaned

    return redact


if __name__ == "__main__":
    sys.exit(main())
