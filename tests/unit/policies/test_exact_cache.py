"""The exact cache over Qdrant's embedded engine and a scripted handler."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.calls import Clock, Provider, answers, make_call, make_route, text_of

from adapters.qdrant import Collection
from policies.cache_kept import Counts, ExactKept, Hit, Served
from policies.cache_memory import Memory
from policies.cache_writer import CacheWriter
from policies.exact_cache import ExactCache, ExactCacheConfig
from policies.single_flight import SingleFlight, SingleFlightConfig
from proxy.call import CacheControls, Call, Caller, Record, Usage, Verdict
from proxy.chain import chain
from proxy.config import Qdrant
from proxy.endpoints import CHAT, EMBEDDINGS, Endpoint
from proxy.entries import EVERYTHING, Entry, Scored, Selection, StoreUnavailable
from proxy.errors import NotCached, UpstreamUnavailable
from proxy.reply import Reply
from proxy.sse import DONE_ITEM, frame
from proxy.values import Duration, Size

ROUTE = make_route(Provider(answers), "gpt")


def body(text: str = "Hi!", reason: str = "stop") -> bytes:
    """A whole chat answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(answer).encode()


def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return frame(json.dumps({**head, "choices": [choice]}).encode())


STREAM = (chunk({"role": "assistant", "content": "Hi"}), chunk({"content": "!"}), chunk({}, "stop"), DONE_ITEM)


class Upstream:
    """A handler that answers, counts, and notes facts in the record as a provider does."""

    def __init__(self, *items: bytes, status: int = 200, **facts: Any) -> None:
        self.items = items or (body(),)
        self.status = status
        self.facts = {"usage": Usage(prompt=3, completion=2), "cost": 700, **facts}
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        for name, value in self.facts.items():
            setattr(call.record, name, value)
        if len(self.items) == 1:
            return Reply.whole(self.items[0], status=self.status)
        return Reply(self._stream(), streaming=True)

    async def _stream(self) -> AsyncIterator[bytes]:
        for item in self.items:
            yield item


class Broken:
    """A store that is away."""

    dims = 0

    async def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        raise StoreUnavailable("away")

    def get_now(self, entry_id: str) -> Entry | None:
        return None

    async def put(self, entries: Sequence[Entry]) -> None:
        raise StoreUnavailable("away")

    async def query(self, vector: Sequence[float], **_given: Any) -> list[Scored]:
        raise StoreUnavailable("away")

    async def amend(self, entry_id: str, meta: Mapping[str, Any]) -> None:
        raise StoreUnavailable("away")

    async def delete(self, selection: Selection) -> int:
        raise StoreUnavailable("away")

    async def count(self, selection: Selection = EVERYTHING) -> int:
        raise StoreUnavailable("away")


class Cache:
    """The policy with all it stands on."""

    def __init__(self, store: Any, clock: Any, **settings: Any) -> None:
        self.clock: Clock = clock
        self.guards = b"g"
        writer = CacheWriter("exact_cache", 10**7, store)
        self.kept = ExactKept(store, Memory(10**6, clock), writer, Served(), Counts())
        follows = settings.pop("semantic_follows", False)
        config = ExactCacheConfig(**settings)
        self.policy = ExactCache(config, self.kept, lambda _: self.guards, clock, semantic_follows=follows)

    async def ask(
        self, upstream: Upstream, call: Call | None = None, *, outcome: Any = "complete"
    ) -> tuple[Call, bytes, Reply]:
        """One call to its end, and what was to be stored is stored."""
        call = make_call(route=ROUTE) if call is None else call
        reply = await self.policy(call, upstream)
        said = b"".join([item async for item in reply.items])
        await reply.aclose(outcome)
        await self.kept.writer.emptied()
        return call, said, reply

    def forget(self) -> None:
        """Empty the memory, so that the store is asked."""
        self.kept.memory.remove(EVERYTHING)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Collection]:
    made = Collection(tmp_path, 0, Qdrant(), Clock(1000.0), lambda _: 10**11)
    made.open()
    yield made
    made.close()


@pytest.fixture
async def cache(store: Collection) -> AsyncIterator[Cache]:
    made = Cache(store, store._now)
    await made.kept.writer.start()
    yield made
    await made.kept.writer.aclose()


