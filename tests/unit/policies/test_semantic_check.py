"""Checks of hits: asked upstream beside the caller, compared, counted."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.calls import Clock, Provider, answers, make_call, make_route

from adapters.qdrant import Collection
from policies.asked_upstream import said
from policies.cache_answers import Stored
from policies.cache_kept import Hit, Served
from policies.cache_writer import CacheWriter
from policies.semantic_check import CheckHits, disagreement
from policies.semantic_judge import AskModel
from policies.semantic_kept import Pair, SemanticCounts, SemanticKept, Tallies, wilson
from proxy.call import Call
from proxy.config import Qdrant
from proxy.errors import UpstreamUnavailable
from proxy.reply import Reply


class Embedder:
    """Similar are only texts with the same first letter."""

    id, size, window = "first", 2, 256
    languages: tuple[str, ...] = ()

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        return (1.0, 0.0) if text[:1].lower() < "n" else (0.0, 1.0)


def stored(text: str) -> Stored:
    return Stored(
        "whole", json.dumps({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}).encode()
    )


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("Paris.", "Paris.", True),
        ("Yes, you can.", "No, you cannot.", False),
        ("It is 42.", "It is 41.", False),
        ("It is 42 km.", "In all, 42.", True),
        ("It is allowed.", "It is not allowed.", False),
        ("A long story about cats", "Quite another thing", False),
        ("Oui.", "Non.", False),
        ("", "", True),
    ],
)
async def test_two_answers_agree_or_not(one: str, other: str, agree: bool) -> None:
    assert (not await disagreement(one, other, Embedder())) is agree


def test_what_a_stream_said_is_put_together() -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("Pa", "ris", None)]
    assert said(Stored("stream", json.dumps([*chunks, {"choices": []}]).encode())) == "Paris"


class Bench:
    """A checker over an empty store."""

    def __init__(
        self,
        folder: Path,
        answer: str,
        *,
        share: float = 1.0,
        fault: Exception | None = None,
        verdict: str | None = None,
    ) -> None:
        store = Collection(folder, 2, Qdrant(), Clock(1000.0), lambda _: 10**11)
        store.open()
        self.kept = SemanticKept(
            store, Embedder(), CacheWriter("w", 10, store), Served(), SemanticCounts(), Tallies(), store._now
        )
        self.answer, self.fault, self.asked = answer, fault, list[Call]()
        self.gate = asyncio.Event()
        self.gate.set()
        self.verdict = verdict
        self.judge_fault: Exception | None = None
        judge = (
            None if verdict is None else AskModel(self.upstream, lambda name: make_route(Provider(answers), name), "j")
        )
        self.checker = CheckHits(
            self.kept, self.upstream, share=share, most_wrong=0.05, random=lambda: 0.5, judge=judge
        )

    async def upstream(self, call: Call) -> Reply:
        self.asked.append(call)
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if call.head.model == "j" and self.judge_fault is not None:
            raise self.judge_fault
        said = self.verdict if call.head.model == "j" else self.answer
        body = {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": "stop"}]}
        return Reply.whole(json.dumps(body).encode())

    async def check(self, served: str) -> Any:
        call = make_call()
        self.checker.check(call, self.hit(), stored(served))
        await asyncio.gather(*self.checker._tasks)
        return call

    def hit(self) -> Hit:
        return Hit("semantic", "p", "k", "e" * 32, Pair("asked", "stored", 0.9, "p", "r", 0.7))


async def test_a_hit_that_agrees_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "Berlin")
    call = await bench.check("Berlin is it")
    assert (bench.kept.counts.checked, bench.kept.counts.disagreed) == (1, 0)
    assert bench.asked[0].record is not call.record  # the caller's record is its own
    assert bench.kept.tallies.of("p").checked == 1


async def test_a_hit_that_disagrees_is_counted_and_kept_for_review(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "No.")
    await bench.check("Yes.")
    assert (bench.kept.counts.checked, bench.kept.counts.disagreed) == (1, 1)
    assert bench.kept.tallies.reviews[0].why == "yes and no"
    assert bench.kept.tallies.of("p").wrong == 1


@pytest.mark.parametrize(
    ("verdict", "fresh", "disagreed"),
    [
        ("Yes.", "It is 41.", 0),
        ("no", "In all, 42.", 1),
        ("**No.**", "In all, 42.", 1),
        ("There is no difference, so yes.", "It is 41.", 1),
        ("Yes", "It is 42.", 0),
    ],
    ids=["overrules", "finds", "wrapped", "argues", "not needed"],
)
async def test_a_judge_has_the_last_word_where_it_has_one(
    tmp_path: Path, verdict: str, fresh: str, disagreed: int
) -> None:
    """Else what can be computed counts, as without it. Of equal answers it is not asked."""
    bench = Bench(tmp_path, fresh, verdict=verdict)
    await bench.check("It is 42.")
    assert (bench.kept.counts.checked, bench.kept.counts.disagreed) == (1, disagreed)
    assert bench.kept.counts.not_judged == verdict.startswith("There")
    assert [call.head.model for call in bench.asked[1:]] == ([] if fresh == "It is 42." else ["j"])


async def test_the_judge_is_told_the_question_and_both_answers_and_nothing_of_the_call(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "It is 41.", verdict="yes")
    await bench.check("It is 42." + "x" * 10_000)
    asked = bench.asked[1]
    assert not asked.headers
    body = json.loads(asked.body)
    assert (body["model"], [message["role"] for message in body["messages"]]) == ("j", ["system", "user"])
    told = json.loads(body["messages"][1]["content"])
    assert told == {"question": "asked", "first": ("It is 42." + "x" * 10_000)[:4000], "second": "It is 41."}


async def test_a_judge_that_fails_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "It is 41.", verdict="yes")
    bench.judge_fault = UpstreamUnavailable("no", kind="status")
    await bench.check("It is 42.")
    assert (bench.kept.counts.checked, bench.kept.counts.disagreed, bench.kept.counts.not_judged) == (1, 1, 1)


async def test_only_the_chosen_share_is_checked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "x", share=0.4)
    await bench.check("x")
    assert not bench.asked


async def test_an_upstream_that_fails_says_nothing_of_the_hit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "x", fault=UpstreamUnavailable("no", kind="status"))
    await bench.check("x")
    assert (bench.kept.counts.checked, bench.kept.counts.check_failed) == (0, 1)
    assert bench.kept.tallies.of("p").checked == 0


async def test_few_checks_run_at_a_time(tmp_path: Path) -> None:
    """A slow provider must not gather checks without end; and the end gives them up."""
    bench = Bench(tmp_path, "x")
    bench.gate.clear()
    for _ in range(20):
        bench.checker.check(make_call(), bench.hit(), stored("x"))
    await asyncio.sleep(0)
    assert len(bench.asked) == 4
    await bench.checker.aclose()
    assert bench.kept.counts.checked == 0


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Against the values of Wilson's formula as published (Brown, Cai, DasGupta 2001: 5 of 10 and 0 of 10)."""
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)


def test_a_few_wrong_hits_among_many_change_nothing() -> None:
    tallies = Tallies()
    for number in range(400):
        tallies.note("p", wrong=number % 100 == 0, most_wrong=0.05, threshold=0.7)
    assert (tallies.of("p").raised, tallies.of("p").off, tallies.of("p").wrong) == (0.0, False, 4)


def test_nothing_is_concluded_from_few_checks() -> None:
    tallies = Tallies()
    for _ in range(9):
        tallies.note("p", wrong=True, most_wrong=0.05, threshold=0.7)
    assert tallies.of("p").raised == 0
    tallies.note("p", wrong=True, most_wrong=0.05, threshold=0.7)
    assert tallies.of("p").raised > 0
