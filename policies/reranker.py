"""The seam to a model that reads two texts together, and how it is configured."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from proxy.values import Duration, Secret, duration


class Reranker(Protocol):
    """Says how well stored texts fit the one that is asked."""

    @property
    def threshold(self) -> float:
        """The score from which two texts may have one answer."""
        ...

    async def scores(self, asked: str, stored: Sequence[str]) -> list[float]:
        """A score from 0 to 1 for each, in order. Raises ModelBusy, ModelUnavailable."""
        ...


class RerankerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server with the `/rerank` route of Hugging Face's TEI, whose model tells paraphrases from other questions.

    `threshold` belongs to its model: from this score on an answer is served. When it fails or takes longer than
    `timeout` it is left alone for `cool_down`. More than `queue` calls waiting go on without it.
    """

    base_url: str
    threshold: float
    api_key: Secret | None = None
    queue: int = 16
    timeout: Duration = duration("200ms")
    cool_down: Duration = duration("5s")

    def problems(self) -> list[str]:
        """What cannot be meant."""
        return [] if 0 < self.threshold <= 1 else ["threshold: must be over 0 and at most 1"]
