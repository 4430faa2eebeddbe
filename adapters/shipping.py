"""The process that ships records, seen from the one that serves: started, watched, started again, ended in time.

It is a process because what it does holds a processor for milliseconds a call, and MLflow's library some 200 MB.
"""

import asyncio
import contextlib
import logging
import sys
from typing import Literal

import msgspec

logger = logging.getLogger("lockgate")

State = Literal["ok", "degraded", "down"]

TRACES, FIGURES, OTLP = "mlflow", "mlflow-metrics", "otlp"
"""The names under which the process reads the outbox."""
_GRACE = 3.0
"""Seconds that it gets to deliver the last records when the instance ends; what is left waits for the next start."""
_AGAIN = (1.0, 30.0)
"""Seconds before it is started again, after the first end and at most."""
_STEADY = 60.0
"""Seconds after which an end counts as a first one again."""


class ShipperSettings(msgspec.Struct, frozen=True):
    """All that the process must know; given to it by its standard input, which also tells it that we are alive."""

    folder: str
    """The outbox."""
    max_size: int
    instance: str
    mark: str
    """What tells this instance from others, from start to start."""
    experiment: str
    mlflow: str | None
    """Its URL, a `sqlite:` URI, or None for none."""
    share: float = 1.0
    per_second: int | None = None
    interval: float = 30.0
    otlp: str | None = None
    otlp_headers: dict[str, str] = {}
    log_format: Literal["console", "json"] = "console"
    log_level: str = ""
    """A level's name; empty as the environment says."""


class Report(msgspec.Struct, frozen=True):
    """What the process says of itself, a line of JSON now and then."""

    ok: bool = True
    lag: int = 0
    shipped: int = 0
    thinned: int = 0
    refused: int = 0
    skipped: int = 0
    trouble: str = ""


class ShipperProcess:
    """Keeps the process running. Nothing that happens to it touches a call. `module` is what Python runs."""

    name = "mlflow"

    def __init__(self, settings: ShipperSettings, module: str) -> None:
        self._settings = msgspec.json.encode(settings) + b"\n"
        self._module = module
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._began = 0.0
        self._failures = 0
        self.report = Report()
        self.restarts = 0

    async def start(self) -> None:
        """Begin. It may take seconds until it ships; nobody waits for that."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """Let it deliver what it can within three seconds."""
        if self._keeping is None:
            return
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            logger.warning("records wait in the outbox: the shipper did not end in time")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def state(self) -> State:
        """Degraded while nothing can be delivered."""
        dead = self._process is not None and self._process.returncode is not None
        return "degraded" if dead or not self.report.ok else "ok"

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._began = loop.time()
            try:
                await self._run()
            except OSError as error:
                logger.warning("the shipper could not be started: %s", error)
            self._failures = 0 if loop.time() - self._began > _STEADY else self._failures + 1
            wait = min(_AGAIN[1], _AGAIN[0] * 2 ** min(self._failures, 10))
            logger.warning("the shipper has ended; it is started again in %.0f s", wait)
            await asyncio.sleep(wait)
            self.restarts += 1

    async def _run(self) -> None:
        """One life of the process. Raises OSError."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if process.stdin is None or process.stdout is None:
            return
        process.stdin.write(self._settings)
        while line := await process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):
                self.report = msgspec.json.decode(line, type=Report)
        await process.wait()
