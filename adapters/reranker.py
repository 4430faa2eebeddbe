"""A reranker behind the `/rerank` route of Hugging Face's Text Embeddings Inference.

It is sent `{"query", "texts", "raw_scores": false}` and answers `[{"index", "score"}]`, best first, with scores from 0 to 1.
"""

from collections.abc import Sequence

import msgspec

from adapters.model_server import ModelServer, State
from proxy.model_errors import ModelUnavailable


class _Ranked(msgspec.Struct):
    index: int
    score: float


_read = msgspec.json.Decoder(list[_Ranked]).decode


class HttpReranker:
    """Scores pairs of texts by asking `server`, with which it is closed."""

    name = "reranker"

    def __init__(self, server: ModelServer, threshold: float) -> None:
        self.threshold = threshold
        self._server = server

    async def start(self) -> None:
        """Nothing is sent before a text comes."""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._server.aclose()

    def state(self) -> State:
        """Degraded from a failure until it answered again."""
        return self._server.state()

    async def scores(self, asked: str, stored: Sequence[str]) -> list[float]:
        """A score for each, in order. Raises ModelBusy, ModelUnavailable."""
        body = msgspec.json.encode({"query": asked, "texts": stored, "raw_scores": False})
        return await self._server.ask(body, lambda answer: _scores_in(answer, len(stored)))


def _scores_in(answer: bytes, count: int) -> list[float]:
    try:
        found = _read(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ModelUnavailable(f"no scores: {error}") from None
    ranked = {each.index: each.score for each in found}
    complete = len(found) == count and set(ranked) == set(range(count))
    if not complete or not all(0 <= score <= 1 for score in ranked.values()):
        raise ModelUnavailable("no score from 0 to 1 for every text")
    return [ranked[index] for index in range(count)]
