"""How long the exact cache on the embedded store holds the loop at a time, under a steady load of misses and hits.

    python bench/stalls.py [--seconds 20] [--rate 300]

Each call is a miss that is stored (1 kB) and a hit from the store; every second a streamed answer of 2,000 events is
stored as well, and every five seconds entries of one route are cleared. A task that wants to run each millisecond says
how late it was; the control is the same load without the cache. Changes of a shard are counted apart.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import measure
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from calls import a_call, request

from adapters.qdrant import Collection
from policies.cache_kept import Counts, ExactKept, Served
from policies.cache_memory import Memory
from policies.cache_writer import CacheWriter
from policies.exact_cache import ExactCache, ExactCacheConfig
from proxy.call import Call
from proxy.chain import Handler, chain
from proxy.config import Qdrant
from proxy.entries import EVERYTHING, Entry, Selection
from proxy.reply import Reply
from proxy.sse import DONE_ITEM, frame

_HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_WHOLE = json.dumps(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 150}, "finish_reason": "stop"}],
    }
).encode()


def _event(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return frame(json.dumps({**_HEAD, "choices": [choice]}).encode())


_EVENTS = [_event({"role": "assistant", "content": ""}), *[_event({"content": "word "})] * 2000, _event({}, "stop")]


async def _streamed() -> AsyncIterator[bytes]:
    for number, item in enumerate([*_EVENTS, DONE_ITEM]):
        yield item
        if number % 50 == 0:
            await asyncio.sleep(0)


async def _upstream(call: Call) -> Reply:
    return Reply(_streamed(), streaming=True) if call.head.stream else Reply.whole(_WHOLE)


class _Watch:
    """Lateness of a task that sleeps a millisecond, in milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []

    async def run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.late.append((time.perf_counter() - began) * 1000 - 1)


async def _load(handler: Handler, kept: ExactKept | None, seconds: float, rate: float) -> None:
    call = a_call(request(1000))
    stream = call.replace(head=type(call.head)(model="m", stream=True, members=call.head.members))
    end = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < end:
        number += 1
        key = random.randbytes(32)
        for _ in range(2):
            await _ask(handler, call.replace(fingerprint=key))
            if kept is not None:
                await kept.writer.emptied()
                kept.memory.remove(EVERYTHING)
        if number % rate == 0:
            await _ask(handler, stream.replace(fingerprint=random.randbytes(32)))
        if number % (5 * rate) == 0 and kept is not None:
            await kept.clear(Selection(route="none of these"))
        await asyncio.sleep(1 / rate)


async def _ask(handler: Handler, call: Call) -> None:
    reply = await handler(call)
    async for _ in reply.items:
        pass
    await reply.aclose("complete")


async def _measured(name: str, handler: Handler, kept: ExactKept | None, seconds: float, rate: float) -> list[float]:
    watch = _Watch()
    task = asyncio.get_running_loop().create_task(watch.run())
    await _load(handler, kept, seconds, rate)
    task.cancel()
    late = sorted(watch.late)
    line = ", ".join(
        f"{label} {measure.percentile(late, share):.2f}"
        for label, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    )
    print(f"{name}: late by ms: {line}, worst {late[-1]:.2f}, over 5 ms {sum(each > 5 for each in late)} times")
    return late


async def _main(seconds: float, rate: float) -> None:
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as folder:
        store = Collection(Path(folder) / "exact", 0, Qdrant(max_entries=10**6), time.time, lambda _: 10**12)
        store.open()
        writer = CacheWriter("exact_cache", 10**8, store)
        await writer.start()
        kept = ExactKept(store, Memory(10**8, time.time), writer, Served(), Counts())
        cache = ExactCache(ExactCacheConfig(), kept, lambda _: b"", time.time)
        await _measured("without the cache", chain([], _upstream), None, seconds, rate)
        await _measured("with the cache", chain([cache], _upstream), kept, seconds, rate)
        await writer.emptied()
        print(f"hits {kept.counts.hits_memory + kept.counts.hits_store}, stored {kept.counts.stored}")
        await writer.aclose()
        store.close()
        small = Collection(Path(folder) / "small", 0, Qdrant(), time.time, lambda _: 10**12)
        small.open()
        await _changes(small)
        small.close()


async def _changes(store: Collection) -> None:
    """What a change of shards takes with the default size."""
    taken = []
    body = _WHOLE
    for number in range(60_000):
        entry = _entry(number, body)
        began = time.perf_counter()
        await store.put([entry])
        await store.tend() if number % 100 == 0 else None
        if (spent := (time.perf_counter() - began) * 1000) > 15:
            taken.append(spent)
    print(f"changes of a shard under 60,000 puts without a pause: {', '.join(f'{each:.0f}' for each in taken)} ms")


def _entry(number: int, body: bytes) -> Entry:
    now = int(time.time())
    return Entry(
        id=f"{number:032x}", partition="", route="r", fingerprint=f"{number:064x}", body=body, created=now,
        expires_at=now + 9999,
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=300.0)
    arguments = parser.parse_args()
    measure.pin(measure.SERVER_CORE)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(arguments.seconds, arguments.rate))
