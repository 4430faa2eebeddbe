"""What a text says, as far as the pair guard reads it: the words that count, in order, and the kind of question."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from policies.pair_guard.meanings import Meanings
from policies.pair_guard.question import AUXILIARY, drop_asking, drop_politeness, take_kind
from policies.pair_guard.signs import Signs, signs_of
from policies.pair_guard.stem import Stemmer
from policies.pair_guard.tables import Tables, Vocabulary
from policies.pair_guard.tokens import Token, cut, spell
from policies.pair_guard.voice import Voices
from policies.pair_guard.word import Word
from policies.pair_guard.word_reader import Look, WordReader

_QUOTED: Final = re.compile(r'"\s*([^"]{1,200}?)\s*"')
_CLAUSES: Final = frozenset({"if", "when", "once", "after", "before", "si", "quand", "lorsque", "après", "avant"})
_QUESTIONS: Final = frozenset(
    {"how", "what", "which", "who", "where", "why", "when", "comment", "que", "quel", "quelle", "quels", "quelles", "qui", "où",
     "pourquoi", "combien", "puis", "peux", "peut", "dois", "doit", "faut", "est"}
)  # fmt: skip
_WHY: Final = frozenset({"why", "pourquoi"})
_QUANTITIES: Final = {
    **dict.fromkeys(("all", "every", "each", "tous", "toutes", "chaque"), "all"),
    **dict.fromkeys(("most", "many", "plupart", "beaucoup"), "most"),
    **dict.fromkeys(("some", "few", "several", "quelques", "certains", "certaines", "plusieurs"), "some"),
}
_ACCENTED: Final = frozenset("àâçéèêëîïôùûœ")
_SHARE: Final = 0.2
_KEEP: Final = 4096


class Text(msgspec.Struct, frozen=True):
    """What was read.

    `language` is empty for what is neither English nor French: then `words` are all its tokens, as they stand.
    `persons` says who speaks (`1`) or is spoken to (`2`), who is named first first.
    `states`: it asks nothing and orders nothing. `plain` is all of it but politeness, a phrase before a first comma put last. `quantity` says of how many of something it speaks: `all`, `most`, `some`.
    `questions` counts its question marks. `proper` says that it begins with a capital, so that its writer sets them.
    `active` is what its words mean in the active voice, where it is in the passive one; `suffers`: it is in that. `negated` are the words
    behind negations.
    """

    language: str
    kind: str
    words: tuple[Word, ...]
    negations: int = 0
    mode: str = ""
    tense: str = ""
    persons: str = ""
    quotes: tuple[str, ...] = ()
    signs: Signs = Signs((), (), ())
    states: bool = False
    plain: str = ""
    quantity: str = ""
    questions: int = 0
    proper: bool = False
    active: tuple[str, ...] = ()
    suffers: bool = False
    negated: frozenset[str] = frozenset()


class Reader:
    """Reads texts. Keeps the last few thousand that it read: entries of a cache are compared again and again."""

    def __init__(self, tables: Tables) -> None:
        stemmer = Stemmer(tables.words)
        self._tables = tables
        self._voices = Voices(tables)
        self._meanings = {
            "en": Meanings(tables.languages["en"], stemmer.english),
            "fr": Meanings(tables.languages["fr"], stemmer.french),
        }
        self.read = lru_cache(_KEEP)(self._read)

    def meanings(self, language: str, words: Iterable[str]) -> frozenset[str]:
        """What these words mean."""
        return frozenset(self._meanings[language].of(word) for word in words)

    def _read(self, text: str) -> Text:
        text = spell(text)
        quotes = tuple(each.casefold() for each in _QUOTED.findall(text)) if '"' in text else ()
        signs = signs_of(text)
        tokens = cut(text)
        language = self._language(tokens)
        if not language:
            return Text("", "", tuple(Word(each.text, each.text) for each in tokens), quotes=quotes, signs=signs)
        meanings = self._meanings[language]
        known = meanings.known
        quantities = dict.fromkeys(_QUANTITIES[each.text] for each in tokens if each.text in _QUANTITIES)
        wonders = bool(tokens) and tokens[-1].text in _WHY
        drop_politeness(tokens, known)  # for which `all` at the beginning is a greeting
        told = drop_asking(tokens, known)
        tokens = _unfronted(tokens, known)
        everything = [token.text for token in tokens]
        plain = " ".join(everything)
        kind = take_kind(tokens, known, language, asks="?" in text, told=told)
        if wonders and kind in ("do", "yn"):  # `my washer leaks, why?`
            kind = "why"
        words = WordReader(meanings, tokens, Look(text, quotes, self._tables.cased), self._voices)
        found = words.read(kind)
        said = set(everything)
        asked = {token.text for token in tokens} if kind == "do" else said  # `can you` asks for no leave then
        counted = _without_price(found, meanings, language) if kind == "howmuch" else found
        return Text(
            language=language,
            kind=kind,
            words=tuple(counted),
            negations=words.negations,
            negated=frozenset(words.negated),
            mode="can" if asked & known.can else "should" if asked & known.should else "",
            tense=_tense(said, known, language, going="going to" in plain),
            persons=_persons(everything, known),
            quotes=quotes,
            signs=signs,
            plain=plain,
            quantity=" ".join(quantities),
            questions=text.count("?"),
            proper=text[:1].isupper(),
            active=self._voices.active(counted, kind, everything),
            suffers=self._voices.suffers(everything, language),
            states=kind == "do" and bool(everything) and everything[0] in known.determiners,
        )

    def _language(self, tokens: Sequence[Token]) -> str:
        """The one more of whose words are there; none where they are few."""
        best, most = "", _SHARE * len(tokens)
        for name, known in self._tables.languages.items():
            found: float = 0
            for each in tokens:
                word = each.text
                found += word in known.light or word in known.concepts or word in known.numbers
                found += name == "fr" and not word.isascii() and not _ACCENTED.isdisjoint(word)
            if found and found >= most:
                best, most = name, found + 0.5
        return best


def _persons(everything: Sequence[str], known: Vocabulary) -> str:
    """In the order in which they are first named."""
    named = ("1" if each in known.first else "2" for each in everything if each in known.first or each in known.second)
    return "".join(dict.fromkeys(named))


def _unfronted(tokens: list[Token], known: Vocabulary) -> list[Token]:
    """With a phrase at the beginning, up to its comma, put last: `in git, how do I …`, `if it rains, can I …`."""
    place = next((place for place, token in enumerate(tokens) if place and token.after_comma), 0)
    if not place:
        return tokens
    asks = tokens[place].text in AUXILIARY or tokens[place].text in _QUESTIONS
    if tokens[0].text in known.prepositions or (tokens[0].text in _CLAUSES and asks):
        return tokens[place:] + tokens[:place]
    return tokens


def _tense(said: set[str], known: Vocabulary, language: str, *, going: bool) -> str:
    """Of the auxiliary; `?` where a verb stands alone, as in `who won`. `going`: it is going to be."""
    if said & known.past:
        return "past"
    if said & known.future or going:
        return "future"
    return "" if language != "en" or said & AUXILIARY else "?"


def _without_price(words: list[Word], meanings: Meanings, language: str) -> list[Word]:
    """`how much` asks for a price, whether that is said or not."""
    cost = meanings.of("cost" if language == "en" else "coût")
    return [word for word in words if word.meaning != cost] or words
