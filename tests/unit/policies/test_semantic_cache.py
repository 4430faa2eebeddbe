"""The semantic cache over Qdrant's embedded engine, a small embedder and a scripted handler."""

import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from support.calls import Clock, Provider, answers, make_call, make_route

from adapters.qdrant import Collection
from policies.cache_answers import Stored
from policies.cache_kept import Hit, Served
from policies.cache_writer import CacheWriter
from policies.calibration import Calibration
from policies.pair_guard.compare import Judgement, PairGuard
from policies.pair_guard.tables import Tables
from policies.semantic_cache import Judge, SemanticCache
from policies.semantic_kept import SemanticCounts, SemanticKept, Tallies
from policies.semantic_settings import SemanticCacheConfig
from policies.semantic_text import Eligibility, Words
from proxy.call import CacheControls, Call, Caller, Verdict
from proxy.config import Qdrant
from proxy.entries import EVERYTHING, Selection, StoreUnavailable
from proxy.errors import NotCached
from proxy.model_errors import ModelBusy, ModelLoading, ModelUnavailable
from proxy.reply import Reply
from proxy.sse import DONE_ITEM, frame
from proxy.values import Duration, Size

ROUTE = make_route(Provider(answers), "gpt")
TABLES = Tables.load()
ASKED = "How do I change my password?"
AGAIN = "What is the best way to change my password?"
OTHER = "How do I change my address?"
CALIBRATION = Calibration(same=0.7, near=0.9, across=0.8)
RENEW = {
    "paper": "What is the paperwork for renewing my passport?",
    "abroad": "Who renews my passport when I am living abroad?",
}
HOW = "How do I renew my passport before it is running out?"


def answer(text: str, **members: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **members}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    ).encode()


def ask(text: str = ASKED, *, history: Sequence[dict[str, Any]] = (), **members: Any) -> Call:
    return make_call(
        route=members.pop("route", ROUTE),
        caller=members.pop("caller", None),
        messages=[*history, {"role": "user", "content": text}],
        **members,
    )


class Letters:
    """An embedder that counts letters: texts of like letters are similar. It can be told to fail."""

    id, size, window = "letters", 26, 256
    languages: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None

    async def embed(self, text: str, *, patient: bool = False) -> list[float]:
        self.asked.append(text)
        if self.fault is not None and not (patient and isinstance(self.fault, ModelLoading)):
            raise self.fault
        counts = [float(text.lower().count(chr(97 + k))) for k in range(26)]
        norm = math.sqrt(sum(each * each for each in counts)) or 1.0
        return [each / norm for each in counts]


class Scores:
    """A reranker with a score for each stored text. It can be told to fail, or to do something meanwhile."""

    threshold = 0.9

    def __init__(self, **scores: float) -> None:
        self.by_text = {RENEW[name]: score for name, score in scores.items()}
        self.asked: list[tuple[str, list[str]]] = []
        self.fault: Exception | None = None
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def scores(self, asked: str, stored: Sequence[str]) -> list[float]:
        self.asked.append((asked, list(stored)))
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.fault is not None:
            raise self.fault
        return [self.by_text.get(text, 0.0) for text in stored]


