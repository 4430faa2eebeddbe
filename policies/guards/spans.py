"""Finding spans to redact, in a whole text and in a stream, with the same result for every way to cut the stream.

Every pattern obeys three rules, and the stream relies on them:
1. A match is decided by its own characters and at most CONTEXT before it and one after it.
2. It has at most LONGEST characters, and either none of them is outside printable ASCII without space, or `open_from`
   of its finder returns its start for as long as it may still grow.
3. All matches count, overlapping ones too (they are merged), so that no match depends on where a search began.

Most pieces of a stream hold nothing that could be part of a match, and cost only the test that says so: a finder
`suspects` every text that holds a whole match, by the characters of the match alone, and may suspect others.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import msgspec
import re2

from policies.guards.settings import Setting
from policies.guards.verdict import Role, Scan, Span, Verdict

CONTEXT: Final = 256
LONGEST: Final = 4096  # characters of a match without blanks
PATIENCE: Final = 8192  # characters of a run without blanks that a stream holds back before it lets the first ones go
SLICE: Final = 4096  # characters searched at a time
VERSION: Final = 2  # of the patterns; raise it with any change to what is found
_LONG: Final = 512  # characters of a span that is told in parts
_PIECE: Final = 128  # characters of what a stream brings at a time, as a rule
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
Suspects = Callable[[str], object]


class Pattern(msgspec.Struct, frozen=True):
    """`probe` (RE2) says cheaply whether a text may hold one; `regex` is a lookahead whose group 1 is the span."""

    what: str
    probe: str
    regex: re.Pattern[str]
    valid: Callable[[str], bool] | None = None


class Finder(Protocol):
    """Finds what is to be redacted."""

    @property
    def suspects(self) -> Suspects:
        """Whether a text may hold a whole match: something false only if it does not."""

    def find(self, text: str, start: int = 0, /) -> list[Span]:
        """Every match from `start` on, in any order, overlapping ones too; what is before `start` is its context."""

    def open_from(self, text: str, /) -> int:
        """Where the earliest match with blanks starts that more text could complete or lengthen; len(text) for none."""


class Patterns:
    """Patterns behind one RE2 set that says which of them are worth running."""

    def __init__(
        self,
        patterns: Iterable[Pattern],
        open_from: Callable[[str], int] = len,
        suspects: re.Pattern[str] | None = None,
        least: int = 1,
    ) -> None:
        """`suspects` is found in every match, and none has fewer characters than `least`."""
        self._patterns = tuple(patterns)
        self.open_from = open_from
        self._probe = re2.Set.SearchSet()
        for pattern in self._patterns:
            self._probe.Add(pattern.probe)
        self._probe.Compile()
        self._least = least
        self.suspects: Suspects = self._is_likely if suspects is None else suspects.search

    def find(self, text: str, start: int = 0, /) -> list[Span]:
        """See Finder."""
        return [
            span
            for index in self._likely(text)
            for span in self._spans(self._patterns[index], text)
            if span.start >= start
        ]

    def _is_likely(self, text: str) -> bool:
        return len(text) >= self._least and bool(self._likely(text))

    def _likely(self, text: str) -> list[int]:
        return self._probe.Match(text.encode("utf-8", "replace")) or []

    def _spans(self, pattern: Pattern, text: str) -> Iterator[Span]:
        for match in pattern.regex.finditer(text):
            if match[1] and (pattern.valid is None or pattern.valid(match[1])):
                yield Span(match.start(1), match.end(1), pattern.what)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order; overlapping ones become one, named after the first (of equal starts, after the longest)."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.what)):
        if result and span.start < result[-1].end:
            last = result[-1]
            result[-1] = Span(last.start, max(last.end, span.end), last.what)
        else:
            result.append(span)
    return tuple(result)


def redact(text: str, spans: Iterable[Span]) -> str:
    """The text with each span replaced by `[redacted what]`; one that is nothing (`what` is empty) only goes."""
    parts, at = [], 0
    for span in merged(spans):
        parts += [text[at : span.start], f"[redacted {span.what}]" if span.what else ""]
        at = span.end
    return "".join([*parts, text[at:]])


class Settled(msgspec.Struct, frozen=True, gc=False):
    """Characters that no match can reach any more, and each finder's spans among them (offsets count within `text`)."""

    text: str = ""
    found: tuple[tuple[Span, ...], ...] = ()
    """One entry a finder; empty where nothing was found by any."""
    going: tuple[bool, ...] = ()
    """Whether a finder's first span goes on with the last one it had: a long one is told in parts."""


