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

_QUOTED: Final = re.compile(r'"\s*([^"]{1,200}?)\s*"')
_ARTICLES: Final = frozenset({"a", "an", "the", "un", "une", "le", "la", "les", "des", "du"})
_CLAUSES: Final = frozenset({"if", "when", "once", "after", "before", "si", "quand", "lorsque", "après", "avant"})
_QUESTIONS: Final = frozenset(
    {"how", "what", "which", "who", "where", "why", "when", "comment", "que", "quel", "quelle", "quels", "quelles", "qui", "où",
     "pourquoi", "combien", "puis", "peux", "peut", "dois", "doit", "faut", "est"}
)  # fmt: skip
_BOOKING: Final = frozenset({"i", "we", "you", "to", "can", "could", "should"})
_SOUND: Final = frozenset(
    {"le", "du", "un", "au", "carte", "barre", "qualité", "problème", "ingénieur", "prise", "effet", "volume"}
)
_WHY: Final = frozenset({"why", "pourquoi"})
_CONJUNCTIONS: Final = frozenset({"and", "et", "vs", "versus"})
_LISTING: Final = (("between", "and"), ("entre", "et"))
_PARTICLES: Final = {"on": "activate", "off": "deactivate"}
_SEPARABLE: Final = frozenset({"turn", "turning", "turned", "switch", "switching", "switched"})
_HE: Final = {"he": "he", "him": "he", "his": "he", "himself": "he", "she": "she", "her": "she", "hers": "she", "herself": "she",
              "they": "they", "them": "they", "lui": "he", "elle": "she", "ils": "they", "elles": "they"}  # fmt: skip
_SAID: Final = {
    "where": frozenset({"find", "locate", "located", "situated", "trouver", "trouve", "trouvent", "situé", "située"}),
    "difference": frozenset(
        {
            "between",
            "differ",
            "differs",
            "different",
            "from",
            "than",
            "entre",
            "distingue",
            "distinguer",
            "différer",
            "diffère",
            "différent",
            "différente",
        }
    ),
    "meaning": frozenset({"mean", "means", "signify", "stand", "meaning"}),
    "howlong": frozenset({"take", "takes", "taking", "prend", "prendre", "faut"}),
}
"""Words that the kind of question says already; elsewhere they count: `is` is not `is becoming`."""
_SUBJECTS: Final = frozenset({"i", "we", "you", "je", "nous", "vous", "tu", "on"})
_QUANTITIES: Final = {
    **dict.fromkeys(("all", "every", "each", "tous", "toutes", "chaque"), "all"),
    **dict.fromkeys(("most", "many", "plupart", "beaucoup"), "most"),
    **dict.fromkeys(("some", "few", "several", "quelques", "certains", "certaines", "plusieurs"), "some"),
}
_ACCENTED: Final = frozenset("àâçéèêëîïôùûœ")
_ACRONYM: Final = range(2, 6)
_NO_ACRONYM: Final = frozenset({"ok"})
_FAR: Final = 6
_SHARE: Final = 0.2
_MULTIPLIES: Final = 100
_KEEP: Final = 4096


