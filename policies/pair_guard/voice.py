"""The passive voice: who suffers what is done, as the active one has it, and participles that only describe."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from policies.pair_guard.tables import Tables, Vocabulary
from policies.pair_guard.tokens import Token
from policies.pair_guard.word import Word

_BE: Final = frozenset({"is", "are", "am", "was", "were", "be", "been", "being", "get", "gets", "got", "getting"})
_ETRE: Final = frozenset(
    {"être", "suis", "es", "est", "sommes", "êtes", "sont", "été", "était", "étaient", "sera", "seront", "serai"}
)
_REGULAR: Final = {"en": re.compile(r"[a-zé]{2,}(?<!e)ed$"), "fr": re.compile(r"\w{2,}(?:é|ée|és|ées)$")}
_LAST: Final = frozenset("dées")
"""How regular ones end."""
_INFINITIVE: Final = re.compile(r"\w{2,}(?:er|ir|re)$")
_NEAR: Final = 5
"""So many words from `be` or `get` on its participle may stand."""
_SUBJECTS: Final = frozenset(
    {
        "i",
        "you",
        "we",
        "he",
        "she",
        "they",
        "it",
        "who",
        "je",
        "j",
        "tu",
        "il",
        "elle",
        "on",
        "nous",
        "vous",
        "ils",
        "elles",
    }
)
_HELPING: Final = frozenset(
    {"have", "has", "had", "having", "not", "do", "does", "did", "to", "will", "would", "can", "could", "should",
     "ai", "as", "avons", "avez", "ont", "avoir"}
)  # fmt: skip


class Voices:
    """Reads the voice of texts."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def active(self, words: Sequence[Word], kind: str, said: Sequence[str]) -> tuple[str, ...]:
        """What the words that count mean, as the active voice has them; empty where there is no passive: `is rice eaten by cats`,
        `how is rice cooked`, `by whom was rice found`. `said` is all that was.
        """
        meanings = [word.meaning for word in words]
        by = "by" in meanings[1:]
        if not meanings or not (by or kind in ("how", "who")) or (_BE.isdisjoint(said) and _ETRE.isdisjoint(said)):
            return ()
        if by:
            place = meanings.index("by", 1)
            end = next((k for k in range(place + 1, len(words)) if words[k].follows), len(words))
            if end > place + 1 and (
                words[place + 1].written in self._tables.agentless or meanings[place + 1][0] == "#"
            ):
                return ()
            return (*meanings[place + 1 : end], meanings[place - 1], *meanings[: place - 1], *meanings[end:])
        asks_who = kind == "who" and said[0] in ("by", "par")
        asks_how = kind == "how" and said[0] == "how" and words[-1].written in self._tables.recipes
        return (meanings[-1], *meanings[:-1]) if asks_who or asks_how else ()

    def suffers(self, said: Sequence[str], language: str) -> bool:
        """Whether someone has something done to him: `how do I get paid`, `comment être payé`, `faire réparer`."""
        known = self._tables.languages[language]
        for place, word in enumerate(said):
            if language == "fr":
                after = said[place + 1 : place + 3]
                if word == "faire" and after and _INFINITIVE.match(after[0]):
                    return True
                if word in _ETRE and any(
                    self._is_participle(each, language) and each not in known.states for each in after
                ):
                    return True
            elif word in _BE:
                for before, each in pairwise(said[place : place + _NEAR]):
                    if before != "to" and each not in known.states and self._is_participle(each, language):
                        return True
        return False

    def describes(self, tokens: Sequence[Token], place: int, known: Vocabulary) -> bool:
        """Whether a participle belongs to a noun: `deleted photos`, `les photos supprimées`."""
        word = tokens[place].text
        if word[-1] not in _LAST and word not in known.participles:
            return False
        before = tokens[place - 1].text if place else ""
        if known.degrees:
            if place + 1 >= len(tokens) or word in self._tables.unchanged or not self._is_participle(word, "en"):
                return False
            after = tokens[place + 1].text
            light = after in known.light or after in known.prepositions or after in known.negators
            verb = place > 1 and (before in _BE or before in _SUBJECTS or before in _HELPING)
            return after.isalpha() and not light and not verb
        if not before or not self._is_participle(word, "fr"):
            return False
        return not (
            before in known.light
            or before in _SUBJECTS
            or before in _HELPING
            or before in _ETRE
            or before in known.negators
        )

    def _is_participle(self, word: str, language: str) -> bool:
        return word in self._tables.languages[language].participles or _REGULAR[language].match(word) is not None