_NOTHING: Final = Settled()


class Search:
    """Looks with several finders through a text that comes in chunks: `feed` takes one and says what is settled."""

    __slots__ = ("_before", "_finders", "_going", "_solid", "_text")

    def __init__(self, finders: tuple[Finder, ...]) -> None:
        self._finders = finders
        self._before = ""
        """Settled characters that patterns may look back on."""
        self._text = ""
        """What is held back."""
        self._solid = True
        """Whether that is one run without blanks: more of the same settles nothing."""
        self._going = (False,) * len(finders)

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._text)

    def feed(self, chunk: str, *, last: bool = False) -> Settled:
        """The characters that no match can reach any more, and the spans among them. `last` settles everything."""
        text = self._text + chunk
        if last:
            return self._settle(text, len(text))
        if self._solid and len(text) < PATIENCE and not chunk.rstrip(_PRINTABLE):
            self._text = text
            return _NOTHING
        return self._settle(text, self._hold(text))

    def _hold(self, text: str) -> int:
        hold = run = len(text.rstrip(_PRINTABLE))
        if len(text) - hold >= PATIENCE:
            hold = run = len(text) - LONGEST
        for finder in self._finders:
            if not hold:
                break
            hold = min(hold, finder.open_from(text))
        self._solid = hold == run
        return hold

    def _settle(self, text: str, hold: int) -> Settled:
        found: tuple[tuple[Span, ...], ...] = ()
        was_going = self._going
        if hold and self._is_suspect(text):
            found, hold = self._found(text, hold)
        if not hold:
            self._text = text
            return _NOTHING
        settled, self._text = text[:hold], text[hold:]
        self._before = (self._before + settled)[-CONTEXT:]
        return Settled(settled, found, was_going)

    def _is_suspect(self, text: str) -> bool:
        """Whether it is worth a search: of a long text the search itself says so sooner."""
        if len(text) > _PIECE:
            return True
        for finder in self._finders:  # noqa: SIM110 - on the path of every event, where a generator costs more
            if finder.suspects(text):
                return True
        return False

    def _found(self, text: str, hold: int) -> tuple[tuple[tuple[Span, ...], ...], int]:
        """Each finder's spans that end by `hold`, and `hold` moved before those that it would cut.

        A long span is cut where one of the matches it is made of begins, and goes on with that one.
        """
        start = len(self._before)
        whole = self._before + text
        matches = [
            [Span(each.start - start, each.end - start, each.what) for each in finder.find(whole, start)]
            if len(text) > _PIECE or finder.suspects(text)
            else []
            for finder in self._finders
        ]
        found = [merged(each) for each in matches]
        moved = True
        while moved:  # moving it before one finder's span may cut another's
            moved = False
            for own, spans in zip(matches, found, strict=True):
                for span in spans:
                    if span.start < hold < span.end and (joint := _joint(own, span, hold)) != hold:
                        hold, moved, self._solid = joint, True, False
        if hold:
            self._going = tuple(any(span.start < hold < span.end for span in spans) for spans in found)
        kept = tuple(
            tuple(Span(span.start, min(span.end, hold), span.what) for span in spans if span.start < hold)
            for spans in found
        )
        return (kept if any(kept) else ()), hold


