"""The system prompt in an answer: long runs of its words, and the operator's canary where one stands in the prompt.

A run of WORDS words that stands in the prompt is a leak; a paraphrase or a translation is not found.
"""

import hashlib
import re
from collections import OrderedDict
from itertools import pairwise
from typing import Final

from policies.guards.literals import literals
from policies.guards.settings import PromptLeakConfig
from policies.guards.spans import Finder, SpanGuard
from policies.guards.verdict import Span

_CJK: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
# A word; every letter of a script without spaces is one.
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_ENDS_IN_WORD: Final = re.compile(rf"[^\W{_CJK}]\Z")
_LONGEST_WORD: Final = 128  # characters that are compared
_KEPT: Final = 256  # prompts whose runs are kept


class Runs:
    """Finds runs of `size` words that stand in a prompt.

    A text is held back only where its last words stand in the prompt in that order: they could grow into a run.
    """

    def __init__(self, prompt: str, size: int) -> None:
        words = [word[0][:_LONGEST_WORD].casefold() for word in _WORD.finditer(prompt)]
        self._size = size
        self._runs = {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        self._starts = set(words[: len(words) - size + 1])
        self._pairs = set(pairwise(words))
        self._known = set(words)
        has_short = any(re.fullmatch(rf"[{_CJK}]", word) for word in self._known)
        self._least = size if has_short else 2 * size - 1

    def suspects(self, text: str) -> bool:
        """Whether it is long enough for a run."""
        return len(text) >= self._least and bool(self._runs)

    def find(self, text: str, start: int = 0, /) -> list[Span]:
        """Every run of the prompt's words."""
        size = self._size
        if not self._has_pair(_WORD.findall(text, start)):
            return []
        words = self._words(text, start)
        folded = [word[0][:_LONGEST_WORD].casefold() for word in words]
        return [
            Span(words[i].start(), words[i + size - 1].end(), "system prompt")
            for i in range(len(words) - size + 1)
            if folded[i] in self._starts and tuple(folded[i : i + size]) in self._runs
        ]

    def _has_pair(self, words: list[str]) -> bool:
        """Whether one of the pairs, of which every run covers one, stands in the prompt."""
        step = self._size - 1
        return any(
            (first[:_LONGEST_WORD].casefold(), second[:_LONGEST_WORD].casefold()) in self._pairs
            for first, second in zip(words[::step], words[1::step], strict=False)
        )

    def open_from(self, text: str, /) -> int:
        """The start of the last words that could begin a run. The very last one may still grow."""
        if not self._runs:
            return len(text)
        said = _WORD.findall(text)
        held = len(text)
        if said and text.endswith(said[-1]):
            last = said.pop()
            if len(last) >= _LONGEST_WORD and last[:_LONGEST_WORD].casefold() not in self._known:
                return held  # however it goes on, no run has it: a file in base64 is not held back whole
            held -= len(last)
        if not said or said[-1][:_LONGEST_WORD].casefold() not in self._known:
            return held
        return self._chain(text, said[-self._size + 1 :], held)

    def _chain(self, text: str, said: list[str], held: int) -> int:
        """The start of those of the words before `held` that stand in the prompt in this order and could begin a run."""
        after, at = "", held
        for word in reversed(said):
            folded = word[:_LONGEST_WORD].casefold()
            if (after and (folded, after) not in self._pairs) or folded not in self._known:
                break
            at = text.rindex(word, 0, at)
            if folded in self._starts:
                held = at
            after = folded
        return held

    def _words(self, text: str, start: int) -> list[re.Match[str]]:
        """The words from `start` on, without the end of one that began before."""
        words = list(_WORD.finditer(text, start))
        if start and words and words[0].start() == start and _ENDS_IN_WORD.search(text, start - 1, start):
            del words[0]
        return words


class Both:
    """Two finders as one."""

    def __init__(self, first: Finder, second: Finder) -> None:
        self._first, self._second = first, second

    def suspects(self, text: str) -> bool:
        """Whether either does."""
        return bool(self._first.suspects(text) or self._second.suspects(text))

    def find(self, text: str, start: int = 0, /) -> list[Span]:
        """What either finds."""
        return [*self._first.find(text, start), *self._second.find(text, start)]

    def open_from(self, text: str, /) -> int:
        """Where either is open."""
        return min(self._first.open_from(text), self._second.open_from(text))


class PromptLeak:
    """Makes the guard of one call from its system prompt; those of the last prompts are kept."""

    kind = "prompt_leak"

    def __init__(self, config: PromptLeakConfig) -> None:
        self._words = config.words
        self._canary = literals([config.canary], "canary", whole_words=False) if config.canary else None
        self.version = f"prompt_leak {config.words} {hashlib.sha256(config.canary.encode()).hexdigest()}"
        self._kept: OrderedDict[bytes, SpanGuard] = OrderedDict()

    def of(self, prompt: str) -> SpanGuard:
        """The guard for answers to a call with this system prompt."""
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()
        guard = self._kept.get(key)
        if guard is None:
            runs = Runs(prompt, self._words)
            guard = SpanGuard(self.kind, Both(runs, self._canary) if self._canary else runs, self.version)
            self._kept[key] = guard
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return guard
