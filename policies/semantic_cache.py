"""The semantic cache: a question that was asked in other words is answered from what was stored.

What is compared is the last user turn; everything else that was sent must be equal. Similarity finds candidates, and
never decides alone: the pair guard says whether two texts may have one answer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from policies.cache_answers import Stored
from policies.cache_controls import partition_of
from policies.cache_entries import facts_of, stored_in
from policies.cache_kept import Hit
from policies.cache_memory import Ready
from policies.calibration import Calibration
from policies.fingerprint import fingerprint, why_not_shareable
from policies.pair_guard.compare import Judgement
from policies.semantic_kept import TIER, Asked, Pair, SemanticKept, Tally, digest
from policies.semantic_settings import SemanticCacheConfig
from policies.semantic_store import KeepAnswers
from policies.semantic_text import Compared, Eligibility, Unfit
from proxy.call import Call
from proxy.chain import Handler
from proxy.entries import Scored, StoreUnavailable
from proxy.errors import NotCached
from proxy.model_errors import ModelBusy, ModelLoading, ModelUnavailable
from proxy.reply import Reply

GuardsDigest = Callable[[Call], bytes]

_CANDIDATES = 5
_VERSION = b"semantic 1"
_CALLED_WRONG = "called wrong"
_BUGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What a fault of the pair guard would raise: it is a miss then, and counted."""


class Judge(Protocol):
    """Says whether two texts may have the same answer."""

    def judge(self, asked: str, stored: str) -> Judgement:
        """How close they are."""
        ...


class Checker(Protocol):
    """Asks upstream what was served from the cache."""

    def check(self, call: Call, hit: Hit, served: Stored) -> None:
        """Do so later, if this hit is one of the chosen."""
        ...

    async def aclose(self) -> None:
        """Give up what runs."""
        ...


class _Verdict(NamedTuple):
    """What is done about a candidate, and why; `least` is the similarity that it needed before that was raised for its
    partition, 0 for one that had a score.
    """

    action: Literal["serve", "shadow", "ask", "pass"]
    why: str
    least: float = 0.0


