"""What a lookup of the semantic cache costs: on the default embedder, over the embedded store, with entries of one fingerprint.

    python bench/semantic_lookup.py [--entries 1000 10000] [--keep]

Worst case on purpose: every entry has the fingerprint that is asked for, so the filter saves nothing. `bare` is what the
model and the engine take for the same texts when they are called by themselves, one after the other as in a lookup: its
`embed` in the caller's thread, its `search` without reading entries. `on the loop` is a lookup without the embedding:
search, entries, pair guard, reply. `ours` is a lookup without both bare parts. Beside the lookups a task that
wants to run each millisecond says how late it was; the control is the same with no lookups. The collector is set as
the server sets it.
"""

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import measure
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from calls import a_call

from adapters.embedder_models import USE
from adapters.embedders import Encode
from adapters.qdrant import Collection
from policies.cache_kept import Served
from policies.cache_writer import CacheWriter
from policies.semantic_cache import SemanticCache
from policies.semantic_kept import Asked, SemanticCounts, SemanticKept, Tallies
from policies.semantic_settings import CheckConfig, SemanticCacheConfig
from proxy.call import Call
from proxy.config import Qdrant
from proxy.deployments import Deployment, Route
from proxy.entries import Entry
from proxy.reply import Reply
from proxy.semantic import RunningEmbedder, make_embedder, make_semantic_cache
from proxy.server import GC_THRESHOLD

_ASKS = 400
_FOUND = 10
"""Neighbours that the policy has the engine look for."""
_THINGS = [
    "passport",
    "licence",
    "invoice",
    "garden",
    "kettle",
    "bicycle",
    "window",
    "boiler",
    "account",
    "carpet",
    "camera",
    "curtain",
    "guitar",
    "ladder",
    "mirror",
    "pillow",
]
_VERBS = [
    "clean",
    "repair",
    "cancel",
    "renew",
    "paint",
    "move",
    "store",
    "sell",
    "insure",
    "return",
    "open",
    "lock",
    "measure",
    "replace",
    "wash",
    "print",
]
_PLACES = ["at home", "in winter", "for a friend", "by post", "on a boat", "without help", "in Norway", "as a tenant"]


class _Nobody:
    async def __call__(self, _call: Call, _deployment: Deployment, /) -> Reply:
        raise AssertionError

    async def aclose(self) -> None: ...


def _question(number: int) -> str:
    verb, rest = _VERBS[number % 16], number // 16
    thing, rest = _THINGS[rest % 16], rest // 16
    return f"How do I {verb} my {thing} {_PLACES[rest % 8]} number {rest // 8}?"


def _call(text: str) -> Call:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    route = Route(name="m", deployments=(Deployment(id="p/m", provider_name="p", model="m", provider=_Nobody()),))
    return a_call(body).replace(route=route)


def _body(number: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": f"{number} " * 60}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()


async def _missed(_call: Call) -> Reply:
    return Reply.whole(_body(0))


class Bed:
    """The policy over a store of its own."""

    def __init__(self, folder: Path, entries: int, embedder: RunningEmbedder) -> None:
        self.store = Collection(
            folder, USE.size, Qdrant(max_entries=max(20_000, 2 * entries)), time.time, lambda _: 10**12
        )
        self.store.open()
        self.embedder = embedder
        self.entries = entries
        writer = CacheWriter("w", 10**9, self.store)
        kept = SemanticKept(self.store, embedder, writer, Served(), SemanticCounts(), Tallies(), time.time)
        self.policy: SemanticCache = make_semantic_cache(
            SemanticCacheConfig(check=CheckConfig(share=0)),
            kept,
            upstream=_missed,
            find_route=lambda _name: _call("").route,
            guards=lambda _call: b"",
        )

    async def fill(self) -> None:
        """Entries straight into the store: their texts are all different."""
        asked = self._asked(_call(_question(0)))
        page: list[Entry] = []
        for number in range(self.entries):
            text = _question(number)
            vector = await self.embedder.embed(text, patient=True)
            page.append(
                Entry(id=f"{number:032x}", partition=asked.partition, route="m", fingerprint=asked.key.hex(), body=_body(number),
                      created=int(time.time()), expires_at=int(time.time()) + 10**6, vector=vector, meta={"text": text, "shape": "whole", "cost": 1})
            )  # fmt: skip
            if len(page) == 500 or number + 1 == self.entries:
                await self.store.put(page)
                page.clear()

    def _asked(self, call: Call) -> Asked:
        asked = self.policy.asked(call)
        assert isinstance(asked, Asked)
        return asked

    def bare(self, text: str, encode: Encode) -> tuple[float, float]:
        """Seconds that the model takes for a text, and the engine for its neighbours, called by themselves."""
        fingerprint = self._asked(_call(text)).key.hex()
        begun = time.perf_counter()
        vector = encode(text)
        embedded = time.perf_counter()
        for shard in self.store._shards:  # noqa: SLF001 - the engine by itself
            shard.nearest(vector, fingerprint=fingerprint, limit=_FOUND, floor=SemanticCacheConfig().candidate_floor)
        return embedded - begun, time.perf_counter() - embedded

    async def ask(self, text: str) -> tuple[float, float, float]:
        """Seconds of a whole lookup, of the part that is not the embedding, and of that part's CPU."""
        call = _call(text)
        begun = time.perf_counter()
        asked = self._asked(call)
        vector = await self.embedder.embed(asked.text)
        embedded, cpu = time.perf_counter(), time.thread_time()
        await self.policy.look_up(call, asked, vector)
        done = time.perf_counter()
        return done - begun, done - embedded, time.thread_time() - cpu


async def _late(seconds: float) -> list[float]:
    """How late a task was that wanted to run each millisecond."""
    late, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - begun - 0.001)
    return sorted(late)


