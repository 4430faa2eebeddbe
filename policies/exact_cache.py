"""The exact cache: the same call again is answered from what was stored, without asking anyone."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from policies.cache_answers import keep
from policies.cache_controls import PartitionBy, partition_of
from policies.cache_entries import Collected, bytes_held, entry_for, facts_of, is_vouched_for, stored_in, told_of
from policies.cache_kept import ExactKept, Hit
from policies.cache_memory import Ready
from policies.embedding_cache import EmbeddingCache
from policies.fingerprint import canonical, fingerprint, why_not_shareable
from proxy.call import Call, Outcome, Record
from proxy.chain import Handler
from proxy.endpoints import EMBEDDINGS
from proxy.entries import Entry, StoreUnavailable
from proxy.errors import NotCached
from proxy.reply import Reply
from proxy.values import Duration, Size, duration, size

GuardsDigest = Callable[[Call], bytes]

_TIER = "exact"
_OK = 200


class ExactCacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which answers are kept, for how long and for whom.

    `max_ttl` bounds what a request may ask for. `memory` bounds the answers held ready in front of the store.
    """

    ttl: Duration = duration("1h")
    max_ttl: Duration = duration("7d")
    partition: PartitionBy = "tenant"
    temperature_ceiling: float = 1.0
    tool_calls: bool = False
    max_answer: Size = size("1MB")
    memory: Size = size("64MB")


