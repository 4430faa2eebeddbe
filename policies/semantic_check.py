"""Checks of the semantic cache: some of its hits are asked upstream as well, and the two answers should agree."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from policies.cache_answers import Stored, keep
from policies.cache_entries import Collected
from policies.cache_kept import Hit
from policies.embedder import Embedder
from policies.pair_guard.tokens import cut, spell
from policies.semantic_kept import Pair, SemanticKept
from proxy.call import NO_CONTROLS, Call, Record
from proxy.chain import Handler
from proxy.entries import StoreUnavailable
from proxy.errors import GatewayError
from proxy.model_errors import ModelBusy, ModelUnavailable
from proxy.reply import Reply

logger = logging.getLogger("lockgate")

_AT_ONCE: Final = 4
_LARGEST: Final = 1_000_000
_ALIKE: Final = 0.5
"""Two answers to one question are more similar than this; answers to others seldom are."""
_SHOWN: Final = 600
"""Characters of an answer that are compared: what a vector can hold."""
_SHORT: Final = 40
"""Tokens: only in short answers do single numbers and negations decide."""
_YES: Final = {"yes": True, "no": False, "oui": True, "non": False}
_NEGATIONS: Final = frozenset({"not", "no", "never", "cannot", "pas", "jamais", "aucun", "aucune"})


class CheckHits:
    """Asks upstream what was served, for a share of the hits, after the caller has its answer.

    `upstream` stands behind budgets and limits: a check is the operator's expense, and no caller's. At most a few run
    at a time; what comes beside them is not checked. A pair that disagrees is not served again.
    """

    def __init__(
        self,
        kept: SemanticKept,
        upstream: Handler,
        *,
        share: float,
        most_wrong: float,
        random: Callable[[], float],
    ) -> None:
        self._kept = kept
        self._upstream = upstream
        self._share = share
        self._most_wrong = most_wrong
        self._random = random
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, call: Call, hit: Hit, served: Stored) -> None:
        """Do so in a while, if this hit is one of the chosen."""
        if self._random() >= self._share or len(self._tasks) >= _AT_ONCE:
            return
        task = asyncio.get_running_loop().create_task(self._check(call, hit, served))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Give up what runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _check(self, call: Call, hit: Hit, served: Stored) -> None:
        counts, pair = self._kept.counts, hit.about
        try:
            fresh = await self._ask(call)
            if fresh is None or not isinstance(pair, Pair):
                counts.check_failed += 1
                return
            why = await disagreement(said(served), said(fresh), self._kept.embedder)
        except (GatewayError, ModelBusy, ModelUnavailable) as error:
            logger.info("a hit of the semantic cache could not be checked: %s", type(error).__name__)
            counts.check_failed += 1
            return
        counts.checked += 1
        tallies = self._kept.tallies
        tallies.note(pair.partition, wrong=bool(why), most_wrong=self._most_wrong, threshold=pair.threshold)
        if not why:
            return
        counts.disagreed += 1
        self._kept.review(pair, hit.entry, call=call.id, why=why)
        try:
            await self._kept.part(hit.entry, pair)
        except StoreUnavailable:
            counts.unavailable += 1

    async def _ask(self, call: Call) -> Stored | None:
        """The answer as it would have been; None when it is not one to compare. Raises GatewayError."""
        record = Record(id=call.id, endpoint=call.endpoint.name, started=call.record.started, route=call.route.name)
        reply = await self._upstream(call.replace(record=record, cache=NO_CONTROLS))
        collected = Collected(_LARGEST)
        try:
            async for _ in collected.over(reply.items):
                pass
        finally:
            await _close(reply)
        if collected.too_large:
            return None
        return await keep(call.endpoint, collected.items, streamed=reply.streaming, tools=False, usage=None)


async def _close(reply: Reply) -> None:
    closing = getattr(reply.items, "aclose", None)
    if closing is not None:
        await closing()
    await reply.aclose("complete")


def said(answer: Stored) -> str:
    """The text of an answer."""
    decoded: Any = msgspec.json.decode(answer.body)
    if answer.shape == "whole":
        return str(decoded["choices"][0]["message"].get("content") or "")
    deltas = (chunk["choices"][0]["delta"].get("content") for chunk in decoded if chunk.get("choices"))
    return "".join(delta for delta in deltas if delta)


async def disagreement(one: str, other: str, embedder: Embedder) -> str:
    """Why two answers cannot both be right; empty when nothing says so. Raises ModelBusy, ModelUnavailable."""
    if one.strip() == other.strip():
        return ""
    first, second = ([token.text for token in cut(spell(text))] for text in (one, other))
    if first and second and first[0] in _YES and second[0] in _YES and _YES[first[0]] is not _YES[second[0]]:
        return "yes and no"
    if max(len(first), len(second)) <= _SHORT:
        numbers = [{token for token in tokens if token[0] == "#"} for tokens in (first, second)]
        if all(numbers) and not numbers[0] & numbers[1]:
            return "numbers"
        negations = [sum(token in _NEGATIONS for token in tokens) % 2 for tokens in (first, second)]
        if negations[0] != negations[1]:
            return "negation"
    vectors = [await embedder.embed(text[:_SHOWN], patient=True) for text in (one, other)]
    similarity = sum(x * y for x, y in zip(*vectors, strict=True))
    return "" if similarity >= _ALIKE else f"similarity {similarity:.2f}"
