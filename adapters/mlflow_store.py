"""MLflow's own store on a local SQLite file, without a server. Importing this takes seconds and 200 MB: it belongs into
a process of its own, and is looked up by name there.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow.entities import Metric, RunTag, ViewType
from mlflow.entities.span import Span
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy.exc import SQLAlchemyError

from adapters.mlflow import INSTANCE_TAG, Instance, Refused, Unavailable

_SERVER_FAULT = 500
_METRICS = 900


class LocalStore:
    """Traces and metrics in `database`, which an MLflow server may read at the same time.

    The same promises as `adapters.mlflow.MLflowServer`.
    """

    def __init__(self, database: Path, artifacts: Path, experiment: str, instance: Instance) -> None:
        self._database = database
        self._artifacts = artifacts
        self._experiment = experiment
        self._instance = instance
        self._store: SqlAlchemyStore | None = None
        self._experiment_id = ""
        self._lock = threading.Lock()
        self._run = ""

    def send(self, request: ExportTraceServiceRequest) -> None:
        """See `adapters.mlflow.Traces`."""
        store = self._open()
        spans = []
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                try:
                    spans += [Span.from_otel_proto(span, resource=resource.resource) for span in scope.spans]
                except (ValueError, TypeError) as error:
                    raise Refused(str(error)) from error
        try:
            store.log_spans(self._experiment_id, spans)
        except MlflowException as error:
            raise _told(error) from error
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(str(error)[:200]) from error

    def log(self, figures: Mapping[str, float], at: float) -> None:
        """See `adapters.mlflow.Metrics`."""
        store = self._open()
        timestamp = int(at * 1000)
        metrics = [Metric(name, value, timestamp, int(at)) for name, value in figures.items()]
        try:
            self._run = self._run or self._run_of(store, timestamp)
            for first in range(0, len(metrics), _METRICS):
                store.log_batch(self._run, metrics[first : first + _METRICS], [], [])
        except MlflowException as error:
            self._run = ""
            raise Unavailable(str(error)[:200]) from error
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable(str(error)[:200]) from error

    def _run_of(self, store: SqlAlchemyStore, timestamp: int) -> str:
        mark = self._instance.mark
        asked = f"tags.{INSTANCE_TAG} = '{mark}'"
        found = store.search_runs([self._experiment_id], asked, ViewType.ACTIVE_ONLY, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = [RunTag(INSTANCE_TAG, mark), RunTag("mlflow.source.name", "lockgate")]
        return str(store.create_run(self._experiment_id, "", timestamp, tags, self._instance.name).info.run_id)

    def _open(self) -> SqlAlchemyStore:
        with self._lock:
            if self._store is None:
                try:
                    make_database(self._database, self._artifacts)
                    store = SqlAlchemyStore(f"sqlite:///{self._database}", self._artifacts.as_uri())
                    self._database.chmod(0o600)
                    _share(self._database)
                    self._experiment_id = _experiment(store, self._experiment)
                except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
                    raise Unavailable(str(error)[:200]) from error
                self._store = store
            return self._store


def make_database(database: Path, artifacts: Path) -> None:
    """Make the file where there is none, whole or not at all, whoever else is at it. Raises what MLflow raises, OSError.

    MLflow makes it in many steps, during which two trip over one another and a killed one leaves what nobody can open.
    """
    if database.exists():
        return
    with _alone(database.with_name(f"{database.name}.lock")):
        if database.exists():
            return
        fresh = database.with_name(f"{database.name}.new")
        for left in ("", "-journal", "-wal", "-shm"):
            fresh.with_name(f"{fresh.name}{left}").unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{fresh}", artifacts.as_uri()).engine.dispose()
        fresh.rename(database)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While no other process is; the system lets go for one that dies."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _experiment(store: SqlAlchemyStore, name: str) -> str:
    found = store.get_experiment_by_name(name)
    return str(found.experiment_id) if found is not None else str(store.create_experiment(name))


def _share(database: Path) -> None:
    """Readers and the writer do not wait for each other; a property of the file, kept for good."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _told(error: MlflowException) -> Exception:
    told = str(error)[:200]
    return Unavailable(told) if error.get_http_status_code() >= _SERVER_FAULT else Refused(told)