class Text(msgspec.Struct, frozen=True):
    """What was read.

    `language` is empty for what is neither English nor French: then `words` are all its tokens, as they stand.
    `persons` says who speaks (`1`) or is spoken to (`2`), who is named first first, `subject` whether as a subject.
    `states`: it asks nothing and orders nothing. `plain` is all of it but politeness, a phrase before a first comma put last. `quantity` says of how many of something it speaks: `all`, `most`, `some`.
    `questions` counts its question marks. `proper` says that it begins with a capital, so that its writer sets them.
    `active` is what its words mean in the active voice, where it is in the passive one; `suffers`: it is in that.
    """

    language: str
    kind: str
    words: tuple[Word, ...]
    negations: int = 0
    mode: str = ""
    tense: str = ""
    persons: str = ""
    subject: bool = False
    quotes: tuple[str, ...] = ()
    signs: Signs = Signs((), (), ())
    states: bool = False
    plain: str = ""
    quantity: str = ""
    questions: int = 0
    proper: bool = False
    active: tuple[str, ...] = ()
    suffers: bool = False


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
        kind = take_kind(tokens, known, language, asks="?" in text, told=told)
        if wonders and kind in ("do", "yn"):  # `my washer leaks, why?`
            kind = "why"
        words = _WordReader(meanings, tokens, _Look(text, quotes, self._tables.cased), self._voices)
        found = words.read(kind)
        said = set(everything)
        asked = {token.text for token in tokens} if kind == "do" else said  # `can you` asks for no leave then
        counted = _without_price(found, meanings, language) if kind == "howmuch" else found
        persons = _persons(everything, known)
        return Text(
            language=language,
            kind=kind,
            words=tuple(counted),
            negations=words.negations,
            mode="can" if asked & known.can else "should" if asked & known.should else "",
            tense=_tense(said, known, language),
            persons=persons,
            subject=bool(said & _SUBJECTS),
            quotes=quotes,
            signs=signs,
            plain=" ".join(everything),
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


class _Look:
    """How a text is written: what is quoted in it, and what its capitals say."""

    def __init__(self, text: str, quotes: tuple[str, ...], cased: frozenset[str]) -> None:
        self.quoted = frozenset(word for quote in quotes for word in quote.split())
        self._shouted = text.isupper()
        self._proper = text[:1].isupper()
        self._cased = cased

    def is_acronym(self, token: Token) -> bool:
        """Whether it is US and not us."""
        if self._shouted or not token.written.isupper() or token.text in _NO_ACRONYM:
            return False
        return len(token.written) in _ACRONYM

    def is_name(self, token: Token) -> bool:
        """Whether it is Apple and not an apple."""
        return token.text in self._cased and self._proper and token.written[:1].isupper()


class _WordReader:
    """Reads the words of one text that count."""

    def __init__(self, meanings: Meanings, tokens: list[Token], look: _Look, voices: Voices) -> None:
        self._meanings = meanings
        self._voices = voices
        self._known = meanings.known
        self._tokens = tokens
        self._look = look
        self._mentioned = _mentioned(tokens)
        self._linked, self._joined, self._loose, self._follows = False, False, False, ""
        self._negators = 0
        self._ne = False

    @property
    def negations(self) -> int:
        """How many; the two words of `ne … pas` are one."""
        return max(self._negators, int(self._ne))

    def read(self, kind: str) -> list[Word]:
        """The words."""
        tokens = self._tokens
        found: list[Word] = []
        index = 0
        said = _SAID.get(kind, frozenset())
        while index < len(tokens):
            token, first = tokens[index], index == 0
            place = index
            meaning, index = self._meaning(index)
            if not meaning or token.text in said:
                continue
            if index == place + 1 and self._voices.describes(
                tokens, place, self._known
            ):  # `deleted photos` are not deleted now
                meaning += "~"
            capital = token.written[:1].isupper() and not first
            found.append(Word(meaning, token.text, self._linked, self._joined, capital, self._follows, self._loose))
            self._linked, self._joined, self._loose, self._follows = False, False, False, ""
        return _numbers(found, self._known)

    def _meaning(self, index: int) -> tuple[str, int]:
        """What the words at this place mean, empty for what does not count, and the place after them."""
        token, known = self._tokens[index], self._known
        word = token.text
        light = word in known.light
        if light and (index in self._mentioned or word in self._look.quoted):
            return word, index + 1
        phrase = self._phrase(index)
        if phrase is not None:
            meaning, index = phrase
            return ("" if meaning == "nothing" else self._meanings.of(meaning)), index
        if word in known.negators or word == "ne":
            self._ne = self._ne or word == "ne"
            self._negators += word != "ne"
            return "", index + 1
        if light or (word == "son" and not known.degrees and self._is_possessive(index)):
            return self._light(index), index + 1
        particle = self._particle(index + 1) if word in _SEPARABLE else None
        return self._meanings.of(particle) if particle else self._counts(token), index + 1

    def _is_verb(self, index: int) -> bool:
        """Whether what stands behind `to` may be a verb: in lower case, and without an article."""
        after = self._tokens[index] if index < len(self._tokens) else None
        return after is not None and after.written.islower() and after.text not in self._known.light

    def _is_possessive(self, index: int) -> bool:
        """Whether French `son` is his and not a sound."""
        before = self._tokens[index - 1].text if index else ""
        after = self._tokens[index + 1].text if index + 1 < len(self._tokens) else ""
        return bool(after) and after not in self._known.prepositions and before not in _SOUND

    def _light(self, index: int) -> str:
        """Empty, but for an acronym; what it says of the next word is noted."""
        token = self._tokens[index]
        if token.text in self._known.prepositions:
            self._linked, self._follows = token.text in self._known.compound, token.text
            self._loose = token.text == "to" and self._is_verb(index + 1)
        elif token.text in _CONJUNCTIONS:
            self._joined = True
        elif self._look.is_acronym(token):
            return token.written
        return ""

    def _counts(self, token: Token) -> str:
        if token.text in _HE:
            return _HE[token.text]
        return token.text + "^" if self._look.is_name(token) else self._meanings.of(token.text)

    def _phrase(self, index: int) -> tuple[str, int] | None:
        tokens = self._tokens
        for rest, meaning in self._known.phrases.get(tokens[index].text, ()):
            end = index + 1 + len(rest)
            if end <= len(tokens) and all(tokens[index + 1 + k].text == each for k, each in enumerate(rest)):
                names = any(
                    self._look.is_acronym(each) and each.text in self._known.light for each in tokens[index:end]
                )
                noun = meaning == "reserve" and index and tokens[index - 1].text not in _BOOKING  # `my book a`
                return None if names or noun else (meaning, end)
        return None

    def _particle(self, index: int) -> str | None:
        """`turn the light off`: what the verb means with the particle that comes later, which is taken out."""
        for place in range(index, min(index + _FAR, len(self._tokens))):
            particle = _PARTICLES.get(self._tokens[place].text)
            if particle is not None:
                del self._tokens[place]
                return particle
        return None


def _unfronted(tokens: list[Token], known: Vocabulary) -> list[Token]:
    """With a phrase at the beginning, up to its comma, put last: `in git, how do I …`, `if it rains, can I …`."""
    place = next((place for place, token in enumerate(tokens) if place and token.after_comma), 0)
    if not place:
        return tokens
    asks = tokens[place].text in AUXILIARY or tokens[place].text in _QUESTIONS
    if tokens[0].text in known.prepositions or (tokens[0].text in _CLAUSES and asks):
        return tokens[place:] + tokens[:place]
    return tokens


def _mentioned(tokens: Sequence[Token]) -> frozenset[int]:
    """The places of words that are spoken of and not used: `the difference between to and for`."""
    words = [token.text for token in tokens]
    for between, conjunction in _LISTING:
        if between in words:
            first = words.index(between) + 1
            if conjunction in words[first : first + 3]:
                places = (first, words.index(conjunction, first) + 1)
                return frozenset(place for place in places if place < len(words) and words[place] not in _ARTICLES)
    return frozenset()


def _tense(said: set[str], known: Vocabulary, language: str) -> str:
    """Of the auxiliary; `?` where a verb stands alone, as in `who won`."""
    if said & known.past:
        return "past"
    if said & known.future:
        return "future"
    return "" if language != "en" or said & AUXILIARY else "?"


def _without_price(words: list[Word], meanings: Meanings, language: str) -> list[Word]:
    """`how much` asks for a price, whether that is said or not."""
    cost = meanings.of("cost" if language == "en" else "coût")
    return [word for word in words if word.meaning != cost] or words


def _numbers(words: list[Word], known: Vocabulary) -> list[Word]:
    """Numbers in words as digits, `two hundred` as one."""
    found: list[Word] = []
    for word in words:
        number = known.numbers.get(word.written)
        ordinal = known.ordinals.get(word.written)
        before = found[-1].meaning if found else ""
        if ordinal is not None:
            found.append(msgspec.structs.replace(word, meaning=f"#{ordinal}."))
        elif number is None:
            found.append(word)
        else:
            value = _together(before, number) if not (word.linked or word.joined) else None
            if value is not None:
                word = found.pop()  # noqa: PLW2901 - the two are one word now
            found.append(msgspec.structs.replace(word, meaning=f"#{number if value is None else value}"))
    return found


def _together(before: str, number: int) -> int | None:
    """`two hundred`, `twenty five`; None for numbers that stand beside each other."""
    if not (before[:1] == "#" and before[1:].isdigit()):
        return None
    first = int(before[1:])
    if number >= _MULTIPLIES and first < number:
        return first * number
    return first + number if first % 10 == 0 and number < first else None
