"""The semantic cache: a question that was asked in other words is answered from what was stored.

What is compared is the last user turn; everything else that was sent must be equal. Similarity finds candidates, and
never decides alone: the pair guard says whether two texts may have one answer.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from policies.cache_answers import Stored, keep
from policies.cache_controls import PartitionBy, partition_of
from policies.cache_entries import Collected, bytes_held, entry_for, facts_of, is_vouched_for, stored_in, told_of
from policies.cache_kept import Hit
from policies.cache_memory import Ready
from policies.calibration import Calibration
from policies.embedder import EmbedderConfig, UseEmbedder
from policies.fingerprint import fingerprint, why_not_shareable
from policies.pair_guard.compare import Judgement
from policies.semantic_kept import Pair, SemanticKept, digest
from policies.semantic_text import Compared, Eligibility, Unfit
from proxy.call import Call, Outcome
from proxy.chain import Handler
from proxy.entries import Entry, Scored, StoreUnavailable
from proxy.errors import NotCached
from proxy.reply import Reply
from proxy.values import Duration, Size, duration, size
from proxy.vectors import EmbedderBusy, EmbedderLoading, EmbedderUnavailable

GuardsDigest = Callable[[Call], bytes]

_TIER = "semantic"
_OK = 200
_CANDIDATES = 5
_VERSION = b"semantic 1"
_BUGS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
"""What a fault of the pair guard would raise: it is a miss then, and counted."""


class CheckConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A share of the hits is asked upstream too, when nobody waits; the answers should agree.

    `most_wrong` is the share of wrong hits that a partition may have before its threshold is raised.
    """

    share: float = 0.01
    most_wrong: float = 0.05


class SemanticCacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which answers are kept, for how long and for whom, and how close a question must be.

    `candidate_floor` is the similarity from which an entry is looked at. `threshold` raises the calibrated one; it
    cannot lower it. `strict` serves only pairs that say the same word for word. `shadow` looks up and never serves.
    """

    embedder: EmbedderConfig = msgspec.field(default_factory=UseEmbedder)
    calibration: Calibration | None = None
    ttl: Duration = duration("1h")
    max_ttl: Duration = duration("7d")
    partition: PartitionBy = "tenant"
    candidate_floor: float = 0.70
    threshold: float = 0.0
    language: Literal["same", "any"] = "same"
    strict: bool = False
    shadow: bool = False
    temperature_ceiling: float = 1.0
    tool_calls: bool = False
    max_answer: Size = size("1MB")
    check: CheckConfig = msgspec.field(default_factory=CheckConfig)


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


class Asked(NamedTuple):
    """One eligible call as it is looked up."""

    text: str
    key: bytes
    partition: str

    @property
    def entry(self) -> str:
        """The id of the entry for its answer."""
        return hashlib.sha256(self.key + unicodedata.normalize("NFC", self.text).encode()).hexdigest()[:32]


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
            except (EmbedderBusy, EmbedderUnavailable, StoreUnavailable) as error:
                reply = None
                self._note(call, error)
            if reply is not None:
                return reply
        else:
            record.cache = "bypass"
            self._kept.counts.bypassed += 1
        reply = await _go_on(call, next)
        if call.cache.store and self._ttl(call) > 0 and reply.status == _OK and not record.fallbacks:
            self._keep_when_over(call, asked, vector, reply)
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
        if isinstance(error, EmbedderLoading):  # soon over, and nothing is wrong: what the exact cache said stands
            record.cache = record.cache or "bypass"
            counts.loading += 1
            return
        record.cache = "bypass"
        if isinstance(error, EmbedderBusy):
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
        reply = self._served(call, asked, Scored(entry, 1.0), self._calibration.same + tally.raised)
        if reply is not None:
            counts.candidates += 1
            counts.hits += 1
            call.record.candidates.append((entry.id, 1.0, "served"))
        return reply

    async def look_up(self, call: Call, asked: Asked, vector: Sequence[float]) -> Reply | None:
        """A stored answer as this call's, if there is one; what was compared is noted. Raises StoreUnavailable."""
        record, counts = call.record, self._kept.counts
        found = await self._kept.store.query(
            vector,
            partition=asked.partition,
            fingerprint=asked.key.hex(),
            limit=_CANDIDATES,
            floor=self._config.candidate_floor,
        )
        record.cache = "miss"
        for candidate in found:
            counts.candidates += 1
            verdict, threshold = self._verdict(call, asked, candidate)
            record.candidates.append((candidate.entry.id, round(candidate.similarity, 4), verdict))
            if verdict == "shadow":
                counts.shadow_hits += 1
                break
            reply = self._served(call, asked, candidate, threshold) if verdict == "served" else None
            if reply is not None:
                counts.hits += 1
                return reply
            counts.rejected += 1
        counts.misses += 1
        return None

    def _verdict(self, call: Call, asked: Asked, candidate: Scored) -> tuple[str, float]:
        """`served`, `shadow`, or why not; and the similarity that was needed."""
        meta, tally = candidate.entry.meta, self._kept.tallies.of(asked.partition)
        try:
            judged = self._judge.judge(asked.text, meta["text"])
        except _BUGS:
            self._kept.counts.guard_errors += 1
            return "guard error", 0.0
        raised = max(self._config.threshold, call.cache.threshold or 0.0)
        calibration = self._trial if self._shadow else self._calibration
        needed = max(calibration.threshold(judged.closeness), raised) + tally.raised
        if judged.closeness == "different" or (self._config.strict and judged.closeness != "same"):
            return judged.reason or judged.closeness, needed
        if candidate.similarity < needed:
            return f"{judged.closeness}, under {needed:.3f}", needed
        if digest(asked.text) in meta.get("wrong", ()):
            return "called wrong", needed
        return ("shadow" if self._shadow or tally.off else "served"), needed

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
        hit = Hit(_TIER, call.caller.partition, call.caller.id, entry.id, pair)
        self._kept.served.note(call, hit)
        if self._checker is not None:
            self._checker.check(call, hit, stored)
        return reply

    def _keep_when_over(self, call: Call, asked: Asked, vector: Sequence[float] | None, reply: Reply) -> None:
        collected = Collected(self._config.max_answer)
        reply.through(collected.over)
        store = partial(self._store, call, asked, vector, collected, streamed=reply.streaming)
        self._kept.served.pair(call, _TIER, asked.entry)

        async def close(outcome: Outcome) -> None:
            if outcome == "complete" and not collected.too_large:
                self._kept.writer.add(store, bytes_held(call, collected))

        reply.on_close(close)

    async def _store(
        self, call: Call, asked: Asked, vector: Sequence[float] | None, collected: Collected, *, streamed: bool
    ) -> Sequence[Entry]:
        """Raises StoreUnavailable."""
        record, counts = call.record, self._kept.counts
        stored, twin = None, self._kept.served.twin(call, "exact")
        if is_vouched_for(record):
            stored = await keep(
                call.endpoint, collected.items, streamed=streamed, tools=self._config.tool_calls, usage=record.usage
            )
        if stored is None:
            counts.not_kept += 1
            return ()
        if vector is None:
            try:
                vector = await self._kept.embedder.embed(asked.text, patient=True)
            except (EmbedderBusy, EmbedderUnavailable) as error:
                raise StoreUnavailable(f"no vector: {error}") from None
        own = asked.entry
        meta: Mapping[str, Any] = {
            "text": asked.text,
            **told_of(stored),
            "cost": record.cost,
            "twin": twin,
            "wrong": await self._kept.wrongs(own),
        }
        entry = entry_for(
            asked.key,
            stored.body,
            call=call,
            partition=asked.partition,
            now=self._now(),
            ttl=self._ttl(call),
            meta=meta,
        )
        counts.stored += 1
        return (msgspec.structs.replace(entry, id=own, vector=vector),)

    def _ttl(self, call: Call) -> float:
        """Seconds: what the request asks for, else the route's, else ours."""
        if call.cache.ttl is not None:
            return min(call.cache.ttl, self._config.max_ttl)
        return self._config.ttl if call.route.cache_ttl is None else call.route.cache_ttl


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
