"""Finding spans to redact, in a whole text and in a stream, with the same result for every way to cut the stream.

Every pattern obeys three rules, and the stream relies on them:
1. A match is decided by its own characters and at most CONTEXT before it and one after it.
2. It has at most LONGEST characters, and either none of them is outside printable ASCII without space, or `open_from`
   of its finder returns its start for as long as it may still grow.
3. All matches count, overlapping ones too (they are merged), so that no match depends on where a search began.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, Protocol, cast

import msgspec
import re2

from policies.guards.verdict import Action, Role, Scan, Span, Verdict

CONTEXT: Final = 256
LONGEST: Final = 4096  # characters of a match without blanks
PATIENCE: Final = 8192  # characters of a run without blanks that a stream holds back before it lets the first ones go
SLICE: Final = 4096  # characters searched at a time
VERSION: Final = 1  # of the patterns; raise it with any change to what is found
SpanAction = Literal["redact", "block", "flag", "shadow"]
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


class Search:
    """Finds spans in a text that comes in chunks: `feed` takes one and says what is settled."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._text = ""  # up to CONTEXT characters that are settled, then those held back
        self._gone = 0

    def feed(self, chunk: str, *, last: bool = False) -> tuple[str, tuple[Span, ...]]:
        """The characters that no match can reach any more, and the spans among them. `last` settles everything."""
        self._text += chunk
        return self._settle(len(self._text) if last else self._hold())

    def _hold(self) -> int:
        text = self._text
        hold = max(self._gone, len(text.rstrip(_PRINTABLE)))
        if len(text) - hold >= PATIENCE:
            hold = len(text) - LONGEST
        return max(self._gone, min(hold, self._finder.open_from(text)))

    def _settle(self, hold: int) -> tuple[str, tuple[Span, ...]]:
        text, gone = self._text, self._gone
        if hold == gone:
            return "", ()
        spans = merged(span for span in self._finder.find(text) if span.start >= gone)
        for span in spans:
            if span.start < hold < span.end:
                hold = span.start
        ready = tuple(Span(s.start - gone, s.end - gone, s.what) for s in spans if s.end <= hold)
        settled, keep = text[gone:hold], max(0, hold - CONTEXT)
        self._text, self._gone = text[keep:], hold - keep
        return settled, ready


class Stream:
    """A guard on an answer that is being streamed; nothing it returned is ever taken back.

    Joined, the outputs are what the guard makes of the whole text: for `redact` the redacted text, for `block` everything
    before the first span (`blocked` is then true and every later output empty), else the text itself.
    """

    def __init__(self, finder: Finder, action: Action) -> None:
        self._search, self._action = Search(finder), action
        self.found: dict[str, int] = {}
        self.blocked = False

    def feed(self, chunk: str) -> str:
        """Take the next characters, return those that may be sent on."""
        return "" if self.blocked else self._send(*self._search.feed(chunk))

    def close(self) -> str:
        """The stream is over: what was held back."""
        return "" if self.blocked else self._send(*self._search.feed("", last=True))

    def _send(self, text: str, spans: tuple[Span, ...]) -> str:
        for span in spans:
            self.found[span.what] = self.found.get(span.what, 0) + 1
        if spans and self._action == "block":
            self.blocked = True
            return text[: spans[0].start]
        return redact(text, spans) if self._action == "redact" else text


class SpanConfig(Protocol):
    """What every guard that finds spans is told."""

    @property
    def action(self) -> SpanAction:
        """What to do with a text that has spans."""


class SpanGuard:
    """A guard made of a finder: secrets, personal data, links, keywords, leaks of the prompt."""

    def __init__(self, kind: str, finder: Finder, config: SpanConfig) -> None:
        self.kind, self._finder, self._config = kind, finder, config
        self.version = hashlib.sha256(f"{VERSION} {config!r}".encode()).hexdigest()[:16]

    def scan(self, text: str, _role: Role, /) -> Scan:
        """Slices of SLICE characters; the spans are those of the whole text."""
        search, spans, at = Search(self._finder), list[Span](), 0
        for start in range(0, max(1, len(text)), SLICE):
            settled, found = search.feed(text[start : start + SLICE], last=start + SLICE >= len(text))
            spans += [Span(span.start + at, span.end + at, span.what) for span in found]
            at += len(settled)
            if start + SLICE < len(text):
                yield
        action = self.action if spans else "allow"
        return Verdict(
            self.kind, action, float(bool(spans)), tuple(spans), tuple(sorted({s.what for s in spans})), len(text)
        )

    @property
    def action(self) -> Action:
        """What happens to a text with spans; a shadow guard only flags."""
        return "flag" if self._config.action in {"shadow", "flag"} else cast("Action", self._config.action)

    def stream(self) -> Stream:
        """A new stream under this guard."""
        return Stream(self._finder, self.action)
