"""The real thing for tests: a gateway process on a port the system chose, and the scripted upstream beside it."""

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from support.http import Connection
from support.prometheus import read

from adapters.fake_server import FakeServer, serve

_START = 30.0
_STOP = 15.0


class Gateway:
    """A running gateway: its URL, its process and its state folder."""

    def __init__(self, url: str, process: asyncio.subprocess.Process, state: Path) -> None:
        self.url = url
        self.openai = f"{url}/v1"
        self.process = process
        self.state = state


async def count_tasks(gate: Gateway, admin_key: str) -> int:
    """The tasks of the gateway's loop, as it tells its scrapers; that of this very scrape is among them."""
    async with Connection(gate.url) as wire:
        answer = await wire.request("GET", "/metrics", b"", authorization=f"Bearer {admin_key}")
    return int(read(answer.body.decode())["lockgate_tasks"][0].value)


async def settled_tasks(gate: Gateway, admin_key: str, most: int, patience: float) -> int:
    """Its tasks as soon as there are no more than `most`, or how many there are after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        left = await count_tasks(gate, admin_key)
        if left <= most or time.monotonic() > end:
            return left
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def gateway(folder: Path, config: Mapping[str, Any]) -> AsyncIterator[Gateway]:
    """`lockgate serve` with this configuration; port and state folder are set here."""
    state = folder / "state"
    server = {"port": 0, "state_dir": str(state), "drain_delay": "0s", "drain_timeout": "5s"}
    full = {**config, "server": {**server, **config.get("server", {})}}
    path = folder / "lockgate.yaml"
    path.write_text(yaml.safe_dump(full))
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(path)]
    with (folder / "gateway.err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
    try:
        yield Gateway(await _url(process, folder), process, state)
    finally:
        await _stop(process)


@contextlib.asynccontextmanager
async def upstream(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[FakeServer, str]]:
    """The scripted provider on this loop, and the `base_url` that reaches it."""
    server, port = await serve(tls=tls)
    try:
        yield server, f"http{'s' if tls else ''}://127.0.0.1:{port}/v1"
    finally:
        await server.aclose()


async def _url(process: asyncio.subprocess.Process, folder: Path) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(_START):
        while line := await process.stdout.readline():
            if line.startswith(b"listening on "):
                return line.split()[2].decode()
    raise RuntimeError((folder / "gateway.err").read_text(errors="replace"))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