def _at(ordered: list[float], share: float) -> float:
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


async def run(entries: int, folder: Path) -> dict[str, float]:
    """The figures for so many entries, in milliseconds."""
    embedder = make_embedder(SemanticCacheConfig().embedder, None)
    await embedder.start()
    await embedder.embed("ready", patient=True)
    before = _rss()
    bed = Bed(folder, entries, embedder)
    begun = time.perf_counter()
    await bed.fill()
    await bed.store.tend()  # as the service does: the next shard's folder is made beside the calls
    filled = time.perf_counter() - begun
    choose = random.Random(1)
    texts = [
        _question(choose.randrange(entries)).replace(
            "How do I", choose.choice(["How can I", "What is the best way to"])
        )
        for _ in range(_ASKS)
    ]
    for text in texts[:50]:
        await bed.ask(text)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    encode = import_module(USE.module).load()
    bare = [bed.bare(text, encode) for text in texts]
    control = await _late(2)
    watch = asyncio.create_task(_late(1 + 0.004 * _ASKS))
    times = [await bed.ask(text) for text in texts]
    late = await watch
    whole, on_loop, cpu = (sorted(column) for column in zip(*times, strict=True))
    embedding, search = (sorted(column) for column in zip(*bare, strict=True))
    least = _at(embedding, 0.5) + _at(search, 0.5)
    bed.store.close()
    await embedder.aclose()
    return {
        "entries": entries,
        "lookup p50": _at(whole, 0.5),
        "lookup p99": _at(whole, 0.99),
        "bare embed p50": _at(embedding, 0.5),
        "bare search p50": _at(search, 0.5),
        "ours p50": round(_at(whole, 0.5) - least, 3),
        "lookup over bare, ratio": round(_at(whole, 0.5) / least, 3),
        "on the loop p50": _at(on_loop, 0.5),
        "on the loop p99": _at(on_loop, 0.99),
        "on the loop CPU p50": _at(cpu, 0.5),
        "loop late, longest": _at(late, 1.0),
        "loop late p99": _at(late, 0.99),
        "control late, longest": _at(control, 1.0),
        "filling, seconds": round(filled, 1),
        "RSS MB, embedder and store": round(_rss(), 0),
        "RSS MB before the store": round(before, 0),
    }


def _rss() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """Print the figures; with --keep also write them beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    rows = []
    for entries in options.entries:
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows.append(runner.run(run(entries, Path(folder) / "semantic")))
            print(json.dumps(rows[-1], indent=1))
    if options.keep:
        facts = {"command": f"python bench/semantic_lookup.py --entries {' '.join(map(str, options.entries))} --keep",
                 "commit": measure.commit(), "machine": measure.machine()}  # fmt: skip
        path = Path(__file__).parent / "results" / f"semantic-lookup-{datetime.now(UTC):%Y-%m-%d}.json"
        path.write_text(json.dumps(facts | {"milliseconds": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
