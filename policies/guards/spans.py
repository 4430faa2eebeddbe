"""Finding spans to redact, in a whole text and in a stream, with the same result for every way to cut the stream.

Every pattern obeys three rules, and the stream relies on them:
1. A match is decided by its own characters and at most CONTEXT before it and one after it.
2. It has at most LONGEST characters, and either none of them is outside printable ASCII without space, or `open_from`
   of its finder returns its start for as long as it may still grow.
3. All matches count, overlapping ones too (they are merged), so that no match depends on where a search began.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import msgspec
import re2

from policies.guards.verdict import Span

CONTEXT: Final = 256
LONGEST: Final = 4096  # characters of a match without blanks
PATIENCE: Final = 8192  # characters of a run without blanks that a stream holds back before it lets the first ones go
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class Pattern(msgspec.Struct, frozen=True):
    """`probe` (RE2) says cheaply whether a text may hold one; `regex` is a lookahead whose group 1 is the span."""

    what: str
    probe: str
    regex: re.Pattern[str]
    valid: Callable[[str], bool] | None = None


class Finder(Protocol):
    """Finds what is to be redacted."""

    def find(self, text: str) -> list[Span]:
        """Every match, in any order, overlapping ones too."""

    def open_from(self, text: str) -> int:
        """Where the earliest match with blanks starts that more text could complete or lengthen; len(text) for none."""


class Patterns:
    """Patterns behind one RE2 set that says which of them are worth running."""

    def __init__(self, patterns: Iterable[Pattern], open_from: Callable[[str], int] = len) -> None:
        self._patterns = tuple(patterns)
        self.open_from = open_from
        self._probe = re2.Set.SearchSet()
        for pattern in self._patterns:
            self._probe.Add(pattern.probe)
        self._probe.Compile()

    def find(self, text: str) -> list[Span]:
        """See Finder."""
        likely = self._probe.Match(text.encode("utf-8", "replace"))
        return [span for index in likely or () for span in self._spans(self._patterns[index], text)]

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
    """The text with each span replaced by `[redacted what]`."""
    parts, at = [], 0
    for span in merged(spans):
        parts += [text[at : span.start], f"[redacted {span.what}]"]
        at = span.end
    return "".join([*parts, text[at:]])


class Redactor:
    """Redacts a stream. `feed` returns what is safe to send on; what may yet become a match is held back until `close`.

    For every way to cut a text into chunks the outputs joined are `redact(text, finder.find(text))`.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._text = ""  # up to CONTEXT characters that are gone, then those held back
        self._gone = 0
        self.found: set[str] = set()

    def feed(self, chunk: str) -> str:
        """Take the next characters, return those that are safe."""
        self._text += chunk
        return self._release(self._hold())

    def close(self) -> str:
        """The stream is over: everything that was held back, redacted."""
        return self._release(len(self._text))

    def _hold(self) -> int:
        text = self._text
        hold = max(self._gone, len(text.rstrip(_PRINTABLE)))
        if len(text) - hold >= PATIENCE:
            hold = len(text) - LONGEST
        return max(self._gone, min(hold, self._finder.open_from(text)))

    def _release(self, hold: int) -> str:
        text, gone = self._text, self._gone
        if hold == gone:
            return ""
        spans = merged(span for span in self._finder.find(text) if span.start >= gone)
        for span in spans:
            if span.start < hold < span.end:
                hold = span.start
        ready = [Span(s.start - gone, s.end - gone, s.what) for s in spans if s.end <= hold and s.start < hold]
        self.found.update(span.what for span in ready)
        out = redact(text[gone:hold], ready)
        keep = max(0, hold - CONTEXT)
        self._text, self._gone = text[keep:], hold - keep
        return out
