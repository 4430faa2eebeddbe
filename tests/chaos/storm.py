"""The chaos run: random faults, killed providers, 200 clients; what they saw is judged and written down.

`make chaos` runs it. Three provider processes answer: in the first phase two of them hurt 45 % of their calls and
are killed and restarted in turn, while the third stays healthy, so that 30 % of all calls are hurt; in the second all
three hurt 30 % and are killed. Every call carries a nonce which only its own answer may hold.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
from support.live import Gateway, gateway

HURTS = "500,503,429,408,reset,fin,garbage,stall,reset-body,stall-content,cut,cut-reset,malformed,error-first,error-mid,error-200,html,json-invalid,short,empty"
ATTEMPTS = 6
SHAPES = {400, 408, 413, 422, 429, 502, 503, 504}


class Tally(msgspec.Struct):
    """What the clients of one phase saw."""

    seen: Counter[str] = msgspec.field(default_factory=Counter)
    violations: list[str] = []
    attempts: Counter[int] = msgspec.field(default_factory=Counter)
    seconds: list[float] = []


class Provider:
    """A `lockgate fake` process on a port of its own, which can be killed and comes back on the same port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and do not wait."""
        command = [sys.executable, "-m", "proxy.cli", "fake", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def config(ports: list[int], scripts: list[str]) -> dict[str, Any]:
    """Three routes, each with another provider first."""
    names = ["a", "b", "c"]
    providers = {
        name: {"kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
        for name, port in zip(names, ports, strict=True)
    }
    deployments = [{"provider": name, "model": script} for name, script in zip(names, scripts, strict=True)]
    return {
        "providers": providers,
        "routes": {f"route-{n}": {"deployments": deployments[n:] + deployments[:n]} for n in range(3)},
        "timeouts": {"connect": "1s", "first_content": "1s", "idle": "1s", "total": "2s"},
        "failover": {
            "max_attempts": ATTEMPTS,
            "deadline": "30s",
            "backoff": "50ms",
            "cooldown": {"limited": "200ms", "failing": "500ms", "minimum": 10, "window": "5s"},
        },
        "single_flight": {},
        "secrets": {"admin_key": "sk-admin"},
    }


async def phase(live: Gateway, calls: int, clients: int, seed: int) -> Tally:
    """So many calls by so many clients."""
    tally, numbers, random = Tally(), iter(range(calls)), Random(seed)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def client() -> None:
            for number in numbers:
                nonce = f"nonce {seed} {number} {random.getrandbits(64):x} end"
                began = time.monotonic()
                try:
                    await call(session, live.openai, nonce, number, tally)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                    tally.violations.append(f"{nonce}: {type(error).__name__}: {error}")
                tally.seconds.append(time.monotonic() - began)

        await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def call(session: aiohttp.ClientSession, url: str, nonce: str, number: int, tally: Tally) -> None:
    """One call, judged; every other is a stream, and the routes take turns."""
    stream, route = number % 2 == 0, number % 3
    body = {"model": f"route-{route}", "stream": stream, "messages": [{"role": "user", "content": nonce}]}
    async with session.post(f"{url}/chat/completions", json=body) as answer:
        attempts = int(answer.headers.get("x-lockgate-attempts", "0"))
        tally.attempts[attempts] += 1
        if attempts > ATTEMPTS:
            tally.violations.append(f"{nonce}: {attempts} attempts")
        if answer.status != 200:
            judge_error(answer.status, await answer.json(), nonce, tally)
        elif stream:
            judge_stream(await answer.read(), nonce, tally)
        else:
            text = (await answer.json())["choices"][0]["message"]["content"]
            judge_text(text, nonce, tally)


def judge_error(status: int, body: Any, nonce: str, tally: Tally) -> None:
    """An error has a known status and OpenAI's shape."""
    if status not in SHAPES or set(body.get("error", {})) != {"message", "type", "param", "code"}:
        tally.violations.append(f"{nonce}: error out of shape: {status} {body}")
    tally.seen[f"error {status}"] += 1


