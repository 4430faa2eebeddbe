"""What a text says, as far as the pair guard reads it: the words that count, in order, and the kind of question."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from policies.pair_guard.stem import Stemmer
from policies.pair_guard.tables import Tables, Vocabulary
from policies.pair_guard.tokens import Token, cut, spell

_QUOTED: Final = re.compile(r'"\s*([^"]{1,200}?)\s*"')
_ASKING: Final = {
    "en": {"how": "how", "when": "when", "where": "where", "why": "why", "who": "who", "what": "what", "which": "what"},
    "fr": {"comment": "how", "quand": "when", "pourquoi": "why", "quel": "what", "quelle": "what", "quels": "what", "quelles": "what",
           "combien": "howmuch"},
}  # fmt: skip
_ARTICLES: Final = [["a"], ["an"], ["the"], ["un"], ["une"], ["le"], ["la"], ["les"], ["des"], ["du"]]
_CONJUNCTIONS: Final = frozenset({"and", "or", "et", "ou", "vs", "versus"})
_PARTICLES: Final = {"on": "activate", "off": "deactivate"}
_SEPARABLE: Final = frozenset({"turn", "turning", "turned", "switch", "switching", "switched"})
_HE: Final = {"he": "he", "him": "he", "his": "he", "himself": "he", "she": "she", "her": "she", "hers": "she", "herself": "she",
              "they": "they", "them": "they", "lui": "he", "elle": "she", "ils": "they", "elles": "they"}  # fmt: skip
_DEGREES: Final = ("est", "er")
_SAID: Final = {
    "how": frozenset({"become", "becoming", "becomes"}),
    "where": frozenset({"find", "locate", "located", "situated", "trouver", "trouve", "trouvent", "situé", "située"}),
    "howlong": frozenset({"take", "takes", "taking", "prend", "prendre", "faut"}),
}
"""Words that the kind of question says already; elsewhere they count: `is` is not `is becoming`."""
_SUBJECTS: Final = frozenset({"i", "we", "you", "je", "nous", "vous", "tu", "on", "j"})
_AUXILIARY: Final = frozenset(
    "is are am was were do does did can could will would should shall may might must has have had".split()
)
_ACCENTED: Final = frozenset("àâçéèêëîïôùûœ")
_ACRONYM: Final = range(2, 6)
_FAR: Final = 6
_SHARE: Final = 0.2


class Word(msgspec.Struct, frozen=True):
    """A word that counts. `meaning` is its group of synonyms or its stem; numbers are `#` and their value.

    `linked`: a preposition stands before it, and nothing that counts between. `joined`: a conjunction does.
    """

    meaning: str
    written: str
    linked: bool = False
    joined: bool = False
    capital: bool = False
    follows: str = ""
    """The preposition that stands before it."""


class Text(msgspec.Struct, frozen=True):
    """What was read.

    `language` is empty for what is neither English nor French: then `words` are all its tokens, as they stand.
    `fronted` is how many words stand before the first comma of a text that begins with a preposition.
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
    fronted: int = 0
    states: bool = False
    """It asks nothing and orders nothing."""


class Reader:
    """Reads texts. Keeps the last few thousand that it read: entries of a cache are compared again and again."""

    def __init__(self, tables: Tables, keep: int = 4096) -> None:
        stemmer = Stemmer(tables.words)
        self._tables = tables
        self._meanings = {
            "en": Meanings(tables.languages["en"], stemmer.english),
            "fr": Meanings(tables.languages["fr"], stemmer.french),
        }
        self.read = lru_cache(keep)(self._read)

    def _read(self, text: str) -> Text:
        text = spell(text)
        quotes = tuple(each.casefold() for each in _QUOTED.findall(text)) if '"' in text else ()
        tokens = cut(text)
        language = self._language(tokens)
        if not language:
            return Text("", "", tuple(Word(each.text, each.text) for each in tokens), quotes=quotes)
        return _Reading(self._tables, self._meanings[language], tokens, text, language, quotes).text(quotes)

    def meanings(self, language: str, words: Iterable[str]) -> frozenset[str]:
        """What these words mean."""
        return frozenset(self._meanings[language].of(word) for word in words)

    def _language(self, tokens: Sequence[Token]) -> str:
        best, most = "", _SHARE * len(tokens)
        for name, known in self._tables.languages.items():
            found = sum(each.text in known.light or each.text in known.concepts or each.text in known.numbers for each in tokens)
            if name == "fr":
                found += sum(not each.text.isascii() and not _ACCENTED.isdisjoint(each.text) for each in tokens)
            if found and found >= most:
                best, most = name, found + 0.5
        return best


