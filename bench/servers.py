"""Starting and stopping what is measured: the mock upstream, the controls, and the gateway by its command line."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

import measure

ROOT = Path(__file__).parent.parent
_READY = re.compile(r"listening on (http://\S+)")
_PATIENCE = 30.0

CONTROLS = {"C1": "raw", "C2": "litestar", "C3": "relay"}

KEY = "sk-lg-" + "b" * 43
"""The virtual key that configurations with `authenticate` know."""

# Everything that is told apart from guards, whose cost grows with the text (PERFORMANCE: "all policies").
_ALL: Mapping[str, object] = {
    "record": {},
    "authenticate": {"keys": True},
    "client_limits": {"requests": "100000000/minute", "applies_to": "all"},
    "caller_limits": {"requests": "100000000/minute", "tokens": "100000000000/minute", "parallel": 1000},
    "parameters": {"temperature": [0.0, 1.0], "max_tokens": [1, 4096]},
    "single_flight": {},
    "exact_cache": {},
    "failover": {},
}
_INJECTION = {"input_guards": [{"kind": "injection", "action": "block"}]}
_SECRETS = {"output_guards": [{"kind": "secrets", "action": "redact"}]}

# What each gateway configuration adds to the common part (one provider, one route a model). A new row of the table
# that needs other policies adds its configuration here and names it as the target `gateway:<name>`.
CONFIGURATIONS: Mapping[str, Mapping[str, object]] = {
    "record": {"record": {}},
    "exact": {"record": {}, "exact_cache": {}, "failover": {}},
    "exact+flight": {"record": {}, "single_flight": {}, "exact_cache": {}, "failover": {}},
    "exact from store": {"record": {}, "exact_cache": {"memory": 1}, "failover": {}},
    "flight": {"record": {}, "single_flight": {}, "failover": {}},
    "logged": {"record": {"mlflow": ""}},
    "all": _ALL,
    "all+guard": {**_ALL, **_INJECTION},
    "all+budget": {**_ALL, "budget": {}, "prices": {"models": {"up/*": {"input": 2.5, "output": 10}}}},
    "output guard": {"record": {}, **_SECRETS},
}


class Server:
    """A process that listens; `pid` and `url` are set once it does. A context manager."""

    def __init__(
        self, command: list[str], folder: Path, core: int, *, url: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` on `core` and wait until it says `listening on URL`, or accepts connections at the `url`
        that it was given. Raises RuntimeError with its output when it does not.
        """
        self.began = time.perf_counter()
        self._log = folder / f"{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core % (os.cpu_count() or 1)), *command],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )
        self.pid = self._process.pid  # taskset becomes the command: the same process
        self.url = self._wait(url)

    def __enter__(self) -> Self:
        """Nothing more to do: it already listens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to stop, and after five seconds make it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, url: str) -> str:
        while time.perf_counter() - self.began < _PATIENCE:
            if url and _accepts(url):
                return url
            if not url and (found := _READY.search(self._log.read_text())):
                return found[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.002)
        self._process.kill()
        self._process.wait()
        raise RuntimeError(f"it does not listen:\n{self._log.read_text()[-2000:]}")


def _make_key(config: Path, budget: str) -> None:
    """Let the database of this configuration know `KEY`: one made by the command, under a secret that loads can name."""
    command = [sys.executable, "-m", "proxy.cli", "keys", "create", "--config", str(config), "--models", "*"]
    subprocess.run(
        [*command, "--name", "bench", *(["--budget", budget] if budget else [])],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    state = json.loads(config.read_text())["server"]["state_dir"]
    with contextlib.closing(sqlite3.connect(Path(state) / "lockgate.db")) as database:
        database.execute("UPDATE virtual_keys SET digest = ?", (hashlib.sha256(KEY.encode()).hexdigest(),))
        database.commit()


def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 80)) == 0


class Peer(Protocol):
    """How another gateway is started in front of an upstream."""

    def __call__(self, folder: Path, upstream: str, models: Sequence[str]) -> Server:
        """A running one. Raises RuntimeError."""
        ...


class Farm:
    """The servers of one run by target name: `direct` (the mock), `C1` to `C3`, `gateway:<configuration>`."""

    def __init__(self, models: Iterable[str], peers: Mapping[str, Peer] | None = None) -> None:
        """`models` are the names that requests use; the gateway gets a route for each. `peers` are further targets."""
        self._peers = peers or {}
        self._models = sorted(set(models))
        self._folder = tempfile.TemporaryDirectory(prefix="lockgate-bench-")
        self._running: dict[str, Server] = {}

    def __enter__(self) -> Self:
        """Start the mock upstream, on the load's core."""
        script = str(ROOT / "bench" / "upstream.py")
        self._running["direct"] = Server([sys.executable, script], Path(self._folder.name), measure.LOAD_CORE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        for server in self._running.values():
            server.__exit__(kind, error, trace)
        self._folder.cleanup()

    def get(self, target: str) -> Server:
        """The one server of this target that lasts for the run, started when first asked for."""
        if target not in self._running:
            self._running[target] = self.fresh(target)
        return self._running[target]

    def fresh(self, target: str) -> Server:
        """A new server of this target, for the caller to stop."""
        folder, upstream = Path(self._folder.name), self._running["direct"].url
        if target in self._peers:
            return self._peers[target](Path(tempfile.mkdtemp(dir=folder)), upstream, self._models)
        if target in CONTROLS:
            command = [sys.executable, str(ROOT / "bench" / "controls.py"), CONTROLS[target], "--upstream", upstream]
        else:
            config = folder / f"{time.monotonic_ns()}.yaml"
            name = target.removeprefix("gateway:")
            config.write_text(self._config(name, upstream))
            if "authenticate" in CONFIGURATIONS[name]:
                _make_key(config, budget="1000000" if "budget" in CONFIGURATIONS[name] else "")
            command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(config)]
        return Server(command, folder, measure.SERVER_CORE)

    def _config(self, name: str, upstream: str) -> str:
        state = tempfile.mkdtemp(dir=self._folder.name)
        server = {"host": "127.0.0.1", "port": 0, "state_dir": state, "drain_delay": "0s", "drain_timeout": "1s"}
        provider = {"kind": "openai", "base_url": f"{upstream}/v1", "api_key": "sk-up"}
        routes = {model: {"deployments": [{"provider": "up", "model": model}]} for model in self._models}
        common = {"server": server, "providers": {"up": provider}, "routes": routes}
        return json.dumps(common | dict(CONFIGURATIONS[name]), indent=1)  # JSON is YAML
