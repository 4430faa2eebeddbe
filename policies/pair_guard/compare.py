"""Whether two texts may have the same answer."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from policies.pair_guard.clauses import differ
from policies.pair_guard.contradiction import AMOUNTS, contradiction
from policies.pair_guard.order import in_order
from policies.pair_guard.spelling import bare, cognate, one_edit, same_but_accents
from policies.pair_guard.tables import Tables
from policies.pair_guard.text import Reader, Text
from policies.pair_guard.word import Word

Closeness = Literal["same", "near", "across", "open", "different"]
_TYPO = 5
_WITH = frozenset({"with", "avec"})
_OPPOSED = {
    "to": frozenset({"about", "from", "in", "for", ""}),
    "as": frozenset({"for", "with", "to", ""}),
    "about": frozenset({""}),
    "à": frozenset({"de", "sur", "pour"}),
    "pour": frozenset({"de"}),
    "avec": frozenset({""}),
    "comme": frozenset({"pour", "avec", "à", ""}),
}
"""What `to` is not: I complain to you and about you, report to him and report him."""
_PLAIN = {"au": "à", "aux": "à", "du": "de", "d": "de", "des": "de"}
_PASSIVE = re.compile(r"\b(?:be|been|being|is|are|am|was|were|get|gets|got|être|est|sont|été)\b")
_SOFTS = 2
_REPHRASED = 2
_NAMES = frozenset({"python", "java"})
"""In lower case mostly the same."""
_ARTICLE = re.compile(r"\b(?:a|an|the|my) (?:python|java)(?! \w)")
_BECOME = "become"
"""As `be` a singer: what is one day, and is light."""
_LEAST = {"difference": 2}
"""So many words must count, or all of them do: the difference between to and for."""


class Judgement(NamedTuple):
    """How close two texts are, and what told them apart or was left over."""

    closeness: Closeness
    reason: str = ""


SAME = Judgement("same")
_VOICE = Judgement("same", "voice")


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
        self._accents = tables.accents
        self._contrasts = tables.contrasts
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
        reason = contradiction(a, b)
        if reason:
            return _different(reason)
        judged = self._within(a, b)
        small = (
            differ(a, b, self._contrasts[a.language], sure=judged.closeness != "open")
            if judged.closeness != "different" and judged is not _VOICE
            else ""
        )
        return _different(small) if small else judged

    def _within(self, a: Text, b: Text) -> Judgement:
        first = [word.meaning for word in a.words]
        second = [word.meaning for word in b.words]
        if a.kind == b.kind and (_is_passive_of(a, b, second) or _is_passive_of(b, a, first)):
            return _VOICE
        if min(len(first), len(second)) < _LEAST.get(a.kind, 1):
            return SAME if a.plain == b.plain else _different("hardly any words")
        left, right = _without(first, second), _without(second, first)
        if left and right:
            self._forgive(a, b, first, second, left, right)
        if a.kind != b.kind:
            return self._rephrased(a, b, first, second, left, right)
        if left or right:
            judged = self._left_over(a, b, left, right)
            if judged.closeness != "different" and not in_order(a, b, first, second, left, right, choice=self._or):
                return _different("order")
            return judged
        if any(_contrast(one, other) for one, other in zip(a.words, b.words, strict=False)):
            return _different("prepositions")
        return SAME if in_order(a, b, first, second, choice=self._or) else _different("order")

    def _forgive(  # noqa: PLR0913 - two texts, what they say and what they do not share
        self, a: Text, b: Text, first: list[str], second: list[str], left: list[str], right: list[str]
    ) -> None:
        """Take misspellings and words written apart for what they are; `second` then says what `first` does."""
        written = {word.meaning: word.written for word in (*a.words, *b.words)}
        for one in list(left):
            for other in list(right):
                ours, theirs = written.get(one, one), written.get(other, other)
                named = theirs in _NAMES and one == theirs + "^" and not b.proper and not _ARTICLE.search(b.plain)
                named = named or (
                    ours in _NAMES and other == ours + "^" and not a.proper and not _ARTICLE.search(a.plain)
                )
                if (
                    named
                    or self._bare(ours, theirs, b.plain)
                    or self._bare(theirs, ours, a.plain)
                    or self._misspelt(ours, theirs)
                ):
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

    def _bare(self, accented: str, plain: str, text: str) -> bool:
        return plain not in self._accents and bare(accented, plain, text)

    def _misspelt(self, one: str, other: str) -> bool:
        """One letter is wrong, and exactly one of the two is a known word: other pairs are names, or two words."""
        if (
            same_but_accents(one, other) in self._accents
            or min(len(one), len(other)) < _TYPO
            or not (one.isalpha() and other.isalpha())
        ):
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
        if rest == [_BECOME] and " be " in (b if left else a).plain:
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
        if not (left or right) or "do" in (a.kind, b.kind) or {a.kind, b.kind} <= AMOUNTS:
            return _different("question")
        if self._weighty(a, b, left, right):
            return _different("question")
        if not in_order(a, b, first, second, left, right, choice=self._or):
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

    def _across(self, a: Text, b: Text) -> Judgement:
        """The same in two languages: everything that is known on both sides has its counterpart."""
        if a.negations % 2 != b.negations % 2 or a.kind != b.kind:
            return _different("language")
        left, right = list(a.words), list(b.words)
        pairs: list[tuple[Word, Word]] = []
        for one in a.words:
            other = next(
                (
                    each
                    for each in right
                    if one.meaning.rstrip("~") == each.meaning.rstrip("~") or cognate(one.written, each.written)
                ),
                None,
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


def _is_passive_of(text: Text, other: Text, words: list[str]) -> bool:
    """Whether one text says in the passive voice what the other, which is in the active one, says in these words."""
    return bool(text.active) and not other.active and list(text.active) == words and not _PASSIVE.search(other.plain)


def _settled(text: Text, other: str) -> Text:
    """`Can you freeze rice?` as the other text takes it: may anyone, or will you."""
    if text.kind != "canyou":
        return text
    return (
        msgspec.structs.replace(text, kind="do", mode="") if other == "do" else msgspec.structs.replace(text, kind="yn")
    )


def _joints(text: Text) -> int:
    """How many words a conjunction stands before: who does two things does more than one of them."""
    return sum(word.joined for word in text.words)


def _contrast(one: Word, other: Word) -> bool:
    """To pay with a card is not to pay for it, to report to someone not to report him."""
    if one.follows == other.follows:
        return False
    ours = "" if one.loose else _PLAIN.get(one.follows, one.follows)
    theirs = "" if other.loose else _PLAIN.get(other.follows, other.follows)
    if ours == theirs:
        return False
    if theirs in _OPPOSED.get(ours, ()) or ours in _OPPOSED.get(theirs, ()):
        return True
    return bool(ours and theirs) and bool(_WITH & {ours, theirs})


def _different(reason: str) -> Judgement:
    return Judgement("different", reason)


def _open(reason: str, left: Sequence[str], right: Sequence[str]) -> Judgement:
    """Who asks something else changes a word or two; of pairs that differ in more, the words do not tell."""
    return Judgement("open" if max(len(left), len(right)) >= _REPHRASED else "different", reason)


def _without(some: list[str], others: list[str]) -> list[str]:
    rest = Counter(others)
    found = []
    for each in some:
        if rest[each]:
            rest[each] -= 1
        else:
            found.append(each)
    return found