class SemanticCache:
    """Answers a call from an entry of its partition that was stored for the same question in other words.

    Without a calibration for the embedder it only looks, as in shadow mode. An embedder or a store that is busy, slow
    or away costs the hits alone: the call goes on, with `bypass`. `guards` is a digest of the guards that a call and
    its answer pass. `now` is Unix time.

    Raises NotCached.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        config: SemanticCacheConfig,
        kept: SemanticKept,
        *,
        judge: Judge,
        eligibility: Eligibility,
        checker: Checker | None,
        calibration: Calibration | None,
        guards: GuardsDigest,
        now: Callable[[], float],
    ) -> None:
        self._config = config
        self._kept = kept
        self._judge = judge
        self._eligibility = eligibility
        self._checker = checker
        self._calibration = calibration or Calibration(same=2, near=2, across=2)
        self._shadow = config.shadow or calibration is None
        self._trial = calibration or Calibration(same=config.candidate_floor, near=1, across=1)
        self._guards = guards
        self._now = now
        self._keep = KeepAnswers(config, kept, now)

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """A stored answer, or next's, which is stored when it is over."""
        record = call.record
        asked = self.asked(call) if call.cache.semantic else Unfit("it asks to be left alone")
        if isinstance(asked, Unfit):
            self._kept.counts.unfit += call.cache.semantic
            record.cache = record.cache or "bypass"
            return await _go_on(call, next)
        vector: Sequence[float] | None = None
        if call.cache.look_up:
            try:
                reply = await self._look_up_same(call, asked)
                if reply is None:
                    vector = await self._kept.embedder.embed(asked.text)
                    reply = await self.look_up(call, asked, vector)
            except (ModelBusy, ModelUnavailable, StoreUnavailable) as error:
                reply = None
                self._note(call, error)
            if reply is not None:
                return reply
        else:
            record.cache = "bypass"
            self._kept.counts.bypassed += 1
        reply = await _go_on(call, next)
        self._keep.when_over(call, asked, vector, reply)
        return reply

    async def aclose(self) -> None:
        """Give up the checks that run."""
        if self._checker is not None:
            await self._checker.aclose()

    def explain(self, call: Call) -> dict[str, Any]:
        """What of a call is compared, and why it would not be."""
        asked = self.asked(call)
        if isinstance(asked, Unfit):
            return {"eligible": False, "why_not": asked.why}
        tally = self._kept.tallies.of(asked.partition)
        return {
            "eligible": True,
            "compared": asked.text,
            "fingerprint": asked.key.hex(),
            "partition": asked.partition,
            "embedder": self._kept.embedder.id,
            "shadow": self._shadow,
            "thresholds": msgspec.structs.asdict(self._calibration),
            "raised": {"by": max(self._config.threshold, call.cache.threshold or 0.0), "checks": tally.raised},
            "off": tally.off,
        }

    def asked(self, call: Call) -> Asked | Unfit:
        """What is looked up for this call, or why nothing is."""
        if call.route.cache_ttl == 0:
            return Unfit("its route's cache_ttl is 0")
        why = why_not_shareable(call, self._config.temperature_ceiling)
        found: Compared | Unfit = Unfit(why) if why is not None else self._eligibility.read(call)
        if isinstance(found, Unfit):
            return found
        partition = partition_of(call.caller, self._config.partition)
        parts = (
            _VERSION,
            self._kept.embedder.id.encode(),
            self._config.language.encode(),
            self._guards(call),
            found.rest,
        )
        equal = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return Asked(found.text, fingerprint(call, partition=partition, guards=equal, without="messages"), partition)

    def _note(self, call: Call, error: Exception) -> None:
        """Why nothing was looked up."""
        record, counts = call.record, self._kept.counts
        if isinstance(error, ModelLoading):  # soon over, and nothing is wrong: what the exact cache said stands
            record.cache = record.cache or "bypass"
            counts.loading += 1
            return
        record.cache = "bypass"
        if isinstance(error, ModelBusy):
            counts.busy += 1
        else:
            counts.unavailable += 1

    async def _look_up_same(self, call: Call, asked: Asked) -> Reply | None:
        """The answer to the very same text, but for Unicode's forms and white space: by its id, without a vector, so
        also while there is no embedder. Raises StoreUnavailable.
        """
        tally = self._kept.tallies.of(asked.partition)
        if self._shadow or tally.off:
            return None
        entry = (await self._kept.store.get((asked.entry,))).get(asked.entry)
        if entry is None or entry.partition != asked.partition or entry.fingerprint != asked.key.hex():
            return None
        counts = self._kept.counts
        reply = self._served(call, asked, Scored(entry, 1.0), self._calibration.same)
        if reply is not None:
            counts.candidates += 1
            counts.hits += 1
            call.record.candidates.append((entry.id, 1.0, "served"))
        return reply

    async def look_up(self, call: Call, asked: Asked, vector: Sequence[float]) -> Reply | None:
        """A stored answer as this call's, if there is one; what was compared is noted. Raises StoreUnavailable."""
        reply = await self._found(call, asked, vector)
        if reply is None:
            self._kept.counts.misses += 1
        return reply

    async def _found(self, call: Call, asked: Asked, vector: Sequence[float]) -> Reply | None:
        candidates = await self._kept.store.query(
            vector,
            partition=asked.partition,
            fingerprint=asked.key.hex(),
            limit=_CANDIDATES,
            floor=self._config.candidate_floor,
        )
        call.record.cache = "miss"
        self._kept.counts.candidates += len(candidates)
        unsure: list[tuple[Scored, _Verdict]] = []
        for candidate in candidates:
            verdict = self._verdict(call, asked, candidate)
            if verdict.action == "ask":
                unsure.append((candidate, verdict))
                continue
            reply = self._concluded(call, asked, candidate, verdict)
            if reply is not None or verdict.action == "shadow":
                for passed_over in unsure:
                    self._concluded(call, asked, *passed_over)
                return reply
        for candidate, verdict in await self._reranked(asked, [each for each, _ in unsure]):
            reply = self._concluded(call, asked, candidate, verdict)
            if reply is not None or verdict.action == "shadow":
                return reply
        return None

    def _concluded(self, call: Call, asked: Asked, candidate: Scored, verdict: "_Verdict") -> Reply | None:
        """Note a candidate, and serve it if that is the verdict."""
        counts = self._kept.counts
        call.record.candidates.append((candidate.entry.id, round(candidate.similarity, 4), verdict.why))
        reply = self._served(call, asked, candidate, verdict.least) if verdict.action == "serve" else None
        counts.hits += reply is not None
        counts.shadow_hits += verdict.action == "shadow"
        counts.rejected += reply is None and verdict.action != "shadow"
        return reply

    def _verdict(self, call: Call, asked: Asked, candidate: Scored) -> "_Verdict":
        meta, tally = candidate.entry.meta, self._kept.tallies.of(asked.partition)
        try:
            judged = self._judge.judge(asked.text, meta["text"])
        except _BUGS:
            self._kept.counts.guard_errors += 1
            return _Verdict("pass", "guard error")
        closeness, why = judged.closeness, judged.reason or judged.closeness
        raised = max(self._config.threshold, call.cache.threshold or 0.0)
        calibration = self._trial if self._shadow else self._calibration
        least = max(calibration.threshold(closeness), raised)
        needed = least + tally.raised
        if closeness == "different" or (self._config.strict and closeness != "same"):
            return _Verdict("pass", why)
        if digest(asked.text) in meta.get("wrong", ()):
            return _Verdict("pass", _CALLED_WRONG)
        if candidate.similarity >= needed:
            return self._passed(tally, least)
        if self._kept.reranker is not None and closeness in ("near", "open") and candidate.similarity >= raised:
            return _Verdict("ask", why)
        return _Verdict("pass", why if closeness == "open" else f"{closeness}, under {needed:.3f}")

    def _passed(self, tally: Tally, least: float, score: str = "") -> "_Verdict":
        if self._shadow or tally.off:
            return _Verdict("shadow", "shadow" + score, least)
        return _Verdict("serve", "served" + score, least)

    async def _reranked(self, asked: Asked, unsure: Sequence[Scored]) -> list[tuple[Scored, "_Verdict"]]:
        """What a model says that reads both texts, best score first. Raises StoreUnavailable."""
        reranker, tally = self._kept.reranker, self._kept.tallies.of(asked.partition)
        if reranker is None or not unsure:
            return []
        try:
            scores = await reranker.scores(asked.text, [each.entry.meta["text"] for each in unsure])
        except (ModelBusy, ModelUnavailable):
            self._kept.counts.not_reranked += 1
            return [(each, _Verdict("pass", "no score")) for each in unsure]
        needed = reranker.threshold + tally.raised
        ranked = sorted(zip(scores, unsure, strict=True), key=lambda each: -each[0])
        standing = await self._kept.store.get([each.entry.id for each in unsure])  # it took a while
        found = []
        for score, candidate in ranked:
            entry = standing.get(candidate.entry.id)
            if entry is None:
                verdict = _Verdict("pass", "gone")
            elif digest(asked.text) in entry.meta.get("wrong", ()):
                verdict = _Verdict("pass", _CALLED_WRONG)
            elif score < needed:
                verdict = _Verdict("pass", f"score {score:.3f}, under {needed:.3f}")
            else:
                verdict = self._passed(tally, 0.0, f", score {score:.3f}")
                candidate = Scored(entry, candidate.similarity)  # noqa: PLW2901 - as it is now
            found.append((candidate, verdict))
        return found

    def _served(self, call: Call, asked: Asked, candidate: Scored, threshold: float) -> Reply | None:
        """The entry as this call's reply; None when it is too old, or has not the shape that is asked for."""
        entry = candidate.entry
        age = max(0.0, self._now() - entry.created)
        if call.cache.max_age is not None and age > call.cache.max_age:
            return None
        stored = stored_in(entry)
        ready = Ready(call.endpoint, stored, facts_of(entry))
        reply = _reply_of(ready, call, {"age": str(int(age))})
        if reply is None:
            return None
        record = call.record
        record.cache, record.similarity = "hit-semantic", candidate.similarity
        record.usage, record.cost, record.saved = ready.usage, 0, ready.facts.cost
        pair = Pair(asked.text, entry.meta["text"], candidate.similarity, asked.partition, entry.route, threshold)
        hit = Hit(TIER, call.caller.partition, call.caller.id, entry.id, pair)
        self._kept.served.note(call.id, hit)
        if self._checker is not None:
            self._checker.check(call, hit, stored)
        return reply


async def _go_on(call: Call, next_handler: Handler) -> Reply:
    if call.cache.only_if_cached:
        raise NotCached("No stored answer may be served for this request.")
    return await next_handler(call)


def _reply_of(ready: Ready, call: Call, headers: Mapping[str, str]) -> Reply | None:
    if not call.head.stream:
        body = ready.whole()
        return None if body is None else Reply.whole(body, headers=headers)
    events = ready.stream(usage=call.head.include_usage)
    return None if events is None else Reply.recorded(events, headers=headers)
