"""How the semantic cache is configured."""

from typing import Literal

import msgspec

from policies.cache_controls import PartitionBy
from policies.calibration import Calibration
from policies.embedder import EmbedderConfig, UseEmbedder
from policies.reranker import RerankerConfig
from proxy.values import Duration, Size, duration, size


class CheckConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A share of the hits is asked upstream too, when nobody waits; the answers should agree.

    `most_wrong` is the share of wrong hits that a partition may have before its threshold is raised. `judge` names the
    route whose model says whether two answers agree; without it that is computed.
    """

    share: float = 0.01
    most_wrong: float = 0.05
    judge: str = ""


class SemanticCacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which answers are kept, for how long and for whom, and how close a question must be.

    `candidate_floor` is the similarity from which an entry is looked at. `threshold` raises the calibrated one; it
    cannot lower it. `strict` serves only pairs that say the same word for word. `shadow` looks up and never serves.
    `reranker` is asked about pairs of which words alone do not tell.
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
    reranker: RerankerConfig | None = None
