"""The fake provider in process: a `Transport` whose upstream is the script engine, without a socket."""

import asyncio
from collections.abc import Iterator, Mapping

from adapters.fake import Engine
from adapters.fake_steps import Broken, Pause, Scripted, Step
from adapters.transport import Answer, Fault, Opened, Request, TransportError

_FAULTS: dict[Broken, Fault] = {
    "refuse": "connect",
    "dns": "dns",
    "tls": "tls",
    "connect-timeout": "connect_timeout",
    "garbage": "protocol",
    "reset": "reset",
    "fin": "reset",
}


class FakeTransport:
    """A `Transport` over a script engine; what breaks in a script is raised as TransportError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def send(self, request: Request) -> Answer:
        """Play the whole answer. Raises TransportError."""
        try:
            async with asyncio.timeout(request.total):
                opened = await self._open(request)
                parts: list[bytes] = []
                while data := await opened.read():
                    parts.append(data)
                    if sum(map(len, parts)) > request.limit:
                        raise TransportError("too_large", f"more than {request.limit} bytes")
        except TimeoutError:
            raise TransportError("timeout", "the script takes longer") from None
        return Answer(opened.status, opened.headers, b"".join(parts))

    async def stream(self, request: Request) -> Opened:
        """Play up to the head. Raises TransportError."""
        try:
            async with asyncio.timeout(request.total):
                return await self._open(request)
        except TimeoutError:
            raise TransportError("timeout", "the script takes longer") from None

    async def aclose(self) -> None:
        """There is no connection to close."""

    async def _open(self, request: Request) -> "_FakeOpened":
        scripted = self._engine.answer(request.method, request.url, request.headers, request.body)
        for step in scripted.before:
            await _play(step)
        return _FakeOpened(scripted)


class _FakeOpened:
    """See `Opened`."""

    def __init__(self, scripted: Scripted) -> None:
        self.status = scripted.status
        self._headers = scripted.headers
        self._length = scripted.length
        self._steps: Iterator[Step] = iter(scripted.body)

    @property
    def headers(self) -> Mapping[str, str]:
        return self._headers

    async def read(self) -> bytes:
        for step in self._steps:
            if data := await _play(step):
                return data
        return b""

    def close(self) -> None:
        self._steps = iter(())


async def _play(step: Step) -> bytes:
    if isinstance(step, bytes):
        return step
    if isinstance(step, Pause):
        await asyncio.sleep(step.seconds)
        return b""
    if step.how == "stall":
        await asyncio.Event().wait()
    raise TransportError(_FAULTS[step.how], "as the script says")
