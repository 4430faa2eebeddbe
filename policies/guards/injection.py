"""Prompt injection: plain form, other readings, rules and classifier, one score for each segment of a text.

Score of a reading = sigmoid(classifier's log-odds + boost of the best rule that hit + a little for further hits).
A rule alone is not enough for most of its severity: the boosts and thresholds were fitted together on texts of sets
that the classifier had not seen (train/), and are stored beside the weights.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from policies.guards.classifier import Classifier
from policies.guards.normalise import Normaliser
from policies.guards.rules import Rule, load_rules
from policies.guards.settings import InjectionConfig, Thresholds
from policies.guards.verdict import Action, Role, Scan, Span, Verdict
from policies.guards.views import views

HERE: Final = Path(__file__).parent
SEGMENT: Final = 2048
STEP: Final = 1792
HIDDEN: Final = "hidden_tags"  # text in invisible characters counts as the gravest rule does
_AROUND: Final = 160  # characters on either side of a rule's hit that the classifier judges once more
_LONG: Final = 700  # characters; shorter texts are judged whole only


class Boosts(msgspec.Struct, frozen=True):
    """What rules add to the log-odds, by the severity of the best one, and for each further one."""

    high: float
    medium: float
    low: float
    more: float


class Calibration(msgspec.Struct, frozen=True):
    """Fitted beside the weights, stored in calibration.json."""

    weights: str
    boosts: Boosts
    user: Thresholds
    tool: Thresholds


class Reading(msgspec.Struct, frozen=True):
    """One way to read a segment: how it was reached, its plain text, the rules that hit, and where they hit."""

    how: str
    plain: str
    rules: tuple[Rule, ...]
    close: str = ""


def segments(text: str, limit: int) -> Iterator[str]:
    """Overlapping pieces of at most 2,048 characters: of a text longer than `limit` the head, the tail, pieces between."""
    for start in starts(len(text), limit):
        yield text[start : start + SEGMENT]


def starts(length: int, limit: int) -> list[int]:
    """Where the segments of a text of this length begin."""
    if length <= SEGMENT:
        return [0]
    all_of_them = [*range(0, length - SEGMENT, STEP), length - SEGMENT]
    most = max(2, limit // STEP)
    if length <= limit or len(all_of_them) <= most:
        return all_of_them
    return [all_of_them[round(i * (len(all_of_them) - 1) / (most - 1))] for i in range(most)]


def sigmoid(logit: float) -> float:
    """1/(1 + e^-x) without overflow."""
    return 1 / (1 + math.exp(-logit)) if logit > -60 else 0.0  # noqa: PLR2004


class Injection:
    """The guard. Loud at construction (RuleError, ValueError), never raises on a text."""

    kind = "injection"

    def __init__(self, config: InjectionConfig, classifier: Classifier, calibration: Calibration) -> None:
        if calibration.weights != classifier.version:
            raise ValueError("calibration.json belongs to other weights: run `make train-guard`")
        self._config, self._classifier, self.boosts = config, classifier, calibration.boosts
        self._normalise = Normaliser()
        self._rules = load_rules(Path(config.rules) if config.rules else HERE / "rules.yaml")
        self._user = config.thresholds or calibration.user
        self._tool = config.tool_thresholds or calibration.tool

    @classmethod
    def load(cls, config: InjectionConfig) -> Self:
        """With the shipped weights and calibration."""
        calibration = msgspec.json.decode((HERE / "calibration.json").read_bytes(), type=Calibration)
        return cls(config, Classifier.load(HERE / "weights.npz"), calibration)

    @property
    def weights(self) -> str:
        """The version of the weights."""
        return self._classifier.version

    @property
    def max_chars(self) -> int:
        """Characters of a text that are read."""
        return self._config.max_chars

    def limits(self, role: Role) -> Thresholds:
        """The scores from which a text of this role is flagged and blocked."""
        return self._tool if role == "tool" else self._user

    @property
    def version(self) -> str:
        """Of weights, rules and settings together."""
        config = self._config
        settings = f"{config.max_chars} {self._user} {self._tool}"
        parts = (self._classifier.version, self._rules.version, settings)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def scan(self, text: str, role: Role, /) -> Scan:
        """Slices of about half a millisecond; stops at the first segment that blocks."""
        limits = self.limits(role)
        best, scanned, end = 0.0, 0, 0
        reasons: tuple[str, ...] = ()
        for start in starts(len(text), self._config.max_chars):
            piece = text[start : start + SEGMENT]
            score, why = self.score(piece)
            scanned += start + len(piece) - max(start, end)
            end = start + len(piece)
            if score > best:
                best, reasons = score, why
            if best >= limits.block:
                break
            yield
        action = self._action(best, limits)
        spans = (Span(0, len(text), "injection"),) if action != "allow" else ()
        return Verdict(self.kind, action, best, spans, reasons, scanned)

    def _action(self, score: float, limits: Thresholds) -> Action:
        if score >= limits.block:
            return "block"
        return "flag" if score >= limits.flag else "allow"

    def score(self, piece: str) -> tuple[float, tuple[str, ...]]:
        """The highest score of a segment's readings (0 to 1), and the layers behind it."""
        best = -math.inf
        reasons: tuple[str, ...] = ()
        for reading in self.readings(piece):
            logit = self.logit(reading)
            if logit > best:
                best = logit
                reasons = (*filter(None, [reading.how]), *(rule.id for rule in reading.rules), "classifier")
        return sigmoid(best), reasons

    def logit(self, reading: Reading) -> float:
        """Log-odds of one reading."""
        odds = self._classifier.logit(reading.plain)
        if reading.close:
            odds = max(odds, self._classifier.logit(reading.close))
        return odds + boost(reading.rules, self.boosts) + (self.boosts.high if reading.how == HIDDEN else 0.0)

    def readings(self, piece: str) -> Iterator[Reading]:
        """The plain reading of a segment, then the other ones it looks as if it had."""
        plain = self._normalise(piece)
        yield self._reading("", plain.text)
        if plain.smuggled:
            yield self._reading(HIDDEN, plain.smuggled)
        for how, text in views(piece, plain.text):
            yield self._reading(how, self._normalise(text).text)

    def _reading(self, how: str, plain: str) -> Reading:
        plain = plain[: 2 * SEGMENT]
        rules = self._rules
        hits = tuple(rules.match(plain))
        if not hits or len(plain) <= _LONG:
            return Reading(how, plain, hits)
        worst = min(hits, key=lambda rule: ("high", "medium", "low").index(rule.severity))
        start, end = rules.where(worst, plain)
        return Reading(how, plain, hits, plain[max(0, start - _AROUND) : end + _AROUND])


def boost(rules: tuple[Rule, ...], boosts: Boosts) -> float:
    """What the rules that hit add to the log-odds."""
    if not rules:
        return 0.0
    severities = {rule.severity for rule in rules}
    best = boosts.high if "high" in severities else boosts.medium if "medium" in severities else boosts.low
    return best + boosts.more * min(len({rule.family for rule in rules}) - 1, 2)
