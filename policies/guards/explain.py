"""What each guard, and each layer of the injection guard, makes of a text: for operators who tune."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from policies.guards.injection import Injection, boost, segments, sigmoid
from policies.guards.plan import Scanner
from policies.guards.prompt_leak import PromptLeak
from policies.guards.registry import build
from policies.guards.report import done_about
from policies.guards.settings import GuardConfig, HttpConfig, OwnConfig, PromptLeakConfig, Setting, Thresholds, name_of
from policies.guards.verdict import Guard, Role, Verdict, finish, graver

_SHOWN: Final = 100
_PLACES: Final = 20
_INDENT: Final = "      "


class Tried(msgspec.Struct, frozen=True):
    """A guard as a text of `role` meets it: the user's, where it reads those."""

    name: str
    setting: Setting
    role: Role
    guard: Guard


class Explainer:
    """Tries texts on guards as they are configured. Raises ValueError when one cannot be built."""

    def __init__(self, configs: Iterable[GuardConfig]) -> None:
        self._tried: list[Tried] = []
        self.heading: list[str] = []
        """A line a guard: what it does, from which score on, or why it is not tried."""
        for config in configs:
            why = _why_not(config)
            guard = None if why else build(config)
            if guard is None or isinstance(guard, PromptLeak) or isinstance(config, PromptLeakConfig):
                self.heading.append(f"{name_of(config)}: {why}, not tried here")
                continue
            role: Role = "user" if "user" in config.roles else config.roles[0]
            self._tried.append(Tried(name_of(config), config.action, role, guard))
            self.heading.append(f"{name_of(config)}: {config.action}{_scope(guard, role)}")

    def explain(self, text: str) -> Iterator[str]:
        """A line with what would be done about the text, the injection score and the text; then what each guard found."""
        found = [(each, finish(each.guard.scan(text, each.role))) for each in self._tried]
        done, score = "allow", 0.0
        for each, verdict in found:
            if each.setting != "shadow":
                done = graver(done, _done(each, verdict, text))
            if isinstance(each.guard, Injection):
                score = max(score, verdict.score)
        yield f"{done:5} {score:.3f}  {_printable(text[:_SHOWN])}"
        for each, verdict in found:
            yield from (f"{_INDENT}{each.name}: {line}" for line in _said(each, verdict, text))


def _why_not(config: GuardConfig) -> str:
    if config.action == "off":
        return "off"
    if isinstance(config, HttpConfig | OwnConfig):
        return f"{config.action}, has to be asked"
    if isinstance(config, PromptLeakConfig):
        return f"{config.action}, needs a system prompt"
    return "" if config.roles else f"{config.action}, reads nobody"


def _scope(guard: Scanner, role: Role) -> str:
    """Whose texts it is tried as, where that is not the user's; and the scores that count for these."""
    whose = "" if role == "user" else f", as texts of {role}"
    if not isinstance(guard, Injection):
        return whose
    limits = guard.limits(role)
    return f"{whose}, flags from {limits.flag:.3f}, blocks from {limits.block:.3f}"


def _done(each: Tried, verdict: Verdict, text: str) -> str:
    if verdict.action != "allow":
        return done_about(each.setting, blocks=verdict.action == "block")
    return "not_scanned" if verdict.scanned < len(text) else "allow"


def _said(each: Tried, verdict: Verdict, text: str) -> Iterator[str]:
    done = _done(each, verdict, text)
    would = f"{done} (shadow)" if each.setting == "shadow" and done != "not_scanned" else done
    if done == "not_scanned":
        yield f"{done}: {verdict.scanned} of {len(text)} characters were read"
    if isinstance(each.guard, Injection):
        limits = each.guard.limits(each.role)
        if verdict.action != "allow":
            limit = limits.block if verdict.action == "block" else limits.flag
            yield f"{would}, {verdict.score:.3f} of {limit:.3f}"
        yield from _layers(each.guard, limits, text)
    elif verdict.action != "allow":
        places = [f"{span.what} at {span.start}" for span in verdict.spans[:_PLACES]]
        more = len(verdict.spans) - len(places)
        yield f"{would}, {', '.join([*places, f'{more} more'] if more else places)}"


def _layers(guard: Injection, limits: Thresholds, text: str) -> Iterator[str]:
    """The readings of each segment that say something by themselves: the view, the rules, the classifier alone."""
    for number, piece in enumerate(segments(text, guard.max_chars)):
        for reading in guard.readings(piece):
            total = guard.logit(reading)
            score = sigmoid(total)
            if not reading.rules and score < limits.flag:
                continue
            where = f"segment {number + 1}, " if len(text) > len(piece) else ""
            how = f"read as {reading.how}" if reading.how else "plain form"
            rules = ", ".join(f"{rule.id} ({rule.severity})" for rule in reading.rules) or "none"
            alone = sigmoid(total - boost(reading.rules, guard.boosts))
            yield f"{where}{how} {score:.3f}; rules: {rules}; without rules {alone:.3f}"


def _printable(text: str) -> str:
    """What would move a cursor or stay unseen is spelled."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
