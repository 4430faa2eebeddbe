"""The system prompt in an answer: long runs of its words, and the operator's canary where one stands in the prompt.

A run of WORDS words that stands in the prompt is a leak; a paraphrase or a translation is not found.
"""

import re
from typing import Final

import msgspec

from policies.guards.literals import literals
from policies.guards.spans import Finder, SpanAction, SpanGuard
from policies.guards.verdict import Span

WORDS: Final = 8
_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
# A word; every letter of a script without spaces is one.
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_NEAR: Final = 120  # characters in which a run's worth of words usually is
_LONGEST_WORD: Final = 128  # characters that are compared


class PromptLeakConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="prompt_leak", tag_field="kind"):
    """`canary` is a text that stands in the system prompt and must never leave; none is inserted."""

    action: SpanAction = "block"
    canary: str = ""
    words: int = WORDS


class Runs:
    """Finds runs of words that stand in a prompt."""

    def __init__(self, prompt: str, size: int) -> None:
        words = [word[0][:_LONGEST_WORD].casefold() for word in _WORD.finditer(prompt)]
        self._size = size
        self._known = set(words)
        self._runs = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    def find(self, text: str) -> list[Span]:
        """Every run of the prompt's words."""
        if not self._runs:
            return []
        words = list(_WORD.finditer(text))
        folded = [word[0][:_LONGEST_WORD].casefold() for word in words]
        if self._known.isdisjoint(folded[self._size - 1 :: self._size]):  # every run covers one of these
            return []
        return [
            Span(words[i].start(), words[i + self._size - 1].end(), "system prompt")
            for i in range(len(words) - self._size + 1)
            if tuple(folded[i : i + self._size]) in self._runs
        ]

    def open_from(self, text: str) -> int:
        """The start of the last words that could begin a run."""
        if not self._runs:
            return len(text)
        near = max(0, len(text) - _NEAR)
        starts = [word.start() for word in _WORD.finditer(text, near)]
        if near and len(starts) <= self._size:  # the first of them may be the end of a word
            starts = [word.start() for word in _WORD.finditer(text)]
        return starts[-self._size :][0] if starts else len(text)


class Both:
    """Two finders as one."""

    def __init__(self, first: Finder, second: Finder) -> None:
        self._first, self._second = first, second

    def find(self, text: str) -> list[Span]:
        """What either finds."""
        return [*self._first.find(text), *self._second.find(text)]

    def open_from(self, text: str) -> int:
        """Where either is open."""
        return min(self._first.open_from(text), self._second.open_from(text))


class PromptLeak:
    """Makes the guard of one call from its system prompt."""

    def __init__(self, config: PromptLeakConfig) -> None:
        if config.words < 4:  # noqa: PLR2004
            raise ValueError("prompt_leak: fewer than 4 words would find common phrases")
        self._config = config
        self._canary = literals([config.canary], "canary", whole_words=False) if config.canary else None

    def of(self, prompt: str) -> SpanGuard:
        """The guard for answers to a call with this system prompt."""
        runs = Runs(prompt, self._config.words)
        return SpanGuard("prompt_leak", Both(runs, self._canary) if self._canary else runs, self._config)
