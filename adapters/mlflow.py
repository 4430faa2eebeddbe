"""MLflow over its REST API: traces by OTLP, metrics of one run. Knows nothing of MLflow's own library.

Blocking: it belongs into a process of its own. Sources: mlflow 3.17, `server/otel_api.py` and the REST API's pages.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TIMEOUT = httpx.Timeout(30.0, connect=3.0)
_OK = range(200, 300)
_CONTENT = frozenset({400, 413, 422})
"""Statuses that can be the fault of what is sent. Others are the server's state, or the operator's to mend."""
_MISSING = 404
_PROTOBUF = {"content-type": "application/x-protobuf"}
_METRICS = 900
"""MLflow takes a thousand in one request."""


INSTANCE_TAG = "lockgate_instance"


class Instance(NamedTuple):
    """Who ships: a name for people, and a mark that it keeps from start to start."""

    name: str
    mark: str


class Refused(Exception):
    """Something in the batch cannot be taken, now or later."""


class Unavailable(Exception):
    """Not now: later perhaps."""


class Traces(Protocol):
    """Where traces go. Sending the same one again changes nothing."""

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Deliver all of it, or nothing. Raises Refused, Unavailable."""
        ...


class Metrics(Protocol):
    """Where the figures of this instance go."""

    def log(self, figures: Mapping[str, float], at: float) -> None:
        """Deliver all of them for this Unix time. Raises Refused, Unavailable."""
        ...


class Collector:
    """Any server that takes OTLP over HTTP. `url` is the whole address, `/v1/traces` included."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._client = httpx.Client(timeout=_TIMEOUT, headers={**headers, **_PROTOBUF})

    def send(self, request: ExportTraceServiceRequest) -> None:
        """See Traces."""
        _checked(_asked(self._client, "POST", self._url, content=request.SerializeToString()))


class MLflowServer:
    """An MLflow tracking server. Makes the experiment, and the run of this instance, when they are not there."""

    def __init__(self, url: str, experiment: str, instance: Instance, headers: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._experiment = experiment
        self._experiment_id = ""
        self._instance = instance
        self._client = httpx.Client(timeout=_TIMEOUT, headers=dict(headers))
        self._run = ""

    def send(self, request: ExportTraceServiceRequest) -> None:
        """See Traces."""
        headers = {**_PROTOBUF, "x-mlflow-experiment-id": self._experiment_of()}
        answer = _asked(
            self._client, "POST", f"{self._url}/v1/traces", content=request.SerializeToString(), headers=headers
        )
        if answer.status_code == _MISSING:  # the experiment is gone: made again next time
            self._experiment_id = ""
        _checked(answer)

    def log(self, figures: Mapping[str, float], at: float) -> None:
        """See Metrics."""
        run = self._run = self._run or self._run_of(at)
        timestamp = int(at * 1000)
        metrics = [{"key": name, "value": value, "timestamp": timestamp, "step": int(at)} for name, value in figures.items()]  # fmt: skip
        for first in range(0, len(metrics), _METRICS):
            batch = {"run_id": run, "metrics": metrics[first : first + _METRICS]}
            answer = _asked(self._client, "POST", f"{self._url}/api/2.0/mlflow/runs/log-batch", json=batch)
            if answer.status_code == _MISSING:  # the run is gone: another is begun next time
                self._run = ""
            _checked(answer)

    def _run_of(self, at: float) -> str:
        """The run that an earlier process of this instance made, or a new one."""
        experiment, mark = self._experiment_of(), self._instance.mark
        asked = {"experiment_ids": [experiment], "filter": f"tags.{INSTANCE_TAG} = '{mark}'", "max_results": 1}
        found = self._call("POST", "runs/search", json=asked).get("runs") or []
        if not found:
            tags = [{"key": INSTANCE_TAG, "value": mark}, {"key": "mlflow.source.name", "value": "lockgate"}]
            new = {"experiment_id": experiment, "run_name": self._instance.name, "start_time": int(at * 1000)}
            found = [self._call("POST", "runs/create", json={**new, "tags": tags})["run"]]
        return str(found[0]["info"]["run_id"])

    def _experiment_of(self) -> str:
        if not self._experiment_id:
            url = f"{self._url}/api/2.0/mlflow/experiments/get-by-name"
            answer = _asked(self._client, "GET", url, params={"experiment_name": self._experiment})
            if answer.status_code == _MISSING:
                made = self._call("POST", "experiments/create", json={"name": self._experiment})
                self._experiment_id = str(made["experiment_id"])
            else:
                _checked(answer)
                self._experiment_id = str(_json(answer)["experiment"]["experiment_id"])
        return self._experiment_id

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = _asked(self._client, method, f"{self._url}/api/2.0/mlflow/{path}", **options)
        if answer.status_code not in _OK:  # whatever it is, no record is at fault
            raise Unavailable(f"{path}: {answer.status_code} {answer.text[:200]}")
        return _json(answer)


def _asked(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    try:
        return client.request(method, url, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found: dict[str, Any] = answer.json()
    except ValueError:
        raise Unavailable("the answer is not MLflow's") from None
    return found


def _checked(answer: httpx.Response) -> None:
    if answer.status_code in _OK:
        return
    told = f"{answer.status_code} {answer.text[:200]}"
    raise Refused(told) if answer.status_code in _CONTENT else Unavailable(told)
