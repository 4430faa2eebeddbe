"""Fits the classifier, and the boosts and thresholds on sets that the fitted weights have not seen."""

import itertools
import math
from collections import Counter
from typing import Final

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from policies.guards.classifier import BITS, FEWEST, Classifier, buckets
from policies.guards.injection import (
    SEGMENT,
    Boosts,
    Calibration,
    Injection,
    Reading,
    boost,
    segments,
    sigmoid,
)
from policies.guards.settings import InjectionConfig, Thresholds
from policies.guards.train.grammar import Example

REGULARISATION: Final = 5.0
LONGEST: Final = 8_000  # characters of a text that calibration looks at
FLAG_RATE, BLOCK_RATE = 0.01, 0.002  # false positives on sets never seen: the 95 % bound is held, not the estimate
GRID: Final = tuple(
    Boosts(high, medium, low, more)
    for high, medium, low, more in itertools.product(
        (3.0, 4.0, 5.0, 6.0), (2.0, 3.0, 4.0, 5.0), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0)
    )
    if medium < high
)
DOCUMENTS: Final = 600  # long texts made of harmless ones, to calibrate what is returned by tools
DOCUMENT: Final = 4_000


class Fitted(msgspec.Struct, frozen=True):
    """Float weights and bias."""

    weights: NDArray[np.float32]
    bias: float