def _joint(matches: list[Span], span: Span, hold: int) -> int:
    """Where a span may be cut, at `hold` or before: its start, or if it is long the start of a match that ends last."""
    joint, end = span.start, 0
    if span.end - span.start > _LONG:
        for match in sorted(matches):
            if span.start < match.start <= hold and match.end >= end:
                joint = match.start
            end = max(end, match.end) if match.start >= span.start else end
    return joint


class Stream:
    """Span guards on one text that is being streamed; nothing it returned is ever taken back.

    Joined, the outputs are what the guards make of the whole text: the spans of those that redact replaced, and where
    one blocks nothing from its first span on (`blocked` is then its place among the guards, and every later output
    empty). `found` counts what each guard found, by what it is; `first` is the first text that each found.
    """

    __slots__ = ("_search", "_settings", "blocked", "changed", "fed", "first", "found")

    def __init__(self, finders: tuple[Finder, ...], settings: tuple[Setting, ...]) -> None:
        self._search, self._settings = Search(finders), settings
        self.found: list[dict[str, int]] = [{} for _ in settings]
        self.first: list[str] = ["" for _ in settings]
        self.blocked: int | None = None
        self.changed = False
        """Whether anything was redacted or blocked."""
        self.fed = 0
        """Characters taken."""

    @property
    def settled(self) -> int:
        """Characters of what was taken that are not held back."""
        return self.fed - self._search.held

    def feed(self, chunk: str, *, last: bool = False) -> str:
        """Take the next characters, return those that may be sent on. After `last` nothing is held back."""
        if self.blocked is not None:
            return ""
        self.fed += len(chunk)
        settled = self._search.feed(chunk, last=last)
        return self._judged(settled) if settled.found else settled.text

    def _judged(self, settled: Settled) -> str:
        cut = len(settled.text)
        redacted: list[Span] = []
        goes_on = False
        for index, (spans, setting) in enumerate(zip(settled.found, self._settings, strict=True)):
            self._count(index, spans[settled.going[index] :], settled.text)
            if spans and setting == "block" and spans[0].start < cut:
                cut, self.blocked = spans[0].start, index
            elif setting == "redact":
                redacted += spans
                goes_on = goes_on or settled.going[index]
        redacted = [Span(span.start, min(span.end, cut), span.what) for span in redacted if span.start < cut]
        if goes_on and redacted:
            redacted = [Span(0, first.end, "") if not first.start else first for first in merged(redacted)]
        self.changed = self.changed or bool(redacted) or self.blocked is not None
        return redact(settled.text[:cut], redacted)

    def _count(self, index: int, spans: tuple[Span, ...], text: str) -> None:
        counts = self.found[index]
        for span in spans:
            counts[span.what] = counts.get(span.what, 0) + 1
        if spans and not self.first[index]:
            self.first[index] = text[spans[0].start : spans[0].end]


class SpanGuard:
    """A guard made of a finder: secrets, personal data, links, keywords, leaks of the prompt."""

    def __init__(self, kind: str, finder: Finder, settings: str) -> None:
        self.kind, self.finder = kind, finder
        self.version = hashlib.sha256(f"{VERSION} {settings}".encode()).hexdigest()[:16]

    def scan(self, text: str, _role: Role, /) -> Scan:
        """Slices of SLICE characters; the spans are those of the whole text."""
        search, spans, at = Search((self.finder,)), list[Span](), 0
        for start in range(0, max(1, len(text)), SLICE):
            settled = search.feed(text[start : start + SLICE], last=start + SLICE >= len(text))
            for found in settled.found:
                spans += [Span(span.start + at, span.end + at, span.what) for span in found]
            at += len(settled.text)
            if start + SLICE < len(text):
                yield
        reasons = tuple(sorted({span.what for span in spans}))
        return Verdict(self.kind, "block" if spans else "allow", float(bool(spans)), tuple(spans), reasons, len(text))
