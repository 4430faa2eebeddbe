"""Whether two texts may have the same answer."""

from typing import Literal, NamedTuple

from policies.pair_guard.tables import Tables
from policies.pair_guard.text import Reader, Text, Word

Closeness = Literal["same", "near", "different"]
_TYPO = 5


class Judgement(NamedTuple):
    """How close two texts are, and what told them apart."""

    closeness: Closeness
    reason: str = ""


SAME = Judgement("same")


class PairGuard:
    """Compares texts word for word: what is left over on either side decides."""

    def __init__(self, tables: Tables, language: Literal["same", "any"] = "same") -> None:
        self._tables = tables
        self._language = language
        self._read = Reader(tables).read

    def judge(self, asked: str, stored: str) -> Judgement:
        """`same`: may share an answer. `near`: only if they are very similar too. `different`: never."""
        if asked == stored:
            return SAME
        a, b = self._read(asked), self._read(stored)
        if a.quotes and b.quotes and a.quotes != b.quotes:
            return Judgement("different", "quotes")
        if a.language != b.language:
            if self._language == "same" or not (a.language and b.language):
                return Judgement("different", "language")
            return _across(a, b)
        if not a.language:
            return SAME if a.words == b.words else Judgement("different", "words")
        return self._within(a, b)

    def _within(self, a: Text, b: Text) -> Judgement:
        if a.negations % 2 != b.negations % 2:
            return Judgement("different", "negation")
        if a.kind != b.kind:
            return Judgement("different", "question")
        if a.mode != b.mode and a.kind in ("yn", "why", "do"):
            return Judgement("different", "mode")
        if "past" in (a.tense, b.tense) and a.tense != b.tense:
            return Judgement("different", "tense")
        if {a.persons, b.persons} == {"1", "2"} and not (a.subject and b.subject and a.kind != "what"):
            return Judgement("different", "person")
        first = [word.meaning for word in a.words]
        second = [word.meaning for word in b.words]
        if first == second:
            return SAME
        return self._aligned(a, b, first, second)

    def _aligned(self, a: Text, b: Text, first: list[str], second: list[str]) -> Judgement:
        left, right = _without(first, second), _without(second, first)
        if left and right:
            self._forgive(a, b, first, second, left, right)
        if left or right:
            return self._left_over(a, b, left, right)
        if first == second or _reordered(a, b, first, second):
            return SAME
        return Judgement("different", "order")

    def _forgive(self, a: Text, b: Text, first: list[str], second: list[str], left: list[str], right: list[str]) -> None:
        """Take misspellings and words written apart for what they are; `second` then says what `first` does."""
        for one in list(left):
            for other in list(right):
                if self._misspelt(one, other):
                    left.remove(one)
                    right.remove(other)
                    second[second.index(other)] = one
                    break
        for some, many, where in ((left, right, second), (right, left, first)):
            joined = "".join(many)
            if len(some) == 1 and len(many) == 2 and some[0] == joined and many[0] in where:  # noqa: PLR2004
                place = where.index(many[0])
                where[place : place + 2] = some
                left.clear()
                right.clear()
                return

    def _misspelt(self, one: str, other: str) -> bool:
        if min(len(one), len(other)) < _TYPO or one[0] in "#=" or other[0] in "#=" :
            return False
        words = self._tables.words
        return (one in words) != (other in words) and one_edit(one, other)

    def _left_over(self, a: Text, b: Text, left: list[str], right: list[str]) -> Judgement:
        if left and right:
            return Judgement("different", f"words {' '.join(left)} / {' '.join(right)}")
        soft = self._tables.languages[a.language].soft
        written = {word.meaning: word.written for word in (*a.words, *b.words)}
        if all(written.get(each, each) in soft for each in (*left, *right)):
            return Judgement("near", f"words {' '.join((*left, *right))}")
        return Judgement("different", f"words {' '.join((*left, *right))}")


def _without(some: list[str], others: list[str]) -> list[str]:
    rest = list(others)
    found = []
    for each in some:
        if each in rest:
            rest.remove(each)
        else:
            found.append(each)
    return found


def _reordered(a: Text, b: Text, first: list[str], second: list[str]) -> bool:
    """Whether only the order of a list, of a compound or of a phrase at the beginning changed."""
    for text, own, other in ((a, first, second), (b, second, first)):
        if text.fronted and own[text.fronted :] + own[: text.fronted] == other:
            return True
    index = 0
    first = list(first)
    while index < len(first):
        if first[index] == second[index]:
            index += 1
            continue
        if index + 1 == len(first) or first[index] != second[index + 1] or first[index + 1] != second[index]:
            return False
        one, other = a.words[index + 1], b.words[index + 1]
        if not (one.joined and other.joined) and one.linked == other.linked:
            return False
        index += 2
    return True


def one_edit(one: str, other: str) -> bool:
    """Whether one letter more, less or other, or two neighbours the other way round, makes them equal."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    if a[1:] == b[1:] or a[1:] == b or a == b[1:]:
        return True
    return len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0] and a[2:] == b[2:]


def _across(a: Text, b: Text) -> Judgement:
    return Judgement("different", "language")
