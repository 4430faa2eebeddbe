"""Whether two texts may have the same answer."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from policies.pair_guard.question import AUXILIARY
from policies.pair_guard.tables import Tables
from policies.pair_guard.text import Reader, Text, Word

Closeness = Literal["same", "near", "across", "open", "different"]
_TYPO = 5
_WITH = frozenset({"with", "avec"})
_COGNATE = 5
_SOFTS = 2
_REPHRASED = 2
_LEAST = {"difference": 2}
"""So many words must count, or all of them do: the difference between to and for."""
_COMPOUNDS = (3, 2)
_SELF = frozenset({"i", "we", "je", "nous"})
_SOMEONE = frozenset({"someone", "somebody", "quelque"})
_BE = frozenset({"is", "are", "was", "were", "be", "been", "get", "gets", "got", "getting"})
_MOST = frozenset({"best", "worst"})
_COPULA = frozenset({"is", "are", "was", "were"})
_OR = frozenset({"or", "ou"})
_CHOICE = 2
"""Words that either side of a choice may have."""


class Judgement(NamedTuple):
    """How close two texts are, and what told them apart or was left over."""

    closeness: Closeness
    reason: str = ""


SAME = Judgement("same")


class PairGuard:
    """Compares texts word for word. What is said on one side only decides, however similar the rest is.

    `language`: whether an answer may serve a question in the other language. `languages` are those that whatever
    measured their similarity knows (none given: all): texts in another are never compared.
    """

    def __init__(
        self, tables: Tables, language: Literal["same", "any"] = "same", languages: Sequence[str] = ()
    ) -> None:
        reader = Reader(tables)
        self._languages = frozenset(languages)
        self._words = tables.words
        (self._or,) = reader.meanings("en", ("or",))
        self._listed = frozenset(word for known in tables.languages.values() for word in known.concepts)
        self._any = language == "any"
        self._read = reader.read
        self._soft = {name: reader.meanings(name, known.soft) for name, known in tables.languages.items()}
        self._opposites = {
            frozenset((one, other))
            for name, pairs in tables.opposites.items()
            for first, second in pairs
            for one in reader.meanings(name, (first,))
            for other in reader.meanings(name, (second,))
        }

    def judge(self, asked: str, stored: str) -> Judgement:
        """`same`: may share an answer. `near`: if they are very similar too. `across`: the same in two languages, if
        they are similar enough for that. `open`: nothing contradicts, and so
        many words are left over that they do not tell. `different`: never.
        """
        if asked == stored:
            return SAME
        a, b = self._read(asked), self._read(stored)
        if a.quotes and b.quotes and a.quotes != b.quotes:
            return _different("quotes")
        if a.signs.differ(b.signs):
            return _different("signs")
        if a.language != b.language:
            return self._across(a, b) if self._any and a.language and b.language else _different("language")
        if a.language and self._languages and a.language not in self._languages:
            return _different("language")
        if not a.language:
            return SAME if a.words == b.words else _different("words")
        a, b = _settled(a, b.kind), _settled(b, a.kind)
        return _contradiction(a, b) or self._within(a, b)

    def _within(self, a: Text, b: Text) -> Judgement:
        first = [word.meaning for word in a.words]
        second = [word.meaning for word in b.words]
        if a.kind == b.kind and (_active(a) == second or _active(b) == first):
            return SAME
        if min(len(first), len(second)) < _LEAST.get(a.kind, 1):
            return SAME if a.plain == b.plain else _different("hardly any words")
        left, right = _without(first, second), _without(second, first)
        if left and right:
            self._forgive(a, b, first, second, left, right)
        if a.kind != b.kind:
            return self._rephrased(a, b, first, second, left, right)
        if left or right:
            judged = self._left_over(a, b, left, right)
            if judged.closeness != "different" and not self._in_order(a, b, first, second, left, right):
                return _different("order")
            return judged
        if any(_contrast(one, other) for one, other in zip(a.words, b.words, strict=False)):
            return _different("prepositions")
        return SAME if self._in_order(a, b, first, second) else _different("order")

    def _forgive(  # noqa: PLR0913 - two texts, what they say and what they do not share
        self, a: Text, b: Text, first: list[str], second: list[str], left: list[str], right: list[str]
    ) -> None:
        """Take misspellings and words written apart for what they are; `second` then says what `first` does."""
        written = {word.meaning: word.written for word in (*a.words, *b.words)}
        for one in list(left):
            for other in list(right):
                ours, theirs = written.get(one, one), written.get(other, other)
                named = (one == theirs + "^" and not b.proper) or (other == ours + "^" and not a.proper)
                if named or _bare(ours, theirs, b) or _bare(theirs, ours, a) or self._misspelt(ours, theirs):
                    second[second.index(other)] = one
                    left.remove(one)
                    right.remove(other)
                    break
        for some, many, where in ((left, right, second), (right, left, first)):
            if len(some) == 1 and len(many) == 2 and some[0] == "".join(many) and many[0] in where:  # noqa: PLR2004
                place = where.index(many[0])
                where[place : place + 2] = [*some, ""]
                left.clear()
                right.clear()
                return

    def _misspelt(self, one: str, other: str) -> bool:
        """One letter is wrong, and exactly one of the two is a known word: other pairs are names, or two words."""
        if min(len(one), len(other)) < _TYPO or not (one.isalpha() and other.isalpha()):
            return False
        return one_edit(one, other) and self._is_word(one) != self._is_word(other)

    def _is_word(self, word: str) -> bool:
        forms = (word, word.removesuffix("s"), word.removesuffix("ed"))
        return any(form in self._words or form in self._listed for form in forms)

    def _left_over(self, a: Text, b: Text, left: list[str], right: list[str]) -> Judgement:
        rest = left + right
        reason = f"words {' '.join(left)} / {' '.join(right)}"
        alike = len(a.words) - len(left) > max(len(left), len(right)) <= _SOFTS
        weighty = self._weighty(a, b, left, right)
        if a.states and b.states and alike and not weighty and ((left and right) or _joints(a) == _joints(b)):
            return Judgement("near", reason)
        soft = self._soft[a.language]
        if not (left and right) and a.kind not in ("yn", "do") and len(rest) <= _SOFTS and soft.issuperset(rest):
            return Judgement("near", reason)
        return _different(reason) if weighty else _open(reason, left, right)

    def _rephrased(  # noqa: PLR0913 - as above
        self, a: Text, b: Text, first: list[str], second: list[str], left: list[str], right: list[str]
    ) -> Judgement:
        """Another kind of question in the same words, or with one more, asks something else; in partly other words it is
        a paraphrase more often than not, since who asks something else changes little.
        """
        common = len(first) - len(left)
        if not (left or right) or "do" in (a.kind, b.kind):
            return _different("question")
        if self._weighty(a, b, left, right):
            return _different("question")
        if not self._in_order(a, b, first, second, left, right):
            return _different("order")
        single = max(a.questions, b.questions) <= 1  # of several, each may be another
        if left and right and single and common >= max(2, len(left), len(right)):
            return Judgement("near", "question")
        return _open("question", left, right)

    def _weighty(self, a: Text, b: Text, left: list[str], right: list[str]) -> bool:
        """Whether a number, a name or a superlative is among what is left over, or opposites are."""
        named = {word.meaning for word in (*a.words, *b.words) if word.capital}
        if any(each[0] == "#" or each in named or each.endswith("est") for each in (*left, *right)):
            return True
        return any(frozenset((one, other)) in self._opposites for one in left for other in right)

    def _in_order(  # noqa: PLR0913 - two texts, what they say and what they do not share
        self, a: Text, b: Text, first: list[str], second: list[str], left: Sequence[str] = (), right: Sequence[str] = ()
    ) -> bool:
        """Whether what they share comes in one order, but for a list, a compound or a phrase at the beginning."""
        if not left and not right:
            if a.kind == "difference" and len(first) == len(second) == _LEAST["difference"]:
                return sorted(first) == sorted(second)  # of one from the other, or of the other from the one
            for text, own, other in ((a, first, second), (b, second, first)):
                if text.fronted and own[text.fronted :] + own[: text.fronted] == other:
                    return True
        first, ours = _kept(first, a.words, left)
        second, theirs = _kept(second, b.words, right)
        if len(first) != len(second):
            return False
        index = 0
        while index < len(first):
            if first[index] == second[index]:
                index += 1
                continue
            turned = (
                _turned(ours, theirs, first, second, index)
                or _turned(theirs, ours, second, first, index)
                or _listed(ours, theirs, first, second, index)
                or _said_of(a, ours, first, second, index)
                or _said_of(b, theirs, second, first, index)
                or (0 if _asks_twice(a) else _chosen(first, second, index, self._or))
            )
            if not turned:
                return False
            index += turned
        return True

    def _across(self, a: Text, b: Text) -> Judgement:
        """The same in two languages: everything that is known on both sides has its counterpart."""
        if a.negations % 2 != b.negations % 2 or a.kind != b.kind:
            return _different("language")
        left, right = list(a.words), list(b.words)
        pairs: list[tuple[Word, Word]] = []
        for one in a.words:
            other = next(
                (each for each in right if one.meaning == each.meaning or cognate(one.written, each.written)), None
            )
            if other is not None:
                pairs.append((one, other))
                left.remove(one)
                right.remove(other)
        if (left and right) or any(word.meaning[0] == "#" or word.capital for word in (*left, *right)):
            return _different(f"words {' '.join(w.written for w in left)} / {' '.join(w.written for w in right)}")
        if len(left) + len(right) > _SOFTS or not pairs:
            return _different("language")
        places = [b.words.index(other) for _, other in pairs]
        for index in range(len(places) - 1):
            if places[index] > places[index + 1] and pairs[index + 1][0].follows and pairs[index][1].follows:
                return _different("order")
        return Judgement("across")


def _settled(text: Text, other: str) -> Text:
    """`Can you freeze rice?` as the other text takes it: may anyone, or will you."""
    if text.kind != "canyou":
        return text
    return (
        msgspec.structs.replace(text, kind="do", mode="") if other == "do" else msgspec.structs.replace(text, kind="yn")
    )


def _active(text: Text) -> list[str] | None:
    """The words that count, as the active voice has them; None where there is no passive: `is rice eaten by cats`, `how is
    rice cooked`, `by whom was rice found`.
    """
    words, said = [word.meaning for word in text.words], text.plain.split()
    if not words or _BE.isdisjoint(said):
        return None
    if "by" in words[1:]:
        place = words.index("by", 1)
        end = next((k for k in range(place + 1, len(words)) if text.words[k].follows), len(words))
        return [*words[place + 1 : end], words[place - 1], *words[: place - 1], *words[end:]]
    asks_who = text.kind == "who" and said[0] == "by"
    asks_how = text.kind == "how" and said[0] == "how" and not text.persons and (said[1] in _BE or "be" in said)
    return [words[-1], *words[:-1]] if asks_who or asks_how else None


def _bare(accented: str, plain: str, text: Text) -> bool:
    """Whether a word is the other without its accents, in a text that has none."""
    return accented != plain and text.plain.isascii() and _plain(accented) == plain


def _joints(text: Text) -> int:
    """How many words a conjunction stands before: who does two things does more than one of them."""
    return sum(word.joined for word in text.words)


def _contrast(one: Word, other: Word) -> bool:
    """To pay with a card is not to pay for it."""
    return (
        one.follows != other.follows
        and bool(one.follows and other.follows)
        and bool(_WITH & {one.follows, other.follows})
    )


def _different(reason: str) -> Judgement:
    return Judgement("different", reason)


def _open(reason: str, left: Sequence[str], right: Sequence[str]) -> Judgement:
    """Who asks something else changes a word or two; of pairs that differ in more, the words do not tell."""
    return Judgement("open" if max(len(left), len(right)) >= _REPHRASED else "different", reason)


def _contradiction(a: Text, b: Text) -> Judgement | None:
    """What no choice of words makes good."""
    if a.negations % 2 != b.negations % 2:
        return _different("negation")
    if a.mode != b.mode and a.kind == b.kind and a.kind in ("yn", "why", "do"):
        return _different("mode")
    if "past" in (a.tense, b.tense) and a.tense != b.tense and "?" not in (a.tense, b.tense):
        return _different("tense")
    if a.quantity and b.quantity and a.quantity != b.quantity and a.kind == b.kind and a.kind in ("yn", "do"):
        return _different("quantity")
    if _someone_else(a, b) or _someone_else(b, a):
        return _different("person")
    if {a.persons, b.persons} == {"12", "21"} and a.kind == b.kind:
        return _different("person")
    if {a.persons, b.persons} == {"1", "2"} and not (a.subject and b.subject and a.kind != "what"):
        return _different("person")
    return None


def _someone_else(a: Text, b: Text) -> bool:
    """`I broke a window` and `someone broke my window`: both words are light."""
    return a.plain.partition(" ")[0] in _SELF and b.plain.partition(" ")[0] in _SOMEONE


def _without(some: list[str], others: list[str]) -> list[str]:
    rest = Counter(others)
    found = []
    for each in some:
        if rest[each]:
            rest[each] -= 1
        else:
            found.append(each)
    return found


def _kept(meanings: list[str], words: Sequence[Word], gone: Sequence[str]) -> tuple[list[str], list[Word]]:
    """What is left of a text when the words that only it has are taken out. A conjunction before one of them stands before
    the next word then: `love and true friendship`.
    """
    rest = Counter(gone)
    kept: list[str] = []
    places: list[Word] = []
    joined = False
    for meaning, word in zip(meanings, words, strict=len(meanings) == len(words)):
        if rest[meaning]:
            rest[meaning] -= 1
            joined = joined or word.joined
        else:
            kept.append(meaning)
            places.append(msgspec.structs.replace(word, joined=True) if joined and not word.joined else word)
            joined = False
    return kept, places


def _turned(a: Sequence[Word], b: Sequence[Word], first: list[str], second: list[str], index: int) -> int:
    """`group on Facebook` as `Facebook group`: how many words that are; 0 if it is not so."""
    for size in (*_COMPOUNDS, 1):
        block = first[index + 1 : index + 1 + size]
        if len(block) < size or second[index : index + size + 1] != [*block, first[index]]:
            continue
        if a[index + 1].linked and not b[index].follows and not b[index + size].follows:
            return size + 1
    return 0


def _listed(a: Sequence[Word], b: Sequence[Word], first: list[str], second: list[str], index: int) -> int:
    """`tea and coffee` as `coffee and tea`: how many words that are; 0 if it is not so."""
    after = index + 1
    if after >= len(first) or first[index] != second[after] or first[after] != second[index]:
        return 0
    return 2 if a[after].joined and b[after].joined else 0


def _said_of(text: Text, words: Sequence[Word], first: list[str], second: list[str], index: int) -> int:
    """`which opening is best` as `the best opening`: how many words that are; 0 if it is not so."""
    if _COPULA.isdisjoint(text.plain.split()):
        return 0
    for size in range(1, _COMPOUNDS[0] + 1):
        place = index + size
        if place >= len(first) or not (words[place].written in _MOST or first[place].endswith("est")):
            continue
        if [first[place], *first[index:place]] == second[index : place + 1]:
            return size + 1
    return 0


def _asks_twice(text: Text) -> bool:
    """Whether the choice is between clauses: `does he like me or do I annoy him`."""
    words = text.plain.split()
    return any(one in _OR and other in AUXILIARY for one, other in pairwise(words))


def _chosen(first: list[str], second: list[str], index: int, choice: str) -> int:
    """`green tea or coffee` as `coffee or green tea`: how many words that are; 0 if it is not so."""
    for before in range(1, _CHOICE + 1):
        place = index + before
        if place >= len(first) or first[place] != choice:
            continue
        one = first[index:place]
        for after in range(1, _CHOICE + 1):
            other = first[place + 1 : place + 1 + after]
            if len(other) == after and second[index : place + 1 + after] == [*other, choice, *one]:
                return before + 1 + after
    return 0


def one_edit(one: str, other: str) -> bool:
    """Whether one letter more, less or other, or two neighbours the other way round, makes them equal."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    if a[1:] == b[1:] or a[1:] == b or a == b[1:]:
        return True
    return len(a) > 1 and len(b) > 1 and a[0] == b[1] and a[1] == b[0] and a[2:] == b[2:]


@lru_cache(4096)
def cognate(one: str, other: str) -> bool:
    """Whether words of two languages are one word by their look: the same without accents, or with another ending."""
    one, other = _plain(one), _plain(other)
    if one == other:
        return True
    if min(len(one), len(other)) < _COGNATE:
        return False
    shared = next((k for k, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    return shared >= _COGNATE and shared >= 0.6 * max(len(one), len(other))


def _plain(word: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))