async def test_the_same_call_is_answered_without_asking(cache: Cache) -> None:
    """From memory and from the store: the same bytes, usage as stored, nothing to pay, and how old it is."""
    upstream = Upstream()
    first, said, _ = await cache.ask(upstream)
    assert first.record.cache == "miss"
    cache.clock.now += 7
    for where in ("memory", "store"):
        call, again, reply = await cache.ask(upstream)
        assert again == said == body()
        assert reply.headers == {"age": "7"}
        assert call.record.cache == "hit-exact"
        assert (call.record.usage, call.record.cost, call.record.saved) == (Usage(prompt=3, completion=2), 0, 700), (
            where
        )
        cache.forget()
    assert len(upstream.calls) == 1
    assert (cache.kept.counts.hits_memory, cache.kept.counts.hits_store) == (1, 1)


@pytest.mark.parametrize("controls", [CacheControls(store=False), CacheControls(ttl=0.0)], ids=["no-store", "ttl 0"])
async def test_what_may_not_be_kept_is_not(cache: Cache, controls: CacheControls) -> None:
    upstream = Upstream()
    for _ in range(2):
        await cache.ask(upstream, make_call(route=ROUTE).replace(cache=controls))
    assert len(upstream.calls) == 2


async def test_a_flight_is_not_begun_for_what_takes_no_waiting(cache: Cache) -> None:
    """In memory or in a store that can be read at once; it is where the request will not have it, or another shape than can
    be given, and where the entry is another call's.
    """
    flights = SingleFlight(SingleFlightConfig(), cache.policy._guards, at_hand=cache.policy.at_hand)
    upstream = Upstream()
    rest = chain([cache.policy], upstream)

    async def ask(**controls: Any) -> Call:
        call = make_call(route=ROUTE).replace(cache=CacheControls(**controls))
        reply = await flights(call, rest)
        assert b"".join([item async for item in reply.items]) == body()
        await reply.aclose("complete")
        await cache.kept.writer.emptied()
        return call

    assert [(await ask()).record.flight for _ in range(2)] == ["led", ""]
    assert cache.kept.counts.hits_memory == 1
    for controls in ({"look_up": False}, {"exact": False}, {"max_age": 0.0}):
        cache.clock.now += 1
        call = await ask(**controls)
        assert (call.record.flight, call.record.cache) != ("", "hit-exact"), controls
    cache.forget()
    counts = cache.kept.counts
    before = (counts.hits_store, counts.hits_memory)
    asked = [await ask() for _ in range(2)]
    assert [(call.record.flight, call.record.cache) for call in asked] == [("", "hit-exact")] * 2
    assert (counts.hits_store, counts.hits_memory) == (before[0] + 1, before[1] + 1)
    store = cache.kept.store
    (entry,) = (await store.get([cache.policy.explain(asked[0])["id"]])).values()
    await store.put([msgspec.structs.replace(entry, fingerprint="another call's")])
    cache.forget()
    call = await ask()
    assert (call.record.flight, call.record.cache) == ("led", "miss")


async def test_one_entry_serves_streams_and_whole_answers(cache: Cache) -> None:
    """Stored from a stream, served whole, and streamed with or without usage."""
    upstream = Upstream(*STREAM)
    await cache.ask(upstream, make_call(route=ROUTE, stream=True))
    for forgotten in (False, True):
        _, whole, _ = await cache.ask(upstream, make_call(route=ROUTE))
        assert json.loads(whole)["choices"][0]["message"]["content"] == "Hi!"
        _, streamed, reply = await cache.ask(upstream, make_call(route=ROUTE, stream=True))
        assert reply.streaming
        assert streamed.endswith(DONE_ITEM)
        assert b"usage" not in streamed
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        _, counted, _ = await cache.ask(upstream, make_call(route=ROUTE, stream=True, **options))
        assert b'"total_tokens":5' in counted
        if not forgotten:
            cache.forget()
    assert len(upstream.calls) == 1


