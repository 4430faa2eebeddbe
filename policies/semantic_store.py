"""How answers come into the semantic cache."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from policies.cache_answers import keep
from policies.cache_entries import Collected, bytes_held, entry_for, is_vouched_for, told_of
from policies.semantic_kept import TIER, Asked, SemanticKept
from policies.semantic_settings import SemanticCacheConfig
from proxy.call import Call, Outcome
from proxy.entries import Entry, StoreUnavailable
from proxy.model_errors import ModelBusy, ModelUnavailable
from proxy.reply import Reply

_OK = 200


class KeepAnswers:
    """Stores complete answers once they are over. `now` is Unix time."""

    def __init__(self, config: SemanticCacheConfig, kept: SemanticKept, now: Callable[[], float]) -> None:
        self._config = config
        self._kept = kept
        self._now = now

    def when_over(self, call: Call, asked: Asked, vector: Sequence[float] | None, reply: Reply) -> None:
        """Keep this reply for what was asked, if it may be kept; without a `vector` one is made when it is over."""
        if not call.cache.store or self._ttl(call) <= 0 or reply.status != _OK or call.record.fallbacks:
            return
        collected = Collected(self._config.max_answer)
        reply.through(collected.over)
        store = partial(self._store, call, asked, vector, collected, streamed=reply.streaming)
        self._kept.served.pair(call, TIER, asked.entry)

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
            except (ModelBusy, ModelUnavailable) as error:
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
