"""The scripted upstream and the gateway before it, as real processes on ports that the system chose."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]
_LISTENING = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
_START_LIMIT = 30.0
_STOP_LIMIT = 10.0


class Server(msgspec.Struct, frozen=True):
    """A process that serves HTTP."""

    root: str
    """Where its paths begin."""

    @property
    def openai(self) -> str:
        """The `base_url` of an OpenAI client."""
        return f"{self.root}/v1"


@contextmanager
def fake(folder: Path) -> Iterator[Server]:
    """`lockgate fake`: OpenAI's API answered by scripts that stand in the model name."""
    with _process(["fake", "--host", HOST, "--port", "0"], folder / "fake.log") as process:
        yield _answering(process, "/v1/models", folder / "fake.log")


@contextmanager
def gateway(folder: Path, upstream: Server, routes: Mapping[str, Any]) -> Iterator[Server]:
    """`lockgate serve` with one provider, `up`, which is `upstream` reached over HTTP."""
    config = folder / "lockgate.yaml"
    settings = {
        "server": {"host": HOST, "port": 0, "state_dir": str(folder / "state")},
        "providers": {"up": {"kind": "openai", "base_url": upstream.openai, "api_key": "sk-upstream"}},
        "routes": dict(routes),
    }
    config.write_text(yaml.safe_dump(settings))
    with _process(["serve", "--config", str(config)], folder / "gateway.log") as process:
        yield _answering(process, "/health/ready", folder / "gateway.log")


@contextmanager
def default_gateway(folder: Path) -> Iterator[Server]:
    """`lockgate serve` in an empty folder, with no configuration file and no provider's key."""
    env = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    env |= {"LOCKGATE_PORT": "0", "OLLAMA_BASE_URL": f"http://{HOST}:1/v1", "PYTHONPATH": str(ROOT)}
    with _process(["serve"], folder / "gateway.log", cwd=folder, env=env) as process:
        yield _answering(process, "/health/ready", folder / "gateway.log")


@contextmanager
def example_gateway(folder: Path, config: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    """`lockgate serve` with an example's configuration, state in `folder`, and no provider's key."""
    env = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    env |= {"LOCKGATE_PORT": "0", "LOCKGATE_STATE": str(folder / "state"), **variables}
    with _process(["serve", "--config", str(config)], folder / "gateway.log", env=env) as process:
        yield _answering(process, "/health/ready", folder / "gateway.log")


@contextmanager
def _process(
    arguments: list[str], log: Path, *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import sys; from proxy.cli import main; sys.exit(main())", *arguments]
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=env) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def _answering(process: subprocess.Popen[bytes], path: str, log: Path) -> Server:
    """Wait until the process says where it listens and answers 200 there; raises with its log when it does not."""
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        said = _LISTENING.search(log.read_text(errors="replace"))
        if said and _ok(said[1] + path):
            return Server(said[1])
        time.sleep(0.05)
    raise RuntimeError(f"no answer at {path}\n{log.read_text(errors='replace')}")


def _ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
