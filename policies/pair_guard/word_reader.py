"""The words of a text that count, one after the other."""

from collections.abc import Sequence
from typing import Final

import msgspec

from policies.pair_guard.meanings import Meanings
from policies.pair_guard.tables import Vocabulary
from policies.pair_guard.tokens import Token
from policies.pair_guard.voice import Voices
from policies.pair_guard.word import Word

_ARTICLES: Final = frozenset({"a", "an", "the", "un", "une", "le", "la", "les", "des", "du"})
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
"""Words that the kind of question says already."""
_ACRONYM: Final = range(2, 6)
_NO_ACRONYM: Final = frozenset({"ok"})
_FAR: Final = 6
_MULTIPLIES: Final = 100
_BOOKING: Final = frozenset({"i", "we", "you", "to", "can", "could", "should"})
_SOUND: Final = frozenset(
    {"le", "du", "un", "au", "carte", "barre", "qualité", "problème", "ingénieur", "prise", "effet", "volume"}
)


class Look:
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


class WordReader:
    """Reads the words of one text that count."""

    def __init__(self, meanings: Meanings, tokens: list[Token], look: Look, voices: Voices) -> None:
        self._meanings = meanings
        self._voices = voices
        self._known = meanings.known
        self._tokens = tokens
        self._look = look
        self._mentioned = _mentioned(tokens)
        self._linked, self._joined, self._loose, self._follows = False, False, False, ""
        self._negators = 0
        self._ne = self._negates = False
        self.negated: list[str] = []

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
            if self._negates:
                self.negated.append(meaning)
                self._negates = False
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
            self._negates = self._negates or word == "ne" or not self._ne
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