class Noted:
    """A checker that only notes what it was told."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []

    def check(self, call: Call, hit: Hit, served: Stored) -> None:
        self.hits.append(hit)

    async def aclose(self) -> None:
        self.hits.clear()


class Cache:
    """The policy with all it stands on."""

    def __init__(
        self,
        store: Collection,
        calibration: Calibration | None = CALIBRATION,
        judge: Judge | None = None,
        embedder: Letters | None = None,
        reranker: Scores | None = None,
        **settings: Any,
    ) -> None:
        self.clock: Clock = store._now  # type: ignore[assignment]
        self.guards = b"g"
        self.embedder, self.checker, self.answers = embedder or Letters(), Noted(), 0
        writer = CacheWriter("semantic_cache", 10**7, store)
        self.kept = SemanticKept(
            store, self.embedder, writer, Served(), SemanticCounts(), Tallies(), self.clock, reranker
        )
        self.policy = SemanticCache(
            SemanticCacheConfig(**{"candidate_floor": 0.5, **settings}),
            self.kept,
            judge=judge or PairGuard(TABLES),
            eligibility=Eligibility(Words.load(), 256),
            checker=self.checker,
            calibration=calibration,
            guards=lambda _: self.guards,
            now=self.clock,
        )
        self.body = answer("yes")
        self.facts: dict[str, Any] = {"cost": 700}

    async def upstream(self, call: Call) -> Reply:
        self.answers += 1
        for name, value in self.facts.items():
            setattr(call.record, name, value)
        return Reply.whole(self.body)

    async def ask(self, call: Call, *, outcome: Any = "complete") -> str:
        """What the record says of the cache, once the call is over and stored."""
        reply = await self.policy(call, self.upstream)
        self.said = b"".join([item async for item in reply.items])
        self.headers = reply.headers
        await reply.aclose(outcome)
        await self.kept.writer.emptied()
        return call.record.cache


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Collection]:
    made = Collection(tmp_path, 26, Qdrant(), Clock(1000.0), lambda _: 10**11)
    made.open()
    yield made
    made.close()


@pytest.fixture
async def cache(store: Collection) -> AsyncIterator[Cache]:
    async with running(Cache(store)) as made:
        yield made


@contextlib.asynccontextmanager
async def running(made: Cache) -> AsyncIterator[Cache]:
    await made.kept.writer.start()
    yield made
    await made.kept.writer.aclose()


async def test_the_same_question_in_other_words_is_answered_without_asking(cache: Cache) -> None:
    """The stored bytes, at no cost, with how similar and how old."""
    assert await cache.ask(ask()) == "miss"
    first, cache.clock.now = cache.said, 1042.0
    again = ask(AGAIN)
    assert await cache.ask(again) == "hit-semantic"
    assert (cache.said, cache.answers) == (first, 1)
    record = again.record
    assert 0.7 < (record.similarity or 0) < 1
    assert (record.cost, record.saved, record.usage and record.usage.completion) == (0, 700, 2)
    assert [verdict for _, _, verdict in record.candidates] == ["served"]
    assert cache.headers["age"] == "42"


async def test_the_same_text_needs_no_embedder(cache: Cache) -> None:
    """White space and Unicode's forms do not make it another; case and punctuation do, and only the pair guard decides."""
    await cache.ask(ask("Où est le café ?"))
    cache.embedder.asked.clear()
    cache.embedder.fault = ModelUnavailable("away")
    again = ask(" Où est  le cafe\u0301 ?\n")
    assert await cache.ask(again) == "hit-semantic"
    assert (again.record.similarity, again.record.candidates[0][2], cache.embedder.asked) == (1.0, "served", [])
    assert await cache.ask(ask("Où est le Café ?")) == "bypass"


async def test_a_hit_may_be_a_stream(cache: Cache) -> None:
    await cache.ask(ask())
    assert await cache.ask(ask(AGAIN, stream=True)) == "hit-semantic"
    assert cache.said.endswith(DONE_ITEM)


async def test_a_question_that_differs_in_one_word_is_asked(cache: Cache) -> None:
    await cache.ask(ask())
    other = ask(OTHER)
    assert await cache.ask(other) == "miss"
    assert other.record.candidates[0][2].startswith("words")
    assert cache.kept.counts.rejected == 1


async def test_a_candidate_that_is_rejected_is_not_the_end(cache: Cache) -> None:
    """The most similar one may be a trap, and the next one right."""
    await cache.ask(ask("How do I not change my password?"))
    await cache.ask(ask(AGAIN))
    asked = ask()
    assert await cache.ask(asked) == "hit-semantic"
    assert [verdict for *_, verdict in asked.record.candidates] == ["negation", "served"]


SYSTEM = [{"role": "system", "content": "Be brief."}]
TOLD = [{"role": "user", "content": "I use Linux."}, {"role": "assistant", "content": "Good."}]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"caller": Caller(id="b", partition="b")},
        {"route": make_route(Provider(answers), "another")},
        {"history": SYSTEM},
        {"history": TOLD},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"temperature": 0.1},
        {"seed": 7},
        {"never_heard_of": 1},
    ],
    ids=lambda given: next(iter(given)),
)
async def test_everything_but_the_last_question_must_be_equal(cache: Cache, elsewhere: dict[str, Any]) -> None:
    await cache.ask(ask())
    assert await cache.ask(ask(AGAIN, **elsewhere)) == "miss"
    assert await cache.ask(ask(**elsewhere)) == "hit-semantic"  # from the entry made a line above


