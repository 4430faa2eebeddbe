"""What each guard, and each layer of the injection guard, makes of a text: for operators who tune."""

from collections.abc import Iterable, Iterator

from policies.guards.injection import Injection, boost, segments, sigmoid
from policies.guards.prompt_leak import PromptLeak
from policies.guards.registry import build
from policies.guards.settings import GuardConfig, HttpConfig, OwnConfig, name_of
from policies.guards.verdict import GRAVITY, finish

_SHOWN = 100


def explain(configs: Iterable[GuardConfig], texts: Iterable[str]) -> Iterator[str]:
    """For each text a line with the gravest verdict, the injection score and the text, then a line for each layer that
    fired. Guards that have to be asked are not. Raises ValueError when a guard cannot be built.
    """
    built = [(name_of(config), build(config)) for config in configs if not isinstance(config, HttpConfig | OwnConfig)]
    guards = [(name, guard) for name, guard in built if not isinstance(guard, PromptLeak)]
    for text in texts:
        verdicts = [(name, guard, finish(guard.scan(text, "user"))) for name, guard in guards]
        action = max((verdict.action for _, _, verdict in verdicts), key=GRAVITY.index, default="allow")
        score = max((verdict.score for _, guard, verdict in verdicts if isinstance(guard, Injection)), default=0.0)
        yield f"{action:5} {score:.3f}  {text[:_SHOWN]}"
        for name, guard, verdict in verdicts:
            if isinstance(guard, Injection):
                yield from (f"      {name}: {line}" for line in _layers(guard, text))
            elif verdict.action != "allow":
                places = ", ".join(f"{span.what} at {span.start}" for span in verdict.spans)
                yield f"      {name}: {places}"


def _layers(guard: Injection, text: str) -> Iterator[str]:
    """The readings of each segment that say something by themselves: the view, the rules, the classifier alone."""
    for number, piece in enumerate(segments(text, len(text))):
        for reading in guard.readings(piece):
            total = guard.logit(reading)
            score = sigmoid(total)
            if not reading.rules and score < guard.thresholds.flag:
                continue
            where = f"segment {number + 1}, " if len(text) > len(piece) else ""
            how = f"read as {reading.how}" if reading.how else "plain form"
            rules = ", ".join(f"{rule.id} ({rule.severity})" for rule in reading.rules) or "none"
            alone = sigmoid(total - boost(reading.rules, guard.boosts))
            yield f"{where}{how} {score:.3f}; rules: {rules}; without rules {alone:.3f}"