def judge_stream(raw: bytes, nonce: str, tally: Tally) -> None:
    """A stream ends with [DONE] and holds the whole text, or with one error event and no [DONE]."""
    events = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    text = ""
    for event in events:
        if event == "[DONE]":
            judge_text(text, nonce, tally)
            if event is not events[-1]:
                tally.violations.append(f"{nonce}: events after [DONE]")
            return
        chunk = json.loads(event)
        if "error" in chunk:
            tally.seen["error event"] += 1
            if event is not events[-1] or not nonce.startswith(text):
                tally.violations.append(f"{nonce}: bad error event after {text!r}")
            return
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
    tally.violations.append(f"{nonce}: a stream without end: {text!r}")


def judge_text(text: str, nonce: str, tally: Tally) -> None:
    """A success is the caller's own text, whole."""
    if text == nonce:
        tally.seen["success"] += 1
    else:
        tally.violations.append(f"{nonce}: got {text!r}")


@contextlib.asynccontextmanager
async def killing(providers: list[Provider], random: Random) -> AsyncIterator[None]:
    """Meanwhile kill one of these now and then, and let it come back a second later."""

    async def work() -> None:
        while True:
            await asyncio.sleep(random.uniform(1, 3))
            victim = random.choice(providers)
            victim.kill()
            await asyncio.sleep(1)
            victim.start()

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def answering(ports: list[int]) -> None:
    """Wait until every provider accepts."""
    for port in ports:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)


def files_of(live: Gateway) -> int:
    """Open files of the gateway, sockets included."""
    return len(list(Path(f"/proc/{live.process.pid}/fd").iterdir()))


async def both(calls: int, clients: int, seed: int) -> list[dict[str, Any]]:
    """Both phases, each on a gateway of its own."""
    results = []
    for name, rates, victims in (("one provider healthy", (0.45, 0.45, 0.0), 2), ("none healthy", (0.3, 0.3, 0.3), 3)):
        ports = free_ports(3)
        providers = [Provider(port) for port in ports]
        scripts = [
            f"echo+chunks=4+every=2ms+rate={rate}+seed={seed + n}+pick={HURTS}" if rate else "echo+chunks=4+every=2ms"
            for n, rate in enumerate(rates)
        ]
        for provider in providers:
            provider.start()
        try:
            await answering(ports)
            with tempfile.TemporaryDirectory() as folder:
                async with gateway(Path(folder), config(ports, scripts)) as live:
                    before = files_of(live)
                    began = time.monotonic()
                    async with killing(providers[:victims], Random(seed)):
                        tally = await phase(live, calls, clients, seed)
                    took = time.monotonic() - began
                    results.append(judged(name, tally, calls, took) | {"leaked_files": await leaked(live, before)})
        finally:
            for provider in providers:
                provider.kill()
    return results


async def leaked(live: Gateway, before: int) -> int:
    """Open files above those before the run, once idle upstream connections had time to close (they are swept within 60 s)."""
    for _ in range(180):
        if files_of(live) <= before + 2:
            return 0
        await asyncio.sleep(0.5)
    return files_of(live) - before


def judged(name: str, tally: Tally, calls: int, took: float) -> dict[str, Any]:
    """The phase in numbers."""
    seconds = sorted(tally.seconds)
    before_commit = calls - tally.seen["error event"]
    return {
        "phase": name,
        "calls": calls,
        "seconds": round(took, 1),
        "seen": dict(tally.seen),
        "success_before_commit": round(tally.seen["success"] / before_commit, 5),
        "violations": tally.violations[:20],
        "attempts": {str(number): count for number, count in sorted(tally.attempts.items())},
        "latency_p50_s": round(seconds[len(seconds) // 2], 3),
        "latency_p99_s": round(seconds[int(len(seconds) * 0.99)], 3),
    }


def main() -> int:
    """Run, print, write `bench/results/chaos-<date>.json`; 1 when a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-file", action="store_true")
    options = parser.parse_args()
    results = asyncio.run(both(options.calls, options.clients, options.seed))
    report = {
        "command": " ".join(["make chaos", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "phases": results,
    }
    text = json.dumps(report, indent=2)
    sys.stdout.write(text + "\n")
    if not options.no_file:
        path = Path(__file__).parents[2] / "bench" / "results" / f"chaos-{report['date']}.json"
        path.write_text(text + "\n")
    good = all(not each["violations"] and not each["leaked_files"] for each in results)
    return 0 if good and results[0]["success_before_commit"] >= 0.999 else 1


if __name__ == "__main__":
    sys.exit(main())
