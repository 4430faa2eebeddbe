"""Calibrations: shipped ones, and how one is made."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from adapters.embedder_models import MINILM, USE
from policies.calibration import Calibration, Pairs, Ranking, as_yaml, fit, measure, rank, shipped
from policies.embedder import HttpEmbedder
from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from proxy.semantic import make_embedder


@pytest.mark.parametrize("model", [USE, MINILM], ids=lambda model: model.id)
def test_models_that_come_in_packages_are_calibrated(model: object) -> None:
    found = shipped(getattr(model, "id", ""))
    assert found is not None
    assert 0.5 <= found.same <= found.near <= 1


def test_the_model_that_compose_serves_is_calibrated() -> None:
    """With the prefix that it wants."""
    command = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yml").read_text())["services"]["tei"][
        "command"
    ]
    model = command[1].partition(":-")[2].rstrip("}")
    config = HttpEmbedder(base_url="http://tei:8080/v1", model=model, size=384, prefix="query: ")
    found = shipped(make_embedder(config, None).id)
    assert found is not None
    assert 0.8 <= found.same <= found.near <= 1


def test_an_embedder_nobody_measured_has_none() -> None:
    assert shipped("http/anything") is None


def test_thresholds_follow_the_scale_of_the_embedder() -> None:
    """Where unrelated texts are already alike, nothing under that serves; traps are never under `near`."""
    low = fit(duplicates=[0.8, 0.9, 0.95], across=[0.8], unrelated=[0.1, 0.3], traps=[])
    high = fit(duplicates=[0.93, 0.96, 0.98], across=[0.95], unrelated=[0.8, 0.88], traps=[0.97])
    assert low.same <= 0.7
    assert high.same >= 0.88
    assert high.near > 0.97
    assert fit(duplicates=[0.9], across=[], unrelated=[0.1], traps=[]).across > 1


def test_different_texts_have_no_threshold() -> None:
    assert Calibration(same=0, near=0, across=0).threshold("different") > 1


async def test_a_calibration_is_made_from_the_shipped_pairs() -> None:
    """With an embedder of letters, whose scale is its own."""

    async def embed(text: str) -> list[float]:
        counts = [float(text.lower().count(chr(97 + k))) for k in range(26)]
        norm = math.sqrt(sum(each * each for each in counts))
        return [each / norm for each in counts]

    found, pairs = await measure(embed, PairGuard(Tables.load(), "any"), (), Pairs.load())
    assert pairs > 100
    assert 0.7 <= found.same <= found.near
    assert as_yaml(found).startswith("calibration: {same: ")
    english, fewer = await measure(embed, PairGuard(Tables.load(), "any"), ("en",), Pairs.load())
    assert fewer < pairs
    assert english.across > 1


class Told:
    """A reranker that gives the scores it is told, one after the other."""

    threshold = 0.5

    def __init__(self, scores: Sequence[float]) -> None:
        self.left = list(scores)

    async def scores(self, asked: str, stored: Sequence[str]) -> list[float]:
        return [self.left.pop(0) for _ in stored]


async def test_a_reranker_is_believed_from_over_every_other_question() -> None:
    """Paraphrases under that are given up."""
    pairs = Pairs.load()
    traps, same = (len(pairs.rephrased[name]) for name in ("different", "same"))
    found = await rank(Told([0.1] * (traps - 1) + [0.6] + [0.7] * 5 + [0.6] * (same - 5)), pairs)
    assert found == Ranking(0.61, 5, same)
    useless = await rank(Told([0.995] * traps + [1.0] * same), pairs)
    assert useless.threshold > 1


def test_the_pairs_for_a_reranker_are_such_as_it_is_asked_about() -> None:
    guard = PairGuard(Tables.load())
    for lines in Pairs.load().rephrased.values():
        assert {guard.judge(*line.split(" | ")).closeness for line in lines} <= {"near", "open"}