async def test_a_namespace_narrows_the_partition(cache: Cache) -> None:
    await cache.ask(ask())
    assert await cache.ask(ask(AGAIN).replace(cache=CacheControls(namespace="n"))) == "miss"


async def test_changed_guards_begin_anew(cache: Cache) -> None:
    await cache.ask(ask())
    cache.guards = b"tighter"
    assert await cache.ask(ask(AGAIN)) == "miss"


async def test_entries_end_with_their_time(cache: Cache) -> None:
    await cache.ask(ask().replace(cache=CacheControls(ttl=60)))
    cache.clock.now += 59
    assert await cache.ask(ask(AGAIN).replace(cache=CacheControls(store=False))) == "hit-semantic"
    cache.clock.now += 2
    assert await cache.ask(ask(AGAIN).replace(cache=CacheControls(store=False))) == "miss"


@pytest.mark.parametrize(
    ("asked", "route", "lasts"),
    [(None, None, 100), (50, None, 50), (500, None, 200), (None, "30s", 30), (60, "30s", 60)],
    ids=["configured", "asked for", "no longer than may be", "the route's", "asked for over the route's"],
)
async def test_whose_time_counts(store: Collection, asked: float | None, route: str | None, lasts: int) -> None:
    async with running(Cache(store, ttl=Duration(100), max_ttl=Duration(200))) as cache:
        cache_ttl = None if route is None else Duration.parse(route)
        own = make_route(Provider(answers), "gpt", cache_ttl=cache_ttl)
        await cache.ask(ask(route=own).replace(cache=CacheControls(ttl=asked)))
        for passes, expected in ((lasts - 1, "hit-semantic"), (1, "miss")):
            cache.clock.now += passes
            assert await cache.ask(ask(AGAIN, route=own).replace(cache=CacheControls(store=False))) == expected


async def test_an_answer_over_the_cap_is_not_stored(store: Collection) -> None:
    async with running(Cache(store, max_answer=Size(len(answer("yes"))))) as cache:
        cache.body = answer("yes!")
        await cache.ask(ask())
        assert cache.kept.counts.stored == 0
        cache.body = answer("yes")
        await cache.ask(ask())
        assert cache.kept.counts.stored == 1


class Alike(Letters):
    """Every text is similar to every other."""

    async def embed(self, text: str, *, patient: bool = False) -> list[float]:
        return [1.0] + [0.0] * 25


@pytest.mark.parametrize(("language", "expected"), [("any", "hit-semantic"), ("same", "miss")])
async def test_an_answer_in_another_language_is_served_only_where_that_is_configured(
    store: Collection, language: Literal["any", "same"], expected: str
) -> None:
    async with running(Cache(store, judge=PairGuard(TABLES, language), embedder=Alike(), language=language)) as cache:
        await cache.ask(ask(OTHER))
        assert await cache.ask(ask("Comment changer mon adresse ?")) == expected


async def test_a_route_may_stay_out(cache: Cache) -> None:
    route = make_route(Provider(answers), "gpt", cache_ttl=Duration.parse("0s"))
    assert await cache.ask(ask(route=route)) == "bypass"
    assert not cache.embedder.asked


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (CacheControls(look_up=False), "bypass"),
        (CacheControls(semantic=False), "bypass"),
        (CacheControls(max_age=5.0), "miss"),
        (CacheControls(threshold=0.9999), "miss"),
        (CacheControls(threshold=0.1), "hit-semantic"),
        (CacheControls(store=False), "hit-semantic"),
        (CacheControls(only_if_cached=True), "hit-semantic"),
    ],
)
async def test_a_request_has_its_say(cache: Cache, controls: CacheControls, expected: str) -> None:
    """A threshold is raised by it and never lowered."""
    await cache.ask(ask())
    cache.clock.now += 10
    assert await cache.ask(ask(AGAIN).replace(cache=controls)) == expected


async def test_only_if_cached_asks_nobody(cache: Cache) -> None:
    with pytest.raises(NotCached):
        await cache.ask(ask().replace(cache=CacheControls(only_if_cached=True)))
    assert cache.answers == 0


