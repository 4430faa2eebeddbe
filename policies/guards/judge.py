"""Judges texts under a plan: in slices, and once a text, however often a conversation repeats it."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from hashlib import blake2b
from itertools import accumulate
from typing import Final

import msgspec

from policies.guards.asked import Http, Own
from policies.guards.injection import Injection
from policies.guards.plan import Plan
from policies.guards.prompt_leak import PromptLeak
from policies.guards.spans import SpanGuard
from policies.guards.texts import Unit
from policies.guards.verdict import Span

SLICE: Final = 0.002
"""Seconds of work after which others get their turn."""
_REMEMBERED: Final = 16_384
_TOO_LONG: Final = 200_000
"""Characters of a text whose digest would hold the loop; it is scanned anew each time, in slices."""
_SEVERAL: Final = 2
_JOINED: Final = 600
"""Characters of each message that are read together with others."""
_TURNS: Final = ("messages", "input", "prompt")


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What one guard of a plan found in one unit. `guard` counts within the plan, a span's leaf within the unit."""

    guard: int
    score: float
    blocks: bool
    """Whether it is grave enough to block; else it is only to be flagged."""
    reasons: tuple[str, ...] = ()
    spans: tuple[tuple[int, Span], ...] = ()
    partial: bool = False
    """Whether nothing was found, in a text of which only a part was looked at."""


Findings = tuple[Finding, ...]
Work = Generator[None, None, Findings]


class Memory:
    """Findings by keyed digest of the text: the last 16,384. No text is kept."""

    def __init__(self, key: bytes, size: int = _REMEMBERED) -> None:
        self._key, self._size = key, size
        self._found: OrderedDict[bytes, Findings] = OrderedDict()

    def digest(self, what: str, text: str | bytes, salt: bytes) -> bytes:
        """What the text is remembered under. `what` (up to 16 bytes) is the question that was answered about it.

        It stands beside the text and not in it: no text can be made to look like the answer to another question.
        """
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return blake2b(raw, digest_size=16, key=self._key, salt=salt, person=what.encode()).digest()

    def find(self, digest: bytes) -> Findings | None:
        """What was found in it, if that is still remembered."""
        found = self._found.get(digest)
        if found is not None:
            self._found.move_to_end(digest)
        return found

    def keep(self, digest: bytes, findings: Findings) -> None:
        """Remember."""
        self._found[digest] = findings
        if len(self._found) > self._size:
            self._found.popitem(last=False)


class Judge:
    """Runs the guards of a plan that need nobody else. `now` counts seconds."""

    def __init__(self, memory: Memory, now: Callable[[], float]) -> None:
        self._memory, self._now = memory, now

    def judge(self, plan: Plan, units: tuple[Unit, ...]) -> Generator[None, None, list[Findings]]:
        """The findings of each unit. Yields whenever it has held the loop for SLICE seconds or a little more."""
        since, found = self._now(), list[Findings]()
        for unit in units:
            work = self._one(plan, unit)
            while True:
                try:
                    next(work)
                except StopIteration as end:
                    found.append(end.value)
                    break
                if self._now() - since > SLICE:
                    yield
                    since = self._now()
            if self._now() - since > SLICE:
                yield
                since = self._now()
        return found

    def judge_turns(
        self, plan: Plan, units: tuple[Unit, ...]
    ) -> Generator[None, None, list[tuple[Unit, str, Finding]]]:
        """What the last messages of the user say when they are read as one: what was split to pass in parts.

        Held to the thresholds of tool results, because it is one more look at texts that have passed. Every guard that
        reads what users say is heard. Returns the last message and the joined text beside each finding.
        """
        said = [unit for unit in units if unit.role == "user" and _is_turn(unit)]
        told: list[tuple[Unit, str, Finding]] = []
        if len(said) < _SEVERAL:
            return told
        for index, installed in enumerate(plan.guards):
            guard = installed.guard
            if installed.turns < _SEVERAL or not isinstance(guard, Injection) or "user" not in installed.roles:
                continue
            text = "\n".join(_shortened(unit.text) for unit in said[-installed.turns :])
            digest = self._memory.digest(f"turns {index}", text, plan.salts["tool"])
            found = self._memory.find(digest)
            if found is None:
                verdict = yield from guard.scan(text, "tool")
                blocks = verdict.action == "block"
                found = (Finding(index, verdict.score, blocks, ("split", *verdict.reasons)),) if blocks else ()
                self._memory.keep(digest, found)
            told += [(said[-1], text, each) for each in found]
        return told

    def _one(self, plan: Plan, unit: Unit) -> Work:
        if unit.role not in plan.roles:
            return ()
        text = unit.text
        if len(text) > _TOO_LONG:
            return (yield from _scanned(plan, unit, text))
        layout = ",".join(str(len(leaf.text)) for leaf in unit.leaves) + "\0" if len(unit.leaves) > 1 else ""
        digest = self._memory.digest("parts" if layout else "text", layout + text, plan.salts[unit.role])
        found = self._memory.find(digest)
        if found is None:
            found = yield from _scanned(plan, unit, text)
            self._memory.keep(digest, found)
        return found


