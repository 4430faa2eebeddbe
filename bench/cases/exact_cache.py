"""What the exact cache costs a call, in process: its key, a miss, a hit from memory and from the embedded store."""

import atexit
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path

from calls import a_call, request
from micro import Cases, Timed

from adapters.qdrant import Collection
from policies.cache_answers import Stored
from policies.cache_entries import told_of
from policies.cache_kept import Counts, ExactKept, Served
from policies.cache_memory import Facts, Memory, Ready
from policies.cache_writer import CacheWriter
from policies.exact_cache import ExactCache, ExactCacheConfig
from policies.fingerprint import fingerprint
from proxy.call import CacheControls, Call
from proxy.config import Qdrant
from proxy.deployments import Deployment, Route
from proxy.endpoints import CHAT
from proxy.entries import EVERYTHING, Entry
from proxy.reply import Reply

_ENTRIES = 10_000
_LONG = 10.0**9


class _Nobody:
    async def __call__(self, _call: Call, _deployment: Deployment, /) -> Reply:
        return Reply.whole(b"{}")

    async def aclose(self) -> None: ...


def _no_guards(_call: Call) -> bytes:
    return b""


def _answer(size: int) -> bytes:
    message = {"role": "assistant", "content": "word " * (size // 5), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


def _call_of(size: int) -> Call:
    deployment = Deployment(id="p/m", provider_name="p", model="m", provider=_Nobody())
    return a_call(request(size)).replace(route=Route(name="gpt-4o", deployments=(deployment,)))


def _drive(work: Coroutine[object, None, None]) -> None:
    """Run to its end what only ever lets others go first."""
    with contextlib.suppress(StopIteration):
        while True:
            work.send(None)


class _Bed:
    """A cache over an embedded store of ten thousand entries, one of them the call's own if `size` is given."""

    def __init__(self, folder: Path, call: Call, size: int = 0) -> None:
        now = time.time()
        store = Collection(folder, 0, Qdrant(max_entries=10**8), time.time, lambda _: 10**12)
        store.open()
        key = fingerprint(call, partition="", guards=b"")
        body = _answer(size or 1000)
        usage = {"prompt_tokens": 200, "completion_tokens": 200, "total_tokens": 400}
        details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
        meta = {**told_of(Stored("whole", body, {**usage, **details})), "cost": 1, "twin": None}
        own = Entry(
            id=key[:16].hex(), partition="", route="r", fingerprint=key.hex(), body=body,
            created=int(now), expires_at=int(now + _LONG), meta=meta,
        )  # fmt: skip
        others = [
            Entry(
                id=f"{number:032x}", partition="", route="r", fingerprint=f"{number:064x}", body=body,
                created=int(now), expires_at=int(now + _LONG), meta=meta,
            )
            for number in range(_ENTRIES)
        ]  # fmt: skip
        _drive(store.put([*others, own] if size else others))
        writer = CacheWriter("exact_cache", 10**8, store)
        self.kept = ExactKept(store, Memory(10**8, time.time), writer, Served(), Counts())
        self.policy = ExactCache(ExactCacheConfig(), self.kept, _no_guards, time.time)
        self.call = call
        self.own = own

    def remember(self) -> None:
        facts = Facts(id=self.own.id, partition="", route="r", created=time.time(), expires_at=time.time() + _LONG)
        self.kept.memory.put(Ready(CHAT, Stored("whole", self.own.body, {"prompt_tokens": 1}), facts))


def _bed(call: Call, size: int = 0) -> _Bed:
    folder = Path(tempfile.mkdtemp(prefix="lockgate-bench-cache-"))
    atexit.register(shutil.rmtree, folder)
    return _Bed(folder, call, size)


async def _next(_call: Call) -> Reply:
    return Reply.whole(b"{}")


def _asking(bed: _Bed, call: Call, *, forget: bool = False) -> Timed:
    async def ask() -> None:
        if forget:
            bed.kept.memory.remove(EVERYTHING)
        reply = await bed.policy(call, _next)
        async for _ in reply.items:
            pass

    return ask


def register(cases: Cases) -> None:
    """Calls of 1 kB, and a long one."""

    @cases.case("exact_cache: key of a 1 kB call")
    def key() -> Timed:
        call = _call_of(1000)
        return lambda: fingerprint(call, partition="", guards=b"")

    @cases.case("exact_cache: key of a 300 kB call")
    def long_key() -> Timed:
        call = _call_of(300_000)
        return lambda: fingerprint(call, partition="", guards=b"")

    @cases.case("exact_cache: a miss of a 1 kB call, key and lookup", goal_ns=30_000)
    def miss() -> Timed:
        bed = _bed(_call_of(1000))
        call = bed.call.replace(cache=CacheControls(store=False))
        return _asking(bed, call)

    @cases.case("exact_cache: a miss whose key the flight has")
    def flown() -> Timed:
        bed = _bed(_call_of(1000))
        call = bed.call.replace(cache=CacheControls(store=False), fingerprint=b"f" * 32)
        return _asking(bed, call)

    _hits(cases)


def _hits(cases: Cases) -> None:
    @cases.case("exact_cache: a hit from memory")
    def hit() -> Timed:
        bed = _bed(_call_of(1000), 1000)
        bed.remember()
        return _asking(bed, bed.call)

    @cases.case("exact_cache: a hit from memory, streamed")
    def streamed() -> Timed:
        bed = _bed(_call_of(1000), 1000)
        bed.remember()
        head = bed.call.head
        return _asking(bed, bed.call.replace(head=type(head)(model=head.model, stream=True, members=head.members)))

    for size in (1000, 20_000):

        @cases.case(f"exact_cache: a hit from the embedded store, {size // 1000} kB")
        def fetched(size: int = size) -> Timed:
            bed = _bed(_call_of(1000), size)
            return _asking(bed, bed.call, forget=True)

    @cases.case("exact_cache: one entry of 1 kB put")
    def put() -> Timed:
        bed = _bed(_call_of(1000), 1000)

        async def once() -> None:
            await bed.kept.store.put([bed.own])

        return once