async def test_what_the_configuration_asks_for_is_never_less_than_calibrated(store: Collection) -> None:
    async with running(Cache(store, threshold=0.1, calibration=Calibration(same=0.999, near=1, across=1))) as strict:
        await strict.ask(ask())
        assert await strict.ask(ask(AGAIN)) == "miss"


NOT_KEPT = {
    "cut": answer("ye", finish_reason="length"),
    "filtered": answer("", finish_reason="content_filter"),
    "a tool": json.dumps(
        {"choices": [{"index": 0, "message": {"role": "assistant", "tool_calls": [{}]}, "finish_reason": "tool_calls"}]}
    ).encode(),
    "no answer": b"<html>",
}


@pytest.mark.parametrize("kind", NOT_KEPT)
async def test_only_complete_answers_are_stored(cache: Cache, kind: str) -> None:
    cache.body = NOT_KEPT[kind]
    await cache.ask(ask())
    assert await cache.ask(ask(AGAIN)) == "miss"
    assert (cache.kept.counts.stored, cache.kept.counts.not_kept) == (0, 2)


@pytest.mark.parametrize("outcome", ["client_disconnect", "upstream_interrupted", "guard_blocked", "error"])
async def test_a_call_that_did_not_end_well_is_not_stored(cache: Cache, outcome: str) -> None:
    await cache.ask(ask(), outcome=outcome)
    assert cache.kept.counts.stored == 0


async def test_a_flagged_answer_and_a_fallback_are_not_stored(cache: Cache) -> None:
    cache.facts = {"guards": [Verdict("secrets", "flag", "output")]}
    await cache.ask(ask())
    cache.facts = {"fallbacks": 1}
    await cache.ask(ask("How do I bake bread?"))
    assert cache.kept.counts.stored == 0


@pytest.mark.parametrize("controls", [CacheControls(store=False), CacheControls(ttl=0.0)], ids=["no-store", "ttl 0"])
async def test_no_store_keeps_nothing(cache: Cache, controls: CacheControls) -> None:
    await cache.ask(ask().replace(cache=controls))
    assert cache.kept.counts.stored == 0


async def test_a_sampled_call_is_passed_by(store: Collection) -> None:
    async with running(Cache(store, temperature_ceiling=0.5)) as cache:
        assert await cache.ask(ask()) == "bypass"
        assert await cache.ask(ask(temperature=0.5)) == "miss"


@pytest.mark.parametrize("fault", [ModelBusy(), ModelUnavailable("away")], ids=["busy", "away"])
async def test_without_a_vector_the_call_goes_on(cache: Cache, fault: Exception) -> None:
    await cache.ask(ask())
    cache.embedder.fault = fault
    assert await cache.ask(ask(AGAIN)) == "bypass"
    assert cache.kept.counts.busy + cache.kept.counts.unavailable == 1
    cache.embedder.fault = None
    assert await cache.ask(ask(AGAIN)) == "hit-semantic"


async def test_while_a_model_is_loaded_answers_are_stored_all_the_same(cache: Cache) -> None:
    """And what the exact cache said of the call stands."""
    cache.embedder.fault = ModelLoading("a moment")
    call = ask()
    call.record.cache = "miss"
    assert await cache.ask(call) == "miss"
    cache.embedder.fault = None
    assert await cache.ask(ask(AGAIN)) == "hit-semantic"