def _is_turn(unit: Unit) -> bool:
    """Whether it is what a message says: other members beside it cannot crowd out the messages before."""
    path = unit.leaves[0].path
    return path[0] in _TURNS and len(path) > 1 and path[2:3] in ((), ("content",))


def _shortened(text: str) -> str:
    return text if len(text) <= _JOINED else f"{text[: _JOINED // 2]}\n{text[-_JOINED // 2 :]}"


def _scanned(plan: Plan, unit: Unit, text: str) -> Work:
    findings: list[Finding] = []
    seamless = unit.seamless
    for index, installed in enumerate(plan.guards):
        guard = installed.guard
        if unit.role not in installed.roles or isinstance(guard, PromptLeak | Http | Own):
            continue
        if isinstance(guard, SpanGuard):
            findings += yield from _spans(index, guard, unit, seamless)
        else:
            verdict = yield from guard.scan(text, unit.role)
            if seamless and isinstance(guard, Injection) and verdict.action != "block":
                other = yield from guard.scan(seamless, unit.role)
                verdict = other if other.score > verdict.score else verdict
            if verdict.action != "allow":
                findings.append(Finding(index, verdict.score, verdict.action == "block", verdict.reasons))
            elif verdict.scanned < len(text):
                findings.append(Finding(index, verdict.score, blocks=False, partial=True))
        yield
    return tuple(findings)


def _spans(index: int, guard: SpanGuard, unit: Unit, seamless: str) -> Work:
    spans: list[tuple[int, Span]] = []
    reasons: set[str] = set()
    for number, leaf in enumerate(unit.leaves):
        verdict = yield from guard.scan(leaf.text, unit.role)
        spans += [(number, span) for span in verdict.spans]
        reasons.update(verdict.reasons)
    if seamless:
        verdict = yield from guard.scan(seamless, unit.role)
        across = list(_across(unit, verdict.spans))
        spans += across
        reasons.update(span.what for _, span in across)
    if not spans:
        return ()
    return (Finding(index, 1.0, blocks=True, reasons=tuple(sorted(reasons)), spans=tuple(spans)),)


def _across(unit: Unit, spans: tuple[Span, ...]) -> Iterator[tuple[int, Span]]:
    """Those that reach over a seam between parts, cut there: of the others each part has spoken for itself."""
    ends = list(accumulate(len(leaf.text) for leaf in unit.leaves))
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(ends, span.end)
        if first == last:
            continue
        for number in range(first, last + 1):
            at = ends[number - 1] if number else 0
            yield number, Span(max(span.start - at, 0), min(span.end, ends[number]) - at, span.what)
