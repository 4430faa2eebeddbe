"""The load: requests, the connections that send them, and the closed and the open loop that drive those.

A closed loop keeps N calls in flight and gives capacity and CPU cost only. An open loop sends at intended times
whatever the answers do; its latencies run from the intended time, so a stall shows in every call it delayed.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

import httptools
from alarm import Alarm

_COUNTER = "000000000000"
_CONTENT = b'"content":"word'
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Request:
    """One chat call. `prompt` is the length of the user's text in bytes; `unique` makes no two calls alike."""

    name: str
    model: str = "gpt-4o"
    prompt: int = 1000
    stream: bool = False
    include_usage: bool = False
    unique: bool = True
    headers: tuple[tuple[str, str], ...] = (("authorization", "Bearer sk-bench"),)

    def halves(self) -> tuple[bytes, bytes]:
        """The bytes of the request before and after its twelve-digit counter."""
        body: dict[str, object] = {"model": self.model}
        text = (_COUNTER + " word" * (self.prompt // 5))[: max(self.prompt, len(_COUNTER))]
        body["messages"] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        body["temperature"] = 0.2
        if self.stream:
            body["stream"] = True
        if self.include_usage:
            body["stream_options"] = {"include_usage": True}
        content = json.dumps(body, separators=(",", ":")).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
        lines += [f"content-length: {len(content)}", *(f"{name}: {value}" for name, value in self.headers)]
        before, after = content.split(_COUNTER.encode(), 1)
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + before, after


@dataclass
class Tally:
    """What was seen. Times are in seconds; `firsts` run to the first event that carries content."""

    calls: int = 0
    events: int = 0
    opened: int = 0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def until(self, condition: Callable[[], bool], tick: float = 0.01) -> None:
        """Return when `condition` holds or a call has failed. Raises TimeoutError after a minute."""
        async with asyncio.timeout(60):
            while not (condition() or self.errors):  # noqa: ASYNC110  (signalling each call would load the loop)
                await asyncio.sleep(tick)

    def check(self) -> None:
        """Raise RuntimeError unless every call succeeded: a fast failure is no figure."""
        if self.errors or not (self.calls or self.events):
            raise RuntimeError(f"calls failed: {dict(self.errors) or 'no answer at all'}")


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one call in flight."""

    def __init__(self, request: Request, tally: Tally, done: Callable[["Connection"], None]) -> None:
        """`done` is called when an answer is complete, with the connection free again."""
        self._before, self._after = request.halves()
        self._unique, self._stream = request.unique, request.stream
        self._tally, self._done = tally, done
        self._busy = False
        self.closing = False

    def send(self, number: int, intended: float) -> None:
        """Send one call; its times run from `intended` (`time.perf_counter` seconds)."""
        self._intended, self._busy, self._tail, self._first, self._last = intended, True, b"", True, 0.0
        counter = f"{number:012d}" if self._unique else _COUNTER
        self._transport.write(b"".join((self._before, counter.encode(), self._after)))

    def close(self) -> None:
        """Leave at once, whatever is in flight."""
        self.closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Uvloop sets TCP_NODELAY on every stream transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls back below."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """A call cut short is an error, unless we left."""
        if not self.closing:
            self.closing = True
            self._tally.errors[f"connection lost: {exc!r}" if self._busy else "idle connection closed"] += 1

    def on_body(self, body: bytes) -> None:
        """Count events and the gaps between them."""
        self._tail = (self._tail + body)[-len(_DONE) :]
        if not self._stream:
            return
        now, tally = time.perf_counter(), self._tally
        tally.events += body.count(b"data: ")
        if self._last:
            tally.gaps.append(now - self._last)
        self._last = now
        if self._first and _CONTENT in body:
            self._first = False
            tally.opened += 1
            tally.firsts.append(now - self._intended)

    def on_message_complete(self) -> None:
        """Judge the answer and report it."""
        tally, status = self._tally, self._parser.get_status_code()
        tally.calls += 1
        tally.latencies.append(time.perf_counter() - self._intended)
        if status != 200:
            tally.errors[f"status {status}"] += 1
        elif not self._tail or (self._stream and self._tail != _DONE):
            tally.errors["incomplete answer"] += 1
        self._busy = False
        self._done(self)


class ClosedLoop:
    """`concurrency` calls in flight for as long as the context lasts.

    Calls that are all alike come without an upstream's pauses, and for them the load looks for answers all the time: to
    wake a sleeping client is work of the kernel in the server's name, which the fastest of servers never has to do.
    """

    def __init__(self, url: str, request: Request, concurrency: int, spread: float = 0.0) -> None:
        """`spread`: seconds over which the first calls start, so that paced streams do not beat as one."""
        self._url, self._request, self._concurrency, self._spread = url, request, concurrency, spread
        self._connections: list[Connection] = []
        self._number = random.randrange(10**11)  # so that no run meets another's cache entries
        self._over = False
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        """Connect and start every call."""
        loop = asyncio.get_running_loop()
        if not self._request.unique:
            self._stay_awake(loop)
        for _ in range(self._concurrency):
            _, connection = await loop.create_connection(
                lambda: Connection(self._request, self.tally, self._next), *address(self._url)
            )
            self._connections.append(connection)
        for connection in self._connections:
            self._next(connection)
            if self._spread:
                await asyncio.sleep(self._spread / self._concurrency)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; calls in flight are aborted."""
        self._over = True
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0.05)

    def _stay_awake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._over:
            loop.call_soon(self._stay_awake, loop)

    def _next(self, connection: Connection) -> None:
        if not connection.closing:
            self._number += 1
            connection.send(self._number, time.perf_counter())


async def open_loop(url: str, request: Request, times: Sequence[float]) -> Tally:
    """Send one call at each of `times` (ascending, seconds from now) and return when all are answered."""
    tally, loop = Tally(), asyncio.get_running_loop()
    start = time.perf_counter() + 0.1
    spare: list[Connection] = []
    opened: list[Connection] = []
    opening: set[asyncio.Task[None]] = set()

    async def connect(number: int, intended: float) -> None:
        _, connection = await loop.create_connection(lambda: Connection(request, tally, spare.append), *address(url))
        opened.append(connection)
        connection.send(number, intended)

    number = random.randrange(10**11)  # so that no run meets another's cache entries
    with Alarm(loop) as alarm:
        for offset in times:
            await alarm.until(start + offset)
            number += 1
            if spare:
                spare.pop().send(number, start + offset)
            else:
                task = asyncio.create_task(connect(number, start + offset))
                opening.add(task)
                task.add_done_callback(opening.discard)
    await asyncio.gather(*opening)
    await tally.until(lambda: tally.calls == len(times))
    for connection in opened:
        connection.close()
    return tally


def address(url: str) -> tuple[str, int]:
    """Host and port of `http://host:port`."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    return host, int(port)


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times of independent callers, `rate` a second; the same seed gives the same times."""
    dice, moment, times = random.Random(seed), 0.0, []
    while (moment := moment + dice.expovariate(rate)) < seconds:
        times.append(moment)
    return times
