"""A real MLflow server for tests, as an operator would run it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

_START = 90.0
_PAGE = 500


class MLflowServer:
    """Started, stopped and started again on one port and one database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises RuntimeError when it does not come up."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + _START
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise RuntimeError((self._folder / "mlflow.log").read_text(errors="replace"))

    def stop(self) -> None:
        """At once, with its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def experiment(self, name: str) -> str | None:
        """Its id, once it is there."""
        found = self._get("/api/2.0/mlflow/experiments/get-by-name", experiment_name=name)
        return str(found["experiment"]["experiment_id"]) if "experiment" in found else None

    def traces(self, experiment: str) -> list[dict[str, Any]]:
        """What is known of every trace, without its spans."""
        experiment_id = self.experiment(experiment)
        return list(self._traces(experiment_id)) if experiment_id is not None else []

    def ids(self, experiment: str) -> list[str]:
        """The calls whose traces are there."""
        return [each["trace_id"].removeprefix("tr-") for each in self.traces(experiment)]

    def _traces(self, experiment_id: str) -> Iterator[dict[str, Any]]:
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
        token = ""
        while True:
            asked = {"locations": [where], "max_results": _PAGE, **({"page_token": token} if token else {})}
            page = self._post("/api/3.0/mlflow/traces/search", asked)
            yield from page.get("traces", ())
            token = page.get("next_page_token", "")
            if not token:
                return

    def spans(self, call_id: str) -> list[dict[str, Any]]:
        """The spans of one call's trace, the root first; attributes by name."""
        found = self._get("/api/3.0/mlflow/traces/get", trace_id=f"tr-{call_id}")
        spans: list[dict[str, Any]] = found["trace"]["spans"]
        for span in spans:
            span["attributes"] = {each["key"]: _plain(each.get("value")) for each in span["attributes"]}
        return sorted(spans, key=lambda span: "parent_span_id" in span)

    def total(self, experiment: str, metric: str, view: str = "TRACES") -> float:
        """A sum over all traces, or over all `SPANS`, as MLflow's own dashboards ask for it."""
        asked = {
            "experiment_ids": [self.experiment(experiment)],
            "view_type": view,
            "metric_name": metric,
            "aggregations": [{"aggregation_type": "SUM"}],
        }
        points = self._post("/api/3.0/mlflow/traces/metrics", asked).get("data_points", [])
        return float(points[0]["values"]["SUM"]) if points else 0.0

    def runs(self, experiment: str) -> list[dict[str, float]]:
        """The last figures of every run."""
        asked = {"experiment_ids": [self.experiment(experiment)]}
        runs = self._post("/api/2.0/mlflow/runs/search", asked).get("runs", [])
        return [{each["key"]: each["value"] for each in run["data"].get("metrics", ())} for run in runs]

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        return dict(httpx.get(self.url + path, params=parameters, timeout=30).json())

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(self.url + path, json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def _plain(value: dict[str, Any] | None) -> Any:
    if not value:
        return None
    kind, inner = next(iter(value.items()))
    if kind == "kvlist_value":
        return {each["key"]: _plain(each.get("value")) for each in inner.get("values", ())}
    if kind == "array_value":
        return [_plain(each) for each in inner.get("values", ())]
    return inner