OTHERS: dict[str, Any] = {
    "text": make_call(route=ROUTE, messages=[{"role": "user", "content": "hi "}]),
    "unknown member": make_call(route=ROUTE, unknown=1),
    "partition": make_call(route=ROUTE, caller=Caller(id="b", partition="b")),
    "namespace": make_call(route=ROUTE).replace(cache=CacheControls(namespace="n")),
    "deployment": make_call(route=make_route(Provider(answers), "gpt-2")),
    "model": make_call(route=ROUTE, model="other"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_another_call_is_not_answered(cache: Cache, name: str) -> None:
    """Another text, member, partition, namespace, deployment or model: another entry."""
    upstream = Upstream()
    await cache.ask(upstream)
    await cache.ask(upstream, OTHERS[name])
    assert len(upstream.calls) == 2


async def test_an_entry_does_not_outlive_the_guards_it_passed(cache: Cache) -> None:
    """With other guards it is not found; with the old ones again, it is."""
    upstream = Upstream()
    await cache.ask(upstream)
    cache.guards = b"stricter"
    await cache.ask(upstream)
    assert len(upstream.calls) == 2
    cache.guards = b"g"
    await cache.ask(upstream)
    assert len(upstream.calls) == 2


async def test_spelling_and_bookkeeping_do_not_make_a_call_another(cache: Cache) -> None:
    """Order of members, `user` and `metadata` do not change the answer."""
    upstream = Upstream()
    await cache.ask(upstream, make_call(route=ROUTE, temperature=0, top_p=1))
    await cache.ask(upstream, make_call(route=ROUTE, top_p=1, temperature=0, user="u", metadata={"a": "b"}))
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    ("upstream", "outcome"),
    [
        (Upstream(body(reason="length")), "complete"),
        (Upstream(body(reason="content_filter")), "complete"),
        (Upstream(body(), status=201), "complete"),
        (Upstream(body(), fallbacks=1), "complete"),
        (Upstream(body("x" * 2000)), "complete"),
        (Upstream(b"no json"), "complete"),
        (Upstream(body(), guards=[Verdict("secrets", "flag", side="output")]), "complete"),
        (Upstream(body(), guards=[Verdict("secrets", "not_scanned", side="output")]), "complete"),
        *(
            (Upstream(*STREAM), outcome)
            for outcome in ("client_disconnect", "upstream_interrupted", "guard_blocked", "error")
        ),
    ],
    ids=[
        "cut",
        "filtered",
        "not 200",
        "a fallback's",
        "too large",
        "no answer",
        "flagged",
        "not scanned",
        "disconnected",
        "interrupted",
        "blocked",
        "failed",
    ],
)
async def test_what_is_not_a_good_complete_answer_is_never_stored(
    store: Collection, upstream: Upstream, outcome: Any
) -> None:
    """Neither in memory nor in the store."""
    cache = Cache(store, store._now, max_answer=Size(1500))
    await cache.kept.writer.start()
    for _ in range(2):
        call = make_call(route=ROUTE, stream=len(upstream.items) > 1)
        await cache.ask(upstream, call, outcome=outcome)
        assert call.record.cache == "miss"
    assert await store.count() == len(cache.kept.memory) == 0
    await cache.kept.writer.aclose()


@pytest.mark.parametrize(
    "call",
    [
        make_call(route=ROUTE, n=2),
        make_call(route=ROUTE, temperature=1.5),
        make_call(route=ROUTE, store=True),
        make_call(route=make_route(Provider(answers), "gpt", cache_ttl=0.0)),
        make_call(route=ROUTE).replace(cache=CacheControls(exact=False)),
    ],
    ids=["n", "hot", "kept upstream", "a route without", "mode"],
)
async def test_what_is_not_eligible_is_passed_by(cache: Cache, call: Call) -> None:
    """Not looked up, not stored."""
    upstream = Upstream()
    for _ in range(2):
        await cache.ask(upstream, call)
        assert call.record.cache == "bypass"
    assert len(upstream.calls) == 2
    assert await cache.kept.store.count() == 0


async def test_tool_calls_are_kept_only_if_asked_for(store: Collection) -> None:
    """By configuration."""
    answer = json.loads(body(reason="tool_calls"))
    tool = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer["choices"][0]["message"]["tool_calls"] = [tool]
    for tools, calls in ((False, 2), (True, 1)):
        cache, upstream = Cache(store, store._now, tool_calls=tools), Upstream(json.dumps(answer).encode())
        await cache.kept.writer.start()
        await cache.ask(upstream)
        await cache.ask(upstream)
        assert len(upstream.calls) == calls
        await cache.kept.writer.aclose()


async def test_a_request_says_what_it_wants_of_the_cache(cache: Cache) -> None:
    """no-cache asks anew and stores; no-store is not stored; max-age refuses what is older; ttl shortens."""
    upstream = Upstream()

    async def ask(**controls: Any) -> str:
        call, _, _ = await cache.ask(upstream, make_call(route=ROUTE).replace(cache=CacheControls(**controls)))
        return call.record.cache

    assert await ask(store=False) == "miss"
    assert await ask() == "miss"
    assert await ask(look_up=False) == "bypass"
    assert await ask() == "hit-exact"
    cache.clock.now += 10
    assert await ask(max_age=9) == "miss"
    assert await ask(max_age=9) == "hit-exact"
    assert await ask(look_up=False, ttl=5) == "bypass"
    cache.clock.now += 6
    assert await ask() == "miss"


async def test_only_if_cached_never_asks(cache: Cache) -> None:
    """A hit, or an error; unless another cache follows, which then says so."""
    upstream = Upstream()
    only = CacheControls(only_if_cached=True)
    with pytest.raises(NotCached):
        await cache.policy(make_call(route=ROUTE).replace(cache=only), upstream)
    assert not upstream.calls
    await cache.ask(upstream)
    call, _, _ = await cache.ask(upstream, make_call(route=ROUTE).replace(cache=only))
    assert call.record.cache == "hit-exact"
    followed = Cache(cache.kept.store, cache.clock, semantic_follows=True)
    await followed.policy(make_call(route=ROUTE, seed=1).replace(cache=only), upstream)
    assert len(upstream.calls) == 2


@pytest.mark.parametrize(
    ("settings", "route", "asked", "lasts"),
    [
        ({"ttl": Duration(100)}, None, None, 100),
        ({"ttl": Duration(100)}, 50.0, None, 50),
        ({"ttl": Duration(100)}, 50.0, 70.0, 70),
        ({"ttl": Duration(100), "max_ttl": Duration(60)}, None, 10**6, 60),
    ],
    ids=["ours", "the route's", "the request's", "bounded"],
)
async def test_an_answer_is_served_until_its_time_is_over(
    store: Collection, settings: Any, route: float | None, asked: float | None, lasts: float
) -> None:
    """TTL of the cache, of the route, of the request."""
    cache, upstream = Cache(store, store._now, **settings), Upstream()
    await cache.kept.writer.start()

    def call() -> Call:
        made = make_call(route=make_route(Provider(answers), "gpt", cache_ttl=route))
        return made.replace(cache=CacheControls(ttl=asked))

    await cache.ask(upstream, call())
    for after, calls in ((lasts - 1, 1), (1, 2)):
        cache.clock.now += after
        cache.forget()
        await cache.ask(upstream, call())
        assert len(upstream.calls) == calls
    await cache.kept.writer.aclose()


async def test_without_its_store_calls_go_on() -> None:
    """Bypass, counted, and what is in memory is served all the same."""
    cache, upstream = Cache(Broken(), Clock(1000.0)), Upstream()
    await cache.kept.writer.start()
    call, said, _ = await cache.ask(upstream)
    assert (call.record.cache, said) == ("bypass", body())
    assert (cache.kept.counts.unavailable, cache.kept.writer.failed) == (1, 1)
    call, _, _ = await cache.ask(upstream)
    assert call.record.cache == "hit-exact"
    await cache.kept.writer.aclose()


async def test_partitions_follow_the_configuration(store: Collection) -> None:
    """By key each key is alone; shared, everyone is one."""
    one, two = Caller(id="k1", partition="t1"), Caller(id="k2", partition="t2")
    for by, calls in (("key", 2), ("shared", 1)):
        cache, upstream = Cache(store, store._now, partition=by), Upstream()
        await cache.kept.writer.start()
        for caller in (one, two, one):
            await cache.ask(upstream, make_call(route=ROUTE, caller=caller))
        assert len(upstream.calls) == calls
        await cache.kept.writer.aclose()


async def test_a_wrong_hit_is_not_served_again(cache: Cache) -> None:
    """What a caller reports goes, from memory and store."""
    upstream = Upstream()
    await cache.ask(upstream)
    call, _, _ = await cache.ask(upstream)
    hit = cache.kept.served.find(call.id)
    assert hit is not None
    await cache.kept.wrong(hit)
    call, _, _ = await cache.ask(upstream)
    assert call.record.cache == "miss"
    assert cache.kept.counts.reported == 1


class Slow(Broken):
    """A store on the way to which answers and removals wait until they are let go."""

    def __init__(self, store: Collection) -> None:
        self.store = store
        self.answer, self.removal, self.removing = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        found = await self.store.get(ids)
        await self.answer.wait()
        return found

    async def put(self, entries: Sequence[Entry]) -> None:
        await self.store.put(entries)

    async def delete(self, selection: Selection) -> int:
        self.removing.set()
        await self.removal.wait()
        return await self.store.delete(selection)


@pytest.mark.parametrize("first", ["answer", "removal"])
@pytest.mark.parametrize("endpoint", [CHAT, EMBEDDINGS], ids=["chat", "embeddings"])
async def test_a_lookup_under_way_does_not_bring_back_what_is_cleared(
    store: Collection, endpoint: Endpoint, first: str
) -> None:
    """Whether the store's answer to it comes before the removal or after it."""
    slow = Slow(store)
    cache, upstream = Cache(slow, store._now), Upstream()
    await cache.kept.writer.start()
    if endpoint is EMBEDDINGS:
        data = [{"object": "embedding", "index": 0, "embedding": [1]}]
        upstream.items = (json.dumps({"object": "list", "data": data, "model": "m"}).encode(),)
    slow.answer.set()

    def call() -> Call:
        return make_call(endpoint=endpoint, route=ROUTE, input="a")

    await cache.ask(upstream, call())
    cache.forget()
    slow.answer.clear()
    looking = asyncio.create_task(cache.ask(upstream, call()))
    clearing = asyncio.create_task(cache.kept.clear(EVERYTHING))
    await slow.removing.wait()
    steps = {"answer": (slow.answer, looking), "removal": (slow.removal, clearing)}
    for let_go, task in (steps[first], *(step for name, step in steps.items() if name != first)):
        let_go.set()
        await task
    assert len(cache.kept.memory) == 0
    again, _, _ = await cache.ask(upstream, call())
    assert again.record.cache == "miss"
    await cache.kept.writer.aclose()


async def test_who_follows_a_hit_has_it_as_its_own(store: Collection) -> None:
    """It says what it saved, and can call the answer wrong."""
    slow = Slow(store)
    cache, upstream = Cache(slow, store._now), Upstream()
    await cache.kept.writer.start()
    slow.answer.set()
    slow.removal.set()
    await cache.ask(upstream)
    cache.forget()
    slow.answer.clear()
    served = cache.kept.served
    flights = SingleFlight(SingleFlightConfig(), cache.policy._guards, followed=served.follow)
    rest = chain([cache.policy], upstream)
    calls = [make_call(route=ROUTE).replace(id=name, record=Record(name, "chat", 0.0)) for name in ("one", "two")]
    asked = [asyncio.create_task(flights(call, rest)) for call in calls]
    slow.answer.set()
    for reply in asked:
        assert await text_of(await reply) == body()
    assert [call.record.flight for call in calls] == ["led", "followed"]
    assert [call.record.cache for call in calls] == ["hit-exact"] * 2
    assert [call.record.saved for call in calls] == [700] * 2
    hit = served.find("two")
    assert hit is not None
    assert hit == served.find("one")
    await cache.kept.wrong(hit)
    again, _, _ = await cache.ask(upstream)
    assert again.record.cache == "miss"
    await cache.kept.writer.aclose()


def test_a_hit_that_was_followed_belongs_to_the_follower() -> None:
    """To nobody else, and nothing belongs to whoever followed an answer that is no hit."""
    served, two = Served(), Caller(id="k2", partition="t2")
    served.note("leader", Hit("exact", "t1", "k1", "e"))
    served.follow("leader", make_call(caller=two).replace(id="follower"))
    served.follow("unknown", make_call(caller=two).replace(id="other"))
    assert served.find("follower") == Hit("exact", "t2", "k2", "e")
    assert served.find("other") is None


async def test_it_says_what_makes_a_call_another(cache: Cache) -> None:
    """The key that is explained is the key that is used."""
    call = make_call(route=ROUTE, temperature=0)
    await cache.ask(Upstream(), call)
    told = cache.policy.explain(call)
    assert told["eligible"]
    assert told["in_memory"]
    assert await cache.kept.store.get([told["id"]])
    assert json.loads(told["canonical"]) == {"messages": [{"content": "hi", "role": "user"}], "temperature": 0}
    told = cache.policy.explain(make_call(route=ROUTE, n=3))
    assert (told["eligible"], told["why_not"]) == (False, "n is not 1")


async def test_the_fingerprint_of_the_flight_is_the_key(cache: Cache) -> None:
    """What single flight computed is not computed again."""
    upstream = Upstream()
    flown = make_call(route=ROUTE).replace(fingerprint=b"f" * 32)
    await cache.ask(upstream, flown)
    assert await cache.kept.store.get([(b"f" * 16).hex()])


async def test_what_the_provider_raises_passes_through(cache: Cache) -> None:
    """And nothing is stored."""

    async def fails(_call: Call) -> Reply:
        raise UpstreamUnavailable("no", kind="status")

    with pytest.raises(UpstreamUnavailable):
        await cache.policy(make_call(route=ROUTE), fails)
    assert await text_of(await cache.policy(make_call(route=ROUTE), Upstream())) == body()
