"""CPU of the upstream side alone: our two transports against a plain aiohttp session, in this process.

    python bench/transport.py

Microseconds of this process's CPU for one whole call of about 1 kB each way (one at a time, and 32 at once) and for one
streamed event 20 ms apart on 64 streams; medians of five interleaved rounds. The upstream is `bench/upstream.py`.
Prints the table and keeps it in `bench/results/transport.json`.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvloop

from adapters.network import tls_context
from adapters.transport import Request, Transport
from adapters.transport_aiohttp import AiohttpTransport
from adapters.transport_httpx import HttpxTransport

HERE = Path(__file__).parent
ROUNDS = 5
CALLS = 2000
EVENTS = 50
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-bench", "accept": "application/json"}
MESSAGES = [{"role": "user", "content": "word " * 180}]
WHOLE = json.dumps({"model": "gpt-4o", "messages": MESSAGES}).encode()
STREAM = json.dumps({"model": f"stream-{EVENTS}-20ms", "stream": True, "messages": MESSAGES}).encode()

Call = Callable[[bytes], Awaitable[None]]


def through(transport: Transport, url: str) -> Call:
    """A call over the seam, read to its end."""

    async def call(body: bytes) -> None:
        if body is WHOLE:
            await transport.send(Request(url, HEADERS, body, total=590.0))
            return
        opened = await transport.stream(Request(url, HEADERS, body))
        while await opened.read():
            pass

    return call


def plain(session: aiohttp.ClientSession, url: str) -> Call:
    """The control: what a careful user of aiohttp writes."""

    async def call(body: bytes) -> None:
        async with session.post(url, data=body, headers=HEADERS, allow_redirects=False) as answer:
            if body is WHOLE:
                await answer.read()
            else:
                while await answer.content.readany():
                    pass

    return call


async def cost(call: Call, body: bytes, calls: int, at_once: int) -> float:
    """Microseconds of CPU a call."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call(body)

    start = time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.process_time() - start) / calls * 1e6


async def measure(url: str) -> dict[str, dict[str, float]]:
    tls = tls_context()
    ours, httpx = AiohttpTransport(tls, agent="bench"), HttpxTransport(tls, agent="bench")
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=590.0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, auto_decompress=False, timeout=timeout
    ) as session:
        calls = {"aiohttp session": plain(session, url), "aiohttp": through(ours, url), "httpx": through(httpx, url)}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                took = {
                    "call, one at a time": await cost(call, WHOLE, CALLS, 1),
                    "call, 32 at once": await cost(call, WHOLE, CALLS, 32),
                    "event, 64 streams": await cost(call, STREAM, 64, 64) / EVENTS,
                }
                for what, value in took.items():
                    found[name].setdefault(what, []).append(value)
    await ours.aclose()
    await httpx.aclose()
    return {
        name: {what: round(statistics.median(each), 1) for what, each in rows.items()} for name, rows in found.items()
    }


def main() -> None:
    upstream = subprocess.Popen([sys.executable, HERE / "upstream.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert upstream.stdout is not None
        address = upstream.stdout.readline().rpartition(" ")[2].strip()
        found = uvloop.run(measure(f"{address}/v1/chat/completions"))
    finally:
        upstream.terminate()
        upstream.wait()
    for name, rows in found.items():
        print(f"{name:16}", "  ".join(f"{what}: {value} µs" for what, value in rows.items()))
    kept = {"command": "python bench/transport.py", "unit": "microseconds of CPU", "results": found}
    (HERE / "results" / "transport.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
