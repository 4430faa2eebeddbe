"""Batches of embeddings: each input an entry of its own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.calls import Clock, Provider, answers, make_call, make_route

from adapters.qdrant import Collection
from policies.cache_kept import Counts, ExactKept, Served
from policies.cache_memory import Memory
from policies.cache_writer import CacheWriter
from policies.embedding_cache import shares, split
from policies.exact_cache import ExactCache, ExactCacheConfig
from proxy.call import CacheControls, Call, Usage
from proxy.config import Qdrant
from proxy.endpoints import EMBEDDINGS
from proxy.entries import EVERYTHING
from proxy.errors import NotCached, UpstreamUnavailable
from proxy.reply import Reply

ROUTE = make_route(Provider(answers), "embedder")


class Embedder:
    """Embeds a text as its length, counts a token for each character, and answers out of order."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.short = False

    async def __call__(self, call: Call) -> Reply:
        given = json.loads(bytes(call.head.members["input"]))
        inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        self.asked.append(inputs)
        as_text = bytes(call.head.members.get("encoding_format", b"")) == b'"base64"'
        data = [
            {"object": "embedding", "index": index, "embedding": f"b{len(each)}" if as_text else [len(each), 0.5]}
            for index, each in enumerate(inputs)
        ]
        tokens = sum(map(len, inputs))
        call.record.usage, call.record.cost = Usage(prompt=tokens), 10 * tokens
        answer = {
            "object": "list",
            "data": data[::-1][: -1 if self.short else None],
            "model": "embedder-1",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Reply.whole(json.dumps(answer).encode())


class Cache:
    def __init__(self, store: Collection) -> None:
        self.clock: Any = store._now
        writer = CacheWriter("exact_cache", 10**7, store)
        self.kept = ExactKept(store, Memory(10**6, self.clock), writer, Served(), Counts())
        self.policy = ExactCache(ExactCacheConfig(), self.kept, lambda _: b"", self.clock)

    async def ask(
        self, upstream: Embedder, texts: Any, controls: CacheControls | None = None, **members: Any
    ) -> tuple[Call, Any]:
        """One call to its end; the call and the answer."""
        call = make_call(endpoint=EMBEDDINGS, route=ROUTE, input=texts, **members)
        if controls is not None:
            call = call.replace(cache=controls)
        reply = await self.policy(call, upstream)
        said = b"".join([item async for item in reply.items])
        await reply.aclose("complete")
        await self.kept.writer.emptied()
        return call, json.loads(said)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    store = Collection(tmp_path, 0, Qdrant(), Clock(1000.0), lambda _: 10**11)
    store.open()
    made = Cache(store)
    await made.kept.writer.start()
    yield made
    await made.kept.writer.aclose()
    store.close()


def vectors(answer: Any) -> list[Any]:
    """The embeddings, which must stand in the order of their indexes."""
    assert [each["index"] for each in answer["data"]] == list(range(len(answer["data"])))
    assert all(each["object"] == "embedding" for each in answer["data"])
    assert (answer["object"], answer["model"]) == ("list", "embedder-1")
    return [each["embedding"] for each in answer["data"]]


@pytest.mark.parametrize("forgotten", [False, True], ids=["from memory", "from the store"])
async def test_only_missing_inputs_are_asked_for(cache: Cache, forgotten: bool) -> None:
    """The answer has all of them in order, with the usage of all; the record what was paid for."""
    upstream = Embedder()
    await cache.ask(upstream, ["a", "bbb"])
    if forgotten:
        cache.kept.memory.remove(EVERYTHING)
    call, answer = await cache.ask(upstream, ["cc", "bbb", "dddd", "a", "cc"])
    assert upstream.asked == [["a", "bbb"], ["cc", "dddd"]]
    assert vectors(answer) == [[2, 0.5], [3, 0.5], [4, 0.5], [1, 0.5], [2, 0.5]]
    assert answer["usage"] == {"prompt_tokens": 2 + 3 + 4 + 1 + 2, "total_tokens": 12}
    assert call.record.cache == "miss"
    assert (call.record.usage, call.record.cost) == (Usage(prompt=6), 60)


async def test_a_batch_that_is_all_there_costs_nothing(cache: Cache) -> None:
    """In any order, and one by one; what it would have cost is known."""
    upstream = Embedder()
    await cache.ask(upstream, ["a", "bbb"])
    cache.clock.now += 5
    call, answer = await cache.ask(upstream, ["bbb", "a"])
    assert vectors(answer) == [[3, 0.5], [1, 0.5]]
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert (call.record.cache, call.record.cost, call.record.saved) == ("hit-exact", 0, 40)
    assert call.record.usage == Usage(prompt=4)
    _, one = await cache.ask(upstream, "bbb")
    assert vectors(one) == [[3, 0.5]]
    assert len(upstream.asked) == 1


async def test_a_batch_that_was_called_wrong_is_asked_for_anew(cache: Cache) -> None:
    """Every input of it, since nobody knows which was wrong, and no other."""
    upstream = Embedder()
    await cache.ask(upstream, ["a", "bbb", "cc"])
    call, _ = await cache.ask(upstream, ["bbb", "a", "bbb"])
    hit = cache.kept.served.find(call.id)
    assert hit is not None
    await cache.kept.wrong(hit)
    await cache.ask(upstream, ["a", "bbb", "cc"])
    assert upstream.asked[1:] == [["a", "bbb"]]


async def test_an_encoding_is_answered_in_that_encoding(cache: Cache) -> None:
    """Numbers and base64 never meet."""
    upstream = Embedder()
    for encoding, vector in (("float", [1, 0.5]), ("base64", "b1"), ("float", [1, 0.5]), ("base64", "b1")):
        _, answer = await cache.ask(upstream, ["a"], encoding_format=encoding)
        assert vectors(answer) == [vector]
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("members", [{"dimensions": 2}, {"model": "other"}, {"unknown": 1}])
async def test_another_call_is_not_answered(cache: Cache, members: dict[str, Any]) -> None:
    """Other dimensions, another model, another member."""
    upstream = Embedder()
    await cache.ask(upstream, ["a"])
    await cache.ask(upstream, ["a"], **members)
    assert len(upstream.asked) == 2


async def test_tokens_are_inputs_as_well(cache: Cache) -> None:
    """One array of tokens is one input; an array of arrays is several."""
    upstream = Embedder()
    await cache.ask(upstream, [[1, 2, 3], [4]])
    _, answer = await cache.ask(upstream, [1, 2, 3])
    assert vectors(answer) == [[3, 0.5]]
    assert answer["usage"]["prompt_tokens"] == 3
    assert len(upstream.asked) == 1


async def test_an_answer_that_lacks_an_input_is_an_error_and_not_stored(cache: Cache) -> None:
    """Nobody gets another input's embedding."""
    upstream = Embedder()
    await cache.ask(upstream, ["a"])
    upstream.short = True
    with pytest.raises(UpstreamUnavailable):
        await cache.ask(upstream, ["a", "bb", "ccc"])
    assert await cache.kept.store.count() == 1


async def test_requests_say_what_they_want(cache: Cache) -> None:
    """no-cache, no-store, max-age and only-if-cached hold for batches too."""
    upstream = Embedder()
    for controls in (CacheControls(store=False), CacheControls(ttl=0.0)):
        await cache.ask(upstream, ["a"], controls)
    with pytest.raises(NotCached):
        await cache.ask(upstream, ["a"], CacheControls(only_if_cached=True))
    call, _ = await cache.ask(upstream, ["a"], CacheControls(look_up=False))
    assert call.record.cache == "bypass"
    cache.clock.now += 10
    await cache.ask(upstream, ["a"], CacheControls(max_age=9))
    assert len(upstream.asked) == 4
    call, _ = await cache.ask(upstream, ["a"], CacheControls(only_if_cached=True, max_age=9))
    assert call.record.cache == "hit-exact"


@pytest.mark.parametrize(
    ("raw", "inputs"),
    [
        (b'"one"', [b'"one"']),
        (b'["a", "b"]', [b'"a"', b'"b"']),
        (b"[1, 2]", [b"[1, 2]"]),
        (b"[[1],[2, 3]]", [b"[1]", b"[2, 3]"]),
        (b"5", []),
        (b"[]", []),
        (b'["a", 5]', []),
        (b'["a", null]', []),
        (b'["a", [1]]', []),
        (b'[5, "a"]', []),
        (b"[5, [1]]", []),
        (b"[null]", []),
    ],
)
def test_inputs_are_told_apart(raw: bytes, inputs: list[bytes]) -> None:
    """Texts, arrays of tokens, and what is neither, or both."""
    assert split(raw) == inputs


async def test_what_is_no_batch_is_passed_on_as_it_is(cache: Cache) -> None:
    """No part of it goes upstream, where it would be a good call."""
    upstream = Embedder()
    await cache.ask(upstream, ["a"])
    with pytest.raises(TypeError):  # the embedder's
        await cache.ask(upstream, ["a", 5])
    assert upstream.asked[1:] == [["a", 5]]


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [(10, [1, 1], [5, 5]), (10, [1, 2], [3, 7]), (0, [1, 2], [0, 0]), (5, [0, 0], [3, 2]), (7, [3], [7])],
)
def test_shares_make_the_whole_again(total: int, weights: list[int], parts: list[int]) -> None:
    """No token is lost or counted twice."""
    assert shares(total, weights) == parts