async def test_without_a_store_the_call_goes_on(store: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    async with running(Cache(store)) as cache:
        monkeypatch.setattr(store, "query", away)
        monkeypatch.setattr(store, "put", away)
        assert await cache.ask(ask()) == "bypass"
        assert (cache.kept.counts.unavailable, cache.kept.writer.failed) == (1, 1)
        monkeypatch.undo()
        assert await cache.ask(ask()) == "miss"


async def test_a_fault_of_the_pair_guard_is_a_miss(store: Collection) -> None:
    class Broken:
        def judge(self, asked: str, stored: str) -> Judgement:
            raise IndexError

    async with running(Cache(store, judge=Broken())) as cache:
        await cache.ask(ask())
        assert await cache.ask(ask(AGAIN)) == "miss"
        assert cache.kept.counts.guard_errors == 1


async def test_in_shadow_nothing_is_served(store: Collection) -> None:
    async with running(Cache(store, shadow=True)) as cache:
        await cache.ask(ask())
        asked = ask(AGAIN)
        assert await cache.ask(asked) == "miss"
        assert asked.record.candidates[0][2] == "shadow"
        assert cache.kept.counts.shadow_hits == 1


async def test_an_embedder_without_a_calibration_only_looks(store: Collection) -> None:
    async with running(Cache(store, calibration=None)) as cache:
        await cache.ask(ask())
        assert await cache.ask(ask(AGAIN)) == "miss"
        assert cache.kept.counts.shadow_hits == 1


async def test_strictly_nothing_near_is_served(store: Collection) -> None:
    one, other = "What are some inspiring books for students?", "What are the most inspiring books for students?"
    for strict, expected in ((False, "hit-semantic"), (True, "miss")):
        async with running(
            Cache(store, strict=strict, calibration=Calibration(same=0.5, near=0.5, across=0.5))
        ) as cache:
            await store.delete(EVERYTHING)
            await cache.ask(ask(one))
            assert await cache.ask(ask(other)) == expected


async def test_a_pair_that_was_called_wrong_is_not_served_again(cache: Cache) -> None:
    """The entry still answers others, and the error counts against the partition."""
    await cache.ask(ask())
    hit = ask(AGAIN).replace(id="1" * 32)
    await cache.ask(hit)
    remembered = cache.kept.served.find(hit.id)
    assert remembered is not None
    await cache.kept.wrong(remembered)
    again = ask(AGAIN).replace(cache=CacheControls(store=False))
    assert await cache.ask(again) == "miss"
    assert again.record.candidates[0][2] == "called wrong"
    assert await cache.ask(ask("How can I change my password?")) == "hit-semantic"
    assert cache.kept.counts.reported == 1
    assert cache.kept.tallies.of("").reported == 1
    assert cache.kept.tallies.reviews[0].asked == AGAIN


REPLACED = {"asked anew": CacheControls(look_up=False), "expired": CacheControls(ttl=10)}


@pytest.mark.parametrize("how", REPLACED)
async def test_what_was_called_wrong_stays_so_when_the_entry_is_replaced(cache: Cache, how: str) -> None:
    """Every pair of it, not the last one alone: by another hit, by an answer that is newer, and past its time."""
    third = "How can I change my password?"
    await cache.ask(ask().replace(cache=CacheControls(ttl=10)))
    hits = []
    for number, text in enumerate((AGAIN, third)):
        hit = ask(text).replace(id=str(number) * 32)
        assert await cache.ask(hit) == "hit-semantic"
        hits.append(cache.kept.served.find(hit.id))
    for found in hits:
        assert found is not None
        await cache.kept.wrong(found)
    cache.clock.now += 5 if how == "asked anew" else 20
    await cache.ask(ask().replace(cache=REPLACED[how]))
    for text in (AGAIN, third):
        again = ask(text).replace(cache=CacheControls(store=False))
        assert await cache.ask(again) == "miss"
        assert again.record.candidates[0][2] == "called wrong"
    assert await cache.ask(ask()) == "hit-semantic"


async def test_a_wrong_answer_to_the_very_question_goes_and_the_next_is_served(cache: Cache) -> None:
    await cache.ask(ask())
    hit = ask().replace(id="1" * 32)
    await cache.ask(hit)
    found = cache.kept.served.find(hit.id)
    assert found is not None
    await cache.kept.wrong(found)
    assert [await cache.ask(ask()) for _ in range(2)] == ["miss", "hit-semantic"]
    assert cache.answers == 2


async def test_a_partition_whose_hits_are_wrong_must_be_more_similar_and_then_goes_without(cache: Cache) -> None:
    await cache.ask(ask())
    tallies = cache.kept.tallies
    for _ in range(10):
        tallies.note("", wrong=True, most_wrong=0.05, threshold=0.7)
    assert tallies.of("").raised > 0
    assert not tallies.of("").off
    for _ in range(200):
        tallies.note("", wrong=True, most_wrong=0.05, threshold=0.7)
    assert tallies.of("").off
    assert await cache.ask(ask(AGAIN)) == "miss"
    assert tallies.of("another").raised == 0


async def test_hits_are_offered_to_be_checked(cache: Cache) -> None:
    await cache.ask(ask())
    await cache.ask(ask(AGAIN))
    assert len(cache.checker.hits) == 1
    await cache.policy.aclose()
    assert not cache.checker.hits


async def test_the_operator_sees_and_clears(cache: Cache) -> None:
    await cache.ask(ask())
    stats = await cache.kept.stats()
    assert (stats["entries"], stats["stored"], stats["embedder"]) == (1, 1, "letters")
    assert cache.policy.explain(ask())["compared"] == ASKED
    assert cache.policy.explain(ask("What time is it now?")) == {
        "eligible": False,
        "why_not": "its answer may change with time",
    }
    assert await cache.kept.clear(Selection(route=ROUTE.name)) == 1
    assert await cache.ask(ask(AGAIN)) == "miss"


async def test_what_came_as_a_stream_answers_whole(cache: Cache) -> None:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": "yes"}, None), ({}, "stop")]
    items = [
        frame(json.dumps({**head, "choices": [{"index": 0, "delta": d, "finish_reason": f}]}).encode())
        for d, f in deltas
    ]

    async def upstream(call: Call) -> Reply:
        async def each() -> AsyncIterator[bytes]:
            for item in (*items, DONE_ITEM):
                yield item

        return Reply(each(), streaming=True)

    cache.upstream = upstream  # type: ignore[method-assign]
    await cache.ask(ask(stream=True))
    assert await cache.ask(ask(AGAIN)) == "hit-semantic"
    assert json.loads(cache.said)["choices"][0]["message"]["content"] == "yes"


async def reranked(store: Collection, reranker: Scores, call: Call, **settings: Any) -> tuple[str, Cache]:
    """What becomes of a call after two questions that its words neither match nor contradict."""
    async with running(Cache(store, reranker=reranker, **{"candidate_floor": 0.3, **settings})) as cache:
        for text in RENEW.values():
            cache.body = answer(text)
            await cache.ask(ask(text).replace(cache=CacheControls(look_up=False)))
        return await cache.ask(call), cache


async def test_where_words_do_not_tell_the_reranker_does(store: Collection) -> None:
    """The best score is served, not the most similar text; what was compared is noted, and the hit is one like others."""
    scores, call = Scores(paper=0.95, abroad=0.97), ask(HOW)
    said, cache = await reranked(store, scores, call)
    assert said == "hit-semantic"
    assert json.loads(cache.said)["choices"][0]["message"]["content"] == RENEW["abroad"]
    assert [(asked, set(stored)) for asked, stored in scores.asked] == [(HOW, set(RENEW.values()))]
    assert [why for _, _, why in call.record.candidates] == ["served, score 0.970"]
    assert (cache.kept.counts.hits, cache.kept.counts.misses) == (1, 0)
    assert cache.checker.hits[0].about.threshold == 0


async def test_under_its_threshold_nothing_is_served(store: Collection) -> None:
    call = ask(HOW)
    said, cache = await reranked(store, Scores(paper=0.89, abroad=0.2), call)
    assert said == "miss"
    assert [why for _, _, why in call.record.candidates] == [
        "score 0.890, under 0.900",
        "score 0.200, under 0.900",
    ]
    assert cache.kept.counts.rejected == 2


@pytest.mark.parametrize("fault", [ModelBusy(), ModelUnavailable("away")], ids=repr)
async def test_without_a_score_the_call_goes_on(store: Collection, fault: Exception) -> None:
    """As if there were no reranker; it is a miss, and no bypass, since the store did answer."""
    scores = Scores(paper=1.0)
    scores.fault = fault
    said, cache = await reranked(store, scores, ask(HOW))
    assert said == "miss"
    assert cache.kept.counts.not_reranked == 1


async def test_what_contradicts_is_never_put_to_the_reranker(store: Collection) -> None:
    scores = Scores(paper=1.0, abroad=1.0)
    said, _ = await reranked(store, scores, ask("How do I renew my passport before 2027, if it is not running out?"))
    assert (said, scores.asked) == ("miss", [])


async def test_a_pair_that_is_near_but_not_similar_enough_is_put_to_it(store: Collection) -> None:
    one, other = "What are some inspiring books for students?", "What are the most inspiring books for students?"
    scores = Scores()
    scores.by_text = {one: 0.95}
    async with running(Cache(store, Calibration(same=0.5, near=1.5, across=2), reranker=scores)) as cache:
        await cache.ask(ask(one))
        assert await cache.ask(ask(other)) == "hit-semantic"


@pytest.mark.parametrize(
    ("settings", "controls"),
    [
        ({"strict": True}, CacheControls()),
        ({"threshold": 0.99}, CacheControls()),
        ({}, CacheControls(threshold=0.99)),
    ],
    ids=["strict", "configured", "asked for"],
)
async def test_the_reranker_lowers_nothing_that_was_asked_for(
    store: Collection, settings: dict[str, Any], controls: CacheControls
) -> None:
    """Not even by being sure."""
    scores = Scores(paper=1.0, abroad=1.0)
    said, _ = await reranked(store, scores, ask(HOW).replace(cache=controls), **settings)
    assert (said, scores.asked) == ("miss", [])


async def test_in_shadow_the_reranker_serves_nothing(store: Collection) -> None:
    call = ask(HOW)
    said, cache = await reranked(store, Scores(paper=0.95), call, shadow=True)
    assert said == "miss"
    assert cache.kept.counts.shadow_hits == 1
    assert call.record.candidates[0][2] == "shadow, score 0.950"


async def test_what_went_while_the_reranker_was_asked_is_not_served(store: Collection) -> None:
    scores = Scores(paper=0.95)
    scores.meanwhile = lambda: store.delete(EVERYTHING)
    said, _ = await reranked(store, scores, ask(HOW))
    assert said == "miss"


async def test_what_was_stored_anew_while_the_reranker_was_asked_is_served_anew(store: Collection) -> None:
    """And not as it was before."""
    scores = Scores(paper=0.95)
    async with running(Cache(store, reranker=scores, candidate_floor=0.3)) as cache:
        await cache.ask(ask(RENEW["paper"]))

        async def anew() -> None:
            await store.delete(EVERYTHING)
            cache.body = answer("new")
            scores.meanwhile = None
            await cache.ask(ask(RENEW["paper"]))

        scores.meanwhile = anew
        assert await cache.ask(ask(HOW)) == "hit-semantic"
        assert json.loads(cache.said)["choices"][0]["message"]["content"] == "new"


async def test_wrong_scores_do_not_turn_a_partition_off(store: Collection) -> None:
    """They ask for more; the same words are served all the same."""
    async with running(Cache(store, reranker=Scores(paper=0.99), candidate_floor=0.3)) as cache:
        await cache.ask(ask(RENEW["paper"]))
        for _ in range(100):
            cache.kept.tallies.note("", wrong=True, most_wrong=0.05, threshold=0.0)
        assert not cache.kept.tallies.of("").off
        assert await cache.ask(ask(HOW).replace(cache=CacheControls(store=False))) == "miss"


class Told:
    """A judge that says of stored texts what it is told."""

    def __init__(self, **by_word: Literal["same", "open"]) -> None:
        self.by_word = by_word

    def judge(self, asked: str, stored: str) -> Judgement:
        return next(Judgement(said) for word, said in self.by_word.items() if word in stored)


async def test_a_candidate_that_was_passed_over_is_noted(store: Collection) -> None:
    """The more similar one, of which the words do not tell, when the next is served."""
    call = ask("Where is my passport renewed?")
    judge = Told(papers="same", passports="open")
    async with running(Cache(store, reranker=Scores(), judge=judge, candidate_floor=0.1)) as cache:
        for text in ("Where are my passports renewed?", "Where do papers get renewed for me in a hurry?"):
            await cache.ask(ask(text).replace(cache=CacheControls(look_up=False)))
        assert await cache.ask(call) == "hit-semantic"
        assert [why for _, _, why in call.record.candidates] == ["served", "open"]
        assert (cache.kept.counts.candidates, cache.kept.counts.hits, cache.kept.counts.rejected) == (2, 1, 1)


async def test_a_partition_whose_hits_are_wrong_needs_a_higher_score(store: Collection) -> None:
    async with running(Cache(store, reranker=Scores(paper=0.91), candidate_floor=0.3)) as cache:
        await cache.ask(ask(RENEW["paper"]))
        again = ask(HOW).replace(cache=CacheControls(store=False))
        assert await cache.ask(again) == "hit-semantic"
        for _ in range(10):
            cache.kept.tallies.note("", wrong=True, most_wrong=0.05, threshold=0.9)
        assert await cache.ask(again) == "miss"
