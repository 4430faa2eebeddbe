"""Checks of the semantic cache: some of its hits are asked upstream as well, and the two answers should agree."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from policies.asked_upstream import ask, said
from policies.cache_answers import Stored
from policies.cache_kept import Hit
from policies.embedder import Embedder
from policies.pair_guard.tokens import cut, spell
from policies.semantic_kept import Pair, SemanticKept
from proxy.call import Call
from proxy.chain import Handler
from proxy.entries import StoreUnavailable
from proxy.errors import GatewayError
from proxy.model_errors import ModelBusy, ModelUnavailable

logger = logging.getLogger("lockgate")

_AT_ONCE: Final = 4
_ALIKE: Final = 0.5
"""Two answers to one question are more similar than this; answers to others seldom are."""
_SHOWN: Final = 600
"""Characters of an answer that are compared: what a vector can hold."""
_SHORT: Final = 40
"""Tokens: only in short answers do single numbers and negations decide."""
_YES: Final = {"yes": True, "no": False, "oui": True, "non": False}
_NEGATIONS: Final = frozenset({"not", "no", "never", "cannot", "pas", "jamais", "aucun", "aucune"})


class Judge(Protocol):
    """Says whether two answers to one question say the same."""

    async def agree(self, call: Call, question: str, one: str, other: str) -> bool | None:
        """None when it does not tell. Raises GatewayError."""
        ...


class CheckHits:
    """Asks upstream what was served, for a share of the hits, after the caller has its answer.

    `upstream` stands behind budgets and limits: a check is the operator's expense, and no caller's. At most a few run
    at a time; what comes beside them is not checked. A pair that disagrees is not served again. `judge` has the last
    word on whether it does, where there is one.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, by name
        self,
        kept: SemanticKept,
        upstream: Handler,
        *,
        share: float,
        most_wrong: float,
        random: Callable[[], float],
        judge: Judge | None = None,
    ) -> None:
        self._kept = kept
        self._upstream = upstream
        self._share = share
        self._most_wrong = most_wrong
        self._random = random
        self._judge = judge
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
            fresh = await ask(self._upstream, call)
            if fresh is None or not isinstance(pair, Pair):
                counts.check_failed += 1
                return
            why = await self._disagreement(call, pair.asked, said(served), said(fresh))
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

    async def _disagreement(self, call: Call, question: str, one: str, other: str) -> str:
        """Why the answers cannot both be right: what the judge says, or where it says nothing, what can be computed.

        Raises ModelBusy, ModelUnavailable.
        """
        agree = None
        if self._judge is not None and one.strip() != other.strip():
            try:
                agree = await self._judge.agree(call, question, one, other)
            except GatewayError as error:
                logger.info("the judge of hits gave no answer: %s", type(error).__name__)
            self._kept.counts.not_judged += agree is None
        if agree is None:
            return await disagreement(one, other, self._kept.embedder)
        return "" if agree else "the judge says so"


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