class ExactCache:
    """Answers a call from an entry of its partition whose every member is the same, and stores complete answers.

    A store that is unavailable only costs the hits: the call goes on, with `bypass`. Nothing is stored before a reply
    is over, and nothing on the path. `guards` is a digest of the guards that a call and its answer pass, so that no
    entry outlives them. With `semantic_follows` it leaves `only-if-cached` to the cache behind it. `now` is Unix time.

    Raises NotCached.
    """

    def __init__(
        self,
        config: ExactCacheConfig,
        kept: ExactKept,
        guards: GuardsDigest,
        now: Callable[[], float],
        *,
        semantic_follows: bool = False,
    ) -> None:
        self._config = config
        self._kept = kept
        self._guards = guards
        self._now = now
        self._semantic_follows = semantic_follows
        self._embeddings = EmbeddingCache(kept, now)
        kept.memory.resize(config.memory)

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """A stored answer, or next's, which is stored when it is over."""
        record, controls = call.record, call.cache
        if not controls.exact or self.why_not(call) is not None:
            record.cache = "bypass"
            self._kept.counts.bypassed += 1
            return await self._go_on(call, next)
        if call.endpoint is EMBEDDINGS:
            ask = partial(self._go_on, next_handler=next)
            return await self._embeddings(
                call, ask, partition=self._partition(call), guards=self._guards(call), ttl=self._ttl(call)
            )
        if not call.fingerprint:
            call = call.replace(fingerprint=self._key(call))
        if controls.look_up:
            ready = self._held(self.entry_of(call))
            reply = self._ready(call, ready) if ready is not None else await self._look_up(call)
            if reply is not None:
                return reply
        else:
            record.cache = "bypass"
            self._kept.counts.bypassed += 1
        reply = await self._go_on(call, next)
        kept = controls.store and self._ttl(call) > 0 and not record.cache.startswith("hit")
        if kept and reply.status == _OK and not record.fallbacks:
            self._keep_when_over(call, reply)
        return reply

    def at_hand(self, call: Call) -> Reply | None:
        """The stored answer to a call that has its fingerprint, when that takes no waiting; None says nothing yet."""
        if not (call.cache.exact and call.cache.look_up) or self.why_not(call) is not None:
            return None
        ready = self.recall(self.entry_of(call), call)
        return None if ready is None else self._served(call, ready)

    def entry_of(self, call: Call) -> str:
        """The id under which an answer to this call, which has its fingerprint, is kept."""
        return call.fingerprint[:16].hex()

    def recall(self, entry: str, call: Call) -> Ready | None:
        """The answer of this id to this call, which has its fingerprint, when that takes no waiting; None where it has
        to be waited for, or is not there.
        """
        ready = self._held(entry)
        if ready is None:
            return self._brought(self._kept.store.get_now(entry), call, self._kept.memory.cleared)
        return ready

    def why_not(self, call: Call) -> str | None:
        """Why this call is neither looked up nor stored; None when it is."""
        if call.route.cache_ttl == 0:
            return "its route's cache_ttl is 0"
        return why_not_shareable(call, self._config.temperature_ceiling)

    def explain(self, call: Call) -> dict[str, Any]:
        """What makes this call another, and where its answer would stand."""
        why = self.why_not(call)
        key = self._key(call)
        return {
            "eligible": why is None,
            "why_not": why,
            "partition": self._partition(call),
            "namespace": call.cache.namespace,
            "route": call.route.name,
            "deployments": [f"{each.provider_name} {each.model}" for each in call.route.deployments],
            "guards": self._guards(call).hex(),
            "canonical": canonical(call).decode(),
            "fingerprint": key.hex(),
            "id": key[:16].hex(),
            "ttl": self._ttl(call),
            "in_memory": self._kept.memory.get(key[:16].hex()) is not None,
        }

    async def _go_on(self, call: Call, next_handler: Handler) -> Reply:
        if call.cache.only_if_cached and not (self._semantic_follows and call.cache.semantic):
            raise NotCached("No stored answer may be served for this request.")
        return await next_handler(call)

    def _partition(self, call: Call) -> str:
        return partition_of(call.caller, self._config.partition)

    def _key(self, call: Call) -> bytes:
        return fingerprint(call, partition=self._partition(call), guards=self._guards(call))

    def _ttl(self, call: Call) -> float:
        """Seconds: what the request asks for, else the route's, else ours."""
        if call.cache.ttl is not None:
            return min(call.cache.ttl, self._config.max_ttl)
        return self._config.ttl if call.route.cache_ttl is None else call.route.cache_ttl

    def _ready(self, call: Call, ready: Ready) -> Reply | None:
        reply = self._served(call, ready)
        if reply is None:
            call.record.cache = "miss"
            self._kept.counts.misses += 1
        return reply

    async def _look_up(self, call: Call) -> Reply | None:
        counts, record = self._kept.counts, call.record
        try:
            ready = await self._fetch(call)
        except StoreUnavailable:
            record.cache = "bypass"
            counts.unavailable += 1
            return None
        reply = None if ready is None else self._served(call, ready)
        if reply is None:
            record.cache = "miss"
            counts.misses += 1
        return reply

    def _held(self, entry: str) -> Ready | None:
        held = self._kept.memory.get(entry)
        return held if isinstance(held, Ready) else None

    async def _fetch(self, call: Call) -> Ready | None:
        """Raises StoreUnavailable."""
        cleared, entry = self._kept.memory.cleared, self.entry_of(call)
        return self._brought((await self._kept.store.get((entry,))).get(entry), call, cleared)

    def _brought(self, entry: Entry | None, call: Call, cleared: int) -> Ready | None:
        """From the store into memory, if it is this call's."""
        if entry is None or entry.fingerprint != call.fingerprint.hex():
            return None
        ready = Ready(call.endpoint, stored_in(entry), facts_of(entry), fetched=True)
        self._kept.memory.put(ready, cleared=cleared)
        return ready

    def _served(self, call: Call, ready: Ready) -> Reply | None:
        """The entry as this call's reply; None when it is too old, or has not the shape that is asked for."""
        reply = self.reply(call, ready)
        if reply is not None:
            self.note(call, call.record, ready)
            reply.served = call
        return reply

    def note(self, call: Call, record: Record, ready: Ready) -> None:
        """It is served to a call like this one, which has this record."""
        counts = self._kept.counts
        if ready.fetched:
            counts.hits_store += 1
            ready.fetched = False
        else:
            counts.hits_memory += 1
        record.cache, record.usage, record.cost, record.saved = "hit-exact", ready.usage, 0, ready.facts.cost
        self._kept.served.note(record.id, _hit(call.caller.partition, call.caller.id, ready.facts.id))

    def reply(self, call: Call, ready: Ready) -> Reply | None:
        """The answer in the shape that the call asks for; None where it has not that shape, or is too old for it."""
        age = max(0.0, self._now() - ready.facts.created)
        if call.cache.max_age is not None and age > call.cache.max_age:
            return None
        headers = {"age": str(int(age))}
        if call.head.stream:
            events = ready.stream(usage=call.head.include_usage)
            if events is None:
                return None
            self._kept.memory.grown(ready)
            return Reply.recorded(events, headers=headers)
        body = ready.whole()
        return None if body is None else Reply.whole(body, headers=headers)

    def _keep_when_over(self, call: Call, reply: Reply) -> None:
        collected = Collected(self._config.max_answer)
        reply.through(collected.over)
        store = partial(self._store, call, collected, streamed=reply.streaming)
        if self._semantic_follows:
            self._kept.served.pair(call, _TIER, self.entry_of(call))

        async def close(outcome: Outcome) -> None:
            if outcome == "complete" and not collected.too_large:
                self._kept.writer.add(store, bytes_held(call, collected))

        reply.on_close(close)

    async def _store(self, call: Call, collected: Collected, *, streamed: bool) -> Sequence[Entry]:
        record, counts = call.record, self._kept.counts
        stored = None
        if is_vouched_for(record):
            stored = await keep(
                call.endpoint, collected.items, streamed=streamed, tools=self._config.tool_calls, usage=record.usage
            )
        twin = self._kept.served.twin(call, "semantic")
        if stored is None:
            counts.not_kept += 1
            return ()
        entry = entry_for(
            call.fingerprint,
            stored.body,
            call=call,
            partition=self._partition(call),
            now=self._now(),
            ttl=self._ttl(call),
            meta={**told_of(stored), "cost": record.cost, "twin": twin},
        )
        self._kept.memory.put(Ready(call.endpoint, stored, facts_of(entry)))
        counts.stored += 1
        return (entry,)


@lru_cache(4096)
def _hit(partition: str, caller: str, entry: str) -> Hit:
    """One for all hits of a caller on an entry."""
    return Hit(_TIER, partition, caller, entry)
