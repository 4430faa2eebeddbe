"""What single words mean: their group of synonyms, or their stem."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from policies.pair_guard.tables import Vocabulary

_DEGREES: Final = ("est", "er")
_CONJUGATED: Final = ("e", "es", "ent", "ons", "ez", "é", "ée", "és", "ées", "ait", "aient", "ant")


class Meanings:
    """Looks a word of one language up: as written, by its dictionary form, by its stem."""

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
        concepts = self.known.concepts
        found = concepts.get(word)
        if found is not None:
            return found
        form = self._form(word)
        found = concepts.get(form) or self._stems.get(form)
        if found is not None:
            return found
        return self._by_ending(word) or self._by_ending(form) or form

    def _by_ending(self, word: str) -> str | None:
        """Forms whose dictionary form only the table of synonyms knows."""
        concepts = self.known.concepts
        if not self.known.degrees:
            infinitives = (word.removesuffix(each) + "er" for each in _CONJUGATED if word.endswith(each))
            return next((concepts[each] for each in infinitives if each in concepts), None)
        for ending in _DEGREES:
            if word.endswith(ending):
                plain = next((each for each in _undone(word, ending) if each in concepts), None)
                if plain is not None:
                    return concepts[plain] + ending  # quickest is to fastest as quick is to fast
        return None


def _undone(word: str, ending: str) -> Iterator[str]:
    """What may have been compared: quick, large, easy, big."""
    root = word.removesuffix(ending)
    yield root
    yield root + "e"
    yield word.removesuffix("i" + ending) + "y"
    yield root[:-1]
