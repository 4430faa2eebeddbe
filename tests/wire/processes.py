"""The scripted upstream and the gateway before it, as real processes on free ports of loopback."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

HOST = "127.0.0.1"
_START_LIMIT = 30.0
_STOP_LIMIT = 10.0


class Server(msgspec.Struct, frozen=True):
    """A process that serves HTTP."""

    port: int

    @property
    def root(self) -> str:
        """Where its paths begin."""
        return f"http://{HOST}:{self.port}"

    @property
    def openai(self) -> str:
        """The `base_url` of an OpenAI client."""
        return f"{self.root}/v1"


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def fake(folder: Path) -> Iterator[Server]:
    """`lockgate fake`: OpenAI's API answered by scripts that stand in the model name."""
    port = free_port()
    with _process(["fake", "--host", HOST, "--port", str(port)], folder / "fake.log") as process:
        yield _answering(process, port, "/v1/models", folder / "fake.log")


@contextmanager
def gateway(folder: Path, upstream: Server, routes: Mapping[str, Any]) -> Iterator[Server]:
    """`lockgate serve` with one provider, `up`, which is `upstream` reached over HTTP."""
    port = free_port()
    config = folder / "lockgate.yaml"
    settings = {
        "server": {"host": HOST, "port": port, "state_dir": str(folder / "state")},
        "providers": {"up": {"kind": "openai", "base_url": upstream.openai, "api_key": "sk-upstream"}},
        "routes": dict(routes),
    }
    config.write_text(yaml.safe_dump(settings))
    with _process(["serve", "--config", str(config)], folder / "gateway.log") as process:
        yield _answering(process, port, "/health/ready", folder / "gateway.log")


@contextmanager
def _process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import sys; from proxy.cli import main; sys.exit(main())", *arguments]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def _answering(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> Server:
    """Wait until the process answers 200; raises with its log when it ends or stays silent."""
    server = Server(port)
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(server.root + path, timeout=2) as answer:
                if answer.status == 200:
                    return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"no answer at {server.root}{path}\n{log.read_text(errors='replace')}")