class Readings:
    """The readings of many texts as one sparse matrix; a text's score is the highest of its readings."""

    def __init__(self, guard: Injection, texts: list[str]) -> None:
        rows, self._owner, self._rules = [], [], []
        for number, text in enumerate(texts):
            for piece in segments(text[:LONGEST], LONGEST):
                for reading in guard.readings(piece):
                    for plain in filter(None, (reading.plain, reading.close)):
                        rows.append(buckets(plain))
                        self._owner.append(number)
                        self._rules.append(reading)
        self._matrix, self._count = matrix(rows), len(texts)

    def odds(self, fitted: Fitted) -> NDArray[np.float64]:
        """Log-odds of every reading without its rules."""
        return np.asarray(self._matrix @ fitted.weights + fitted.bias, dtype=np.float64)

    def scores(self, odds: NDArray[np.float64], boosts: Boosts) -> NDArray[np.float64]:
        """Log-odds of every text."""
        totals = np.full(self._count, -np.inf)
        np.maximum.at(totals, self._owner, odds + [boost(reading.rules, boosts) for reading in self._rules])
        return totals

    def select(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The readings of the chosen texts."""
        return chosen[self._owner]


def matrix(rows: list[NDArray[np.intp]]) -> sp.csr_matrix:
    """One row for each list of buckets, every value 1/sqrt(count)."""
    starts = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.full(len(row), 1 / math.sqrt(max(FEWEST, len(row))), np.float32) for row in rows])
    return sp.csr_matrix((values, np.concatenate(rows), starts), shape=(len(rows), 1 << BITS))


class Corpus:
    """Examples without near duplicates, and without texts labelled harmless that are a famous attack word for word."""

    def __init__(self, examples: list[Example], near: int) -> None:
        nothing = Calibration("none", Boosts(0, 0, 0, 0), Thresholds(1, 1), Thresholds(1, 1))
        zero = Classifier(np.zeros(1 << BITS, np.int8), 1.0, 0.0, "none")
        self.guard = Injection(InjectionConfig(), zero, nothing)
        kept: dict[str, Example] = {}
        for example in examples:
            plain = next(self.guard.readings(example.text[:SEGMENT])).plain
            if example.attack or "do anything now" not in plain:
                kept.setdefault(plain if example.origin.startswith("own") else plain[:near], example)
        self.examples = list(kept.values())
        self.origin = np.array([example.origin.split("_")[0] if example.origin.startswith("own") else example.origin
                                for example in self.examples])  # fmt: skip
        self.attack = np.array([example.attack for example in self.examples])
        first: list[Reading] = [next(self.guard.readings(example.text[:SEGMENT])) for example in self.examples]
        self.features = matrix([buckets(reading.plain) for reading in first])
        groups = [(e.origin[:12] if e.origin.startswith("own_lang") else e.origin, e.attack) for e in self.examples]
        sizes = Counter(groups)
        weights = np.array([1 / math.sqrt(sizes[group]) for group in groups])
        self.weights = weights / weights.mean()


def fit(corpus: Corpus, rows: NDArray[np.bool_]) -> Fitted:
    """A logistic regression on some rows; every set and label counts by the square root of its size."""
    model = LogisticRegression(C=REGULARISATION, solver="liblinear", tol=1e-2, random_state=0)
    model.fit(corpus.features[rows], corpus.attack[rows], sample_weight=corpus.weights[rows])
    return Fitted(model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def fit_all(corpus: Corpus) -> Fitted:
    """The weights that ship."""
    return fit(corpus, np.ones(len(corpus.examples), np.bool_))


def quantise(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Weights as int8 and their scale; the few largest ones are clipped."""
    scale = float(np.quantile(np.abs(weights), 0.9998)) / 127
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale


def documents(corpus: Corpus, name: str, count: int) -> list[str]:
    """Long texts made of one set's harmless ones, as a tool might return them."""
    texts = [
        e.text for e, chosen in zip(corpus.examples, (corpus.origin == name) & ~corpus.attack, strict=True) if chosen
    ]
    rng = np.random.default_rng(0)
    made = []
    for number in range(count if texts else 0):
        picked, size = [], 0
        while size < DOCUMENT:
            picked.append(texts[rng.integers(len(texts))])
            size += len(picked[-1]) + 2
        made.append(
            ("\n\n".join(picked) if number % 2 else msgspec.json.encode({"results": picked}).decode())[: 2 * DOCUMENT]
        )
    return made


class Calibrated(msgspec.Struct, frozen=True):
    """What `calibrate` found; `unseen` is each set's share of texts flagged by weights that had not seen the set."""

    boosts: Boosts
    user: Thresholds
    tool: Thresholds
    unseen: dict[str, float]


def calibrate(corpus: Corpus) -> Calibrated:
    """Leave one set out at a time; choose the boosts that find most attacks at the wanted rates, and both thresholds."""
    names = sorted(set(corpus.origin) - {"own"})
    public = corpus.origin != "own"
    readings = Readings(corpus.guard, [example.text for example in corpus.examples])
    odds = np.full(len(readings.select(public)), -np.inf)
    tools = []
    for name in names:
        left_out = fit(corpus, corpus.origin != name)
        here = readings.select(corpus.origin == name)
        odds[here] = readings.odds(left_out)[here]
        made = documents(corpus, name, DOCUMENTS // 8)
        if made:
            long = Readings(corpus.guard, made)
            tools.append((long, long.odds(left_out)))
    harmless = public & ~corpus.attack

    def found(boosts: Boosts) -> float:
        scores = readings.scores(odds, boosts)
        flag, block = np.quantile(scores[harmless], [1 - FLAG_RATE, 1 - BLOCK_RATE])
        shares = [(scores[(corpus.origin == n) & corpus.attack] > t).mean() * w
                  for n in names if (corpus.attack & (corpus.origin == n)).any() for t, w in ((flag, 1), (block, 0.5))]  # fmt: skip
        return float(np.mean(shares))

    boosts = max(GRID, key=found)
    scores = readings.scores(odds, boosts)
    user = thresholds(scores[harmless])
    tool = thresholds(np.concatenate([long.scores(o, boosts) for long, o in tools]))
    limit = math.log(user.flag / (1 - user.flag))
    unseen = {
        f"{name} {'attack' if attack else 'benign'}": round(float((scores[rows] > limit).mean()), 3)
        for name, attack in itertools.product(names, (True, False))
        if (rows := (corpus.origin == name) & (corpus.attack == attack)).any()
    }
    return Calibrated(boosts, user, Thresholds(max(user.flag, tool.flag), max(user.block, tool.block)), unseen)


def thresholds(scores: NDArray[np.float64]) -> Thresholds:
    """Scores above which so few of these harmless texts lie that the upper bound of their share is the wanted one."""
    highest = np.sort(scores)[::-1]
    flag, block = (highest[most_above(len(scores), rate)] for rate in (FLAG_RATE, BLOCK_RATE))
    return Thresholds(round(sigmoid(float(flag)) + 1e-6, 6), round(sigmoid(float(block)) + 1e-6, 6))


def most_above(count: int, rate: float) -> int:
    """How many of `count` may lie above a threshold, so that the one-sided 95 % Wilson bound of their share is within `rate`."""
    z, allowed = 1.645, 0
    for found in range(count):
        share = found / count
        spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
        if (share + z * z / (2 * count) + spread) / (1 + z * z / count) > rate:
            break
        allowed = found
    return allowed
