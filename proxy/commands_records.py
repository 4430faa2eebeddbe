"""The commands that show what was written down, from the files alone: beside a running instance and without one."""

import contextlib
import importlib
import os
import sys
import time
from pathlib import Path

import msgspec

from proxy.config import Config
from proxy.segments import Tail
from proxy.shipping import database_of

_PAUSE = 0.25
_SQLITE = "sqlite:///"


def records(config: Config, *, follow: bool) -> int:
    """Print a line of JSON for each record in the outbox, the oldest first; with `follow` until interrupted."""
    tail = Tail(Path(config.server.state_dir) / "outbox", 0)
    encode = msgspec.json.Encoder().encode
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        while True:
            batch = tail.read()
            for each in batch:
                os.write(sys.stdout.fileno(), encode(each.record) + b"\n")
            if not batch and not follow:
                break
            if not batch:
                time.sleep(_PAUSE)
    return 0


def show_mlflow(config: Config, port: int) -> int:
    """Become MLflow's server on the local store, or say where else the records go."""
    elsewhere = config.record.mlflow
    if elsewhere and not elsewhere.startswith("sqlite:"):
        print(f"records are shipped to {elsewhere}")
        return 0
    database = Path(elsewhere.removeprefix(_SQLITE)) if elsewhere else database_of(config)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.umask(0o077)
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    artifacts = database.parent / "mlartifacts"
    if not database.exists():  # a gateway that has just been started may be making it: never both
        print("making the local store", flush=True)
        os.environ.update(settings)
        importlib.import_module("adapters.mlflow_store").make_database(database, artifacts)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"{_SQLITE}{database}", "--artifacts-destination", str(artifacts)]
    print(f"MLflow on http://127.0.0.1:{port} (takes some ten seconds to start)", flush=True)
    os.execve(sys.executable, command, settings)  # noqa: S606 - a program of ours, without a shell
    return 0
