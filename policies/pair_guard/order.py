"""In which order two texts say what both say: lists, choices and compounds turn it without changing what is asked."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from policies.pair_guard.question import AUXILIARY
from policies.pair_guard.text import Text
from policies.pair_guard.word import Word

_COMPOUNDS: Final = (3, 2)
_NOUNS_FIRST: Final = frozenset({"what", "who", "meaning", "difference", "howmuch", "howmany", "opinion", "do"})
"""Kinds of question in which what comes first is no verb."""
_TWO: Final = 2
_CHOICE: Final = 2
"""Words that either side of a choice may have."""
_IS_MOST: Final = re.compile(r"\b(?:is|are|was|were) (?:the )?(?:best|worst|\w+est)\b")
_MOST: Final = frozenset({"best", "worst"})
_COMPARED: Final = frozenset({"better", "worse", "best", "more", "rather"})
_INFINITIVE: Final = re.compile(r"(?:er|ir|re)$")
_OR: Final = frozenset({"or", "ou"})


def in_order(  # noqa: PLR0913 - two texts, what they say and what they do not share
    a: Text,
    b: Text,
    first: list[str],
    second: list[str],
    left: Sequence[str] = (),
    right: Sequence[str] = (),
    *,
    choice: str,
) -> bool:
    """Whether what they share comes in one order, but for a list, a choice or a compound. `choice`
    is what `or` means.
    """
    if not left and not right:
        if a.kind == "difference" and len(first) == len(second) == _TWO:
            return sorted(first) == sorted(second)  # of one from the other, or of the other from the one
        if a.kind == "yn" and (_said_first(a, first, second) or _said_first(b, second, first)):
            return True
        inverted = a.language == "fr" and not any(
            _INFINITIVE.search(text.words[0].written) for text in (a, b) if text.words
        )
        if inverted and a.kind in ("when", "where") and [second[1::-1], second[2:]] == [first[:2], first[2:]]:
            return True  # `à quelle heure ferme le musée`, `… le musée ferme-t-il`
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
            (_turned(ours, theirs, first, second, index) if index or _is_noun_first(a, ours) else 0)
            or (_turned(theirs, ours, second, first, index) if index or _is_noun_first(b, theirs) else 0)
            or _listed(ours, theirs, first, second, index)
            or _said_of(a, ours, first, second, index)
            or _said_of(b, theirs, second, first, index)
            or (0 if _asks_twice(a) else _chosen((a, ours), (b, theirs), first, second, index, choice))
        )
        if not turned:
            return False
        index += turned
    return True


def _said_first(text: Text, first: list[str], second: list[str]) -> bool:
    """`is it safe to eat raw eggs` as `are raw eggs safe to eat`."""
    return text.plain.startswith("is it ") and second == [*first[2:], *first[:2]]


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


def _is_noun_first(text: Text, kept: Sequence[Word]) -> bool:
    """Whether the first of the words that are left is no verb, which turns for nothing."""
    if text.kind in _NOUNS_FIRST or text.plain.startswith(("is there", "are there")):
        return True
    return bool(kept) and kept[0].written != text.words[0].written


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
    if _IS_MOST.search(text.plain) is None:
        return 0
    for size in range(1, _COMPOUNDS[0] + 1):
        place = index + size
        if (
            place >= len(first)
            or words[place].follows
            or not (words[place].written in _MOST or first[place].endswith("est"))
        ):
            continue
        if [first[place], *first[index:place]] == second[index : place + 1]:
            return size + 1
    return 0


def _asks_twice(text: Text) -> bool:
    """Whether the choice is between clauses: `does he like me or do I annoy him`."""
    words = text.plain.split()
    return any(one in _OR and other in AUXILIARY for one, other in pairwise(words))


def _chosen(  # noqa: PLR0913 - two texts with their words, and what these mean
    a: tuple[Text, Sequence[Word]],
    b: tuple[Text, Sequence[Word]],
    first: list[str],
    second: list[str],
    index: int,
    choice: str,
) -> int:
    """`green tea or coffee` as `coffee or green tea`: how many words that are; 0 if it is not so, or if an adjective before
    them would go with the other one then.
    """
    if any(_is_narrowed(text, words[index].written) for text, words in (a, b)):
        return 0
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


def _is_narrowed(text: Text, word: str) -> bool:
    """Whether a word that counts stands right before this one."""
    said = text.plain.split()
    place = said.index(word) if word in said else 0
    before = said[place - 1] if place else ""
    counted = {each.written for each in text.words}
    return before in counted and not (before in _COMPARED or before.endswith("er"))