class Meanings:
    """What a word of one language means: looked up as written, by its dictionary form, by its stem."""

    def __init__(self, known: Vocabulary, stem: Callable[[str], str]) -> None:
        self.known = known
        self._stem = stem
        self._stems: dict[str, str] = {}
        for word, meaning in known.concepts.items():
            self._stems.setdefault(self._form(word), meaning)
        self.of = lru_cache(16384)(self._of)

    def _form(self, word: str) -> str:
        return self.known.irregular.get(word) or self._stem(word)

    def _of(self, word: str) -> str:
        found = self.known.concepts.get(word)
        if found is not None:
            return found
        form = self._form(word)
        found = self.known.concepts.get(form) or self._stems.get(form)
        if found is not None:
            return found
        for ending in _DEGREES if self.known.degrees else ():  # quickest is to fastest as quick is to fast
            if word.endswith(ending) and len(word) > len(ending) + 2:
                for plain in (word.removesuffix(ending), word.removesuffix(ending) + "e", word.removesuffix("i" + ending) + "y", word[: -len(ending) - 1]):
                    found = self.known.concepts.get(plain)
                    if found is not None:
                        return found + ending
        return form


class _Reading:
    """One text being read."""

    def __init__(  # noqa: PLR0913 - a text and what is known
        self, tables: Tables, meanings: Meanings, tokens: list[Token], text: str, language: str, quotes: tuple[str, ...]
    ) -> None:
        self._tables = tables
        self._meanings = meanings
        self._known = meanings.known
        self._tokens = tokens
        self._language = language
        self._asks = "?" in text
        self._shouted = text.isupper()
        self._proper = text[:1].isupper()
        self._quoted = frozenset(word for quote in quotes for word in quote.split())

    def text(self, quotes: tuple[str, ...]) -> Text:
        """What it says."""
        known = self._known
        self._drop_politeness()
        all_words = [token.text for token in self._tokens]
        fronted_at = self._fronted(all_words)
        kind = self._kind()
        words, negations, before_comma = self._words(fronted_at, kind)
        said = set(all_words)
        if kind == "howmuch":  # its price is what is asked for, named or not
            cost = self._meanings.of("cost" if self._language == "en" else "coût")
            words = [word for word in words if word.meaning != cost] or words
        return Text(
            language=self._language,
            kind=kind,
            words=tuple(words),
            negations=negations,
            mode="can" if said & known.can else "should" if said & known.should else "",
            tense=self._tense(said),
            persons=("1" if said & known.first else "") + ("2" if said & known.second else ""),
            subject=bool(said & _SUBJECTS),
            quotes=quotes,
            fronted=before_comma,
            states=kind == "do" and bool(all_words) and all_words[0] in known.determiners,
        )

    def _tense(self, said: set[str]) -> str:
        """Of the auxiliary; `?` where a verb stands alone, as in `who won`."""
        known = self._known
        if said & known.past:
            return "past"
        if said & known.future:
            return "future"
        return "" if self._language != "en" or said & _AUXILIARY else "?"

    def _drop_politeness(self) -> None:
        tokens, known = self._tokens, self._known
        changed = True
        while changed and len(tokens) > 1:
            changed = False
            for phrase in known.openings.get(tokens[0].text, ()):
                if len(tokens) > len(phrase) and all(token.text == word for token, word in zip(tokens, phrase, strict=False)):
                    del tokens[: len(phrase)]
                    changed = True
                    break
            for phrase in known.closings.get(tokens[-1].text, ()):
                start = len(tokens) - len(phrase)
                if start > 0 and all(tokens[start + k].text == word for k, word in enumerate(phrase)):
                    del tokens[start:]
                    changed = True
                    break

    def _fronted(self, words: list[str]) -> int:
        """The index of the token after the comma that ends a prepositional phrase at the beginning; 0 for none."""
        if words and words[0] in self._known.prepositions:
            for index, token in enumerate(self._tokens[1:], 1):
                if token.after_comma:
                    return index
        return 0

    def _kind(self) -> str:
        """The kind of question; what only says so is cut off."""
        known, tokens = self._known, self._tokens
        line = "".join(token.text + " " for token in tokens)
        match = known.ask.match(line)
        while match is not None:
            del tokens[: line.count(" ", 0, match.end())]
            line = line[match.end() :]
            match = known.ask.match(line)
        tail = known.tail.search(line.rstrip())
        found = known.frame.match(line)
        if tail is not None and (found is None or found.lastgroup in ("do", "what")):
            del tokens[line.count(" ", 0, tail.start()) + 1 :]
            if found is not None and found.lastgroup == "do":
                del tokens[: line.count(" ", 0, found.end())]
            return "how"
        if found is not None:
            end = line.rfind(" ", 0, found.end()) + 1
            del tokens[: line.count(" ", 0, end)]
            return found.lastgroup or ""
        asking = _ASKING[self._language]
        for token in tokens:
            if token.text in asking:
                return asking[token.text]
        inverted = tokens and tokens[0].text in _AUXILIARY and self._language == "en"
        return "yn" if self._asks or inverted else "do"

    def _words(self, fronted_at: int, kind: str) -> tuple[list[Word], int, int]:
        known, tokens = self._known, self._tokens
        found: list[Word] = []
        negations = ne = before_comma = 0
        linked, joined, follows = False, False, ""
        index = 0
        gone = len(tokens)
        mentioned = self._mentioned()
        while index < len(tokens):
            token = tokens[index]
            word = token.text
            index += 1
            phrase = self._phrase(index - 1)
            meaning = ""
            if index - 1 in mentioned and word in known.light:
                meaning = word
            elif phrase is not None:
                meaning, index = phrase
                if meaning == "nothing":
                    continue
                meaning = self._meanings.of(meaning)
            elif word in known.negators:
                negations += 1
                continue
            elif word == "ne":
                ne += 1
                continue
            elif word in _SEPARABLE and (particle := self._particle(index)) is not None:
                meaning = self._meanings.of(particle)
            elif word in known.prepositions and word in known.light and word not in self._quoted:
                linked, follows = word in known.compound, word
                continue
            elif word in _CONJUNCTIONS and word in known.light:
                joined = True
                continue
            elif self._is_light(token) or word in _SAID.get(kind, ()):
                continue
            else:
                meaning = self._meaning(token)
            found.append(Word(meaning, word, linked, joined, token.written[:1].isupper() and index > 1, follows))
            linked, joined, follows = False, False, ""
            if index <= fronted_at - (gone - len(tokens)):
                before_comma = len(found)
        return _numbers(found, known), max(negations, ne and 1), before_comma

    def _mentioned(self) -> frozenset[int]:
        """The places of words that are spoken of and not used: `the difference between to and for`."""
        words = [token.text for token in self._tokens]
        for between, conjunction in (("between", "and"), ("entre", "et")):
            if between in words:
                first = words.index(between) + 1
                if conjunction in words[first : first + 3]:
                    second = words.index(conjunction, first) + 1
                    return frozenset(place for place in (first, second) if words[place : place + 1] not in _ARTICLES)
        return frozenset()

    def _phrase(self, index: int) -> tuple[str, int] | None:
        tokens = self._tokens
        for rest, meaning in self._known.phrases.get(tokens[index].text, ()):
            end = index + 1 + len(rest)
            if end <= len(tokens) and all(tokens[index + 1 + k].text == each for k, each in enumerate(rest)):
                return meaning, end
        return None

    def _particle(self, index: int) -> str | None:
        """`turn the light off`: what the verb means with the particle that comes later, which is taken out."""
        for place in range(index, min(index + _FAR, len(self._tokens))):
            particle = _PARTICLES.get(self._tokens[place].text)
            if particle is not None:
                del self._tokens[place]
                return particle
        return None

    def _is_light(self, token: Token) -> bool:
        if token.text not in self._known.light or token.text in self._quoted:
            return False
        acronym = token.written.isupper() and len(token.written) in _ACRONYM and not self._shouted
        return not acronym

    def _meaning(self, token: Token) -> str:
        word = token.text
        if word in _HE:
            return _HE[word]
        if word in self._known.light:
            return token.written  # an acronym: US is not us
        if word in self._tables.cased and self._proper and token.written[:1].isupper():
            return word + "^"
        return self._meanings.of(word)


def _numbers(words: list[Word], known: Vocabulary) -> list[Word]:
    """Numbers in words as digits, `two hundred` as one."""
    found: list[Word] = []
    for word in words:
        number = known.numbers.get(word.written)
        ordinal = known.ordinals.get(word.written)
        if ordinal is not None:
            found.append(msgspec.structs.replace(word, meaning=f"#{ordinal}."))
        elif number is None:
            found.append(word)
        elif found and found[-1].meaning.startswith("#") and found[-1].meaning[1:].isdigit() and not word.linked and not word.joined:
            before = int(found[-1].meaning[1:])
            if number >= 100 and before < number:  # noqa: PLR2004 - hundred and more multiply
                found[-1] = msgspec.structs.replace(found[-1], meaning=f"#{before * number}")
            elif before % 10 == 0 and number < before:
                found[-1] = msgspec.structs.replace(found[-1], meaning=f"#{before + number}")
            else:
                found.append(msgspec.structs.replace(word, meaning=f"#{number}"))
        else:
            found.append(msgspec.structs.replace(word, meaning=f"#{number}"))
    return found
