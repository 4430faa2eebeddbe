"""What single words mean: their group of synonyms, or their stem."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from policies.pair_guard.tables import Vocabulary

_DEGREES: Final = ("est", "er")


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
        for ending in _DEGREES if self.known.degrees else ():
            if word.endswith(ending) and len(word) > len(ending) + 2:
                for plain in _undone(word, ending):
                    if plain in concepts:
                        return concepts[plain] + ending  # quickest is to fastest as quick is to fast
        return form


def _undone(word: str, ending: str) -> Iterator[str]:
    """What may have been compared: quick, large, easy, big."""
    root = word.removesuffix(ending)
    yield root
    yield root + "e"
    yield word.removesuffix("i" + ending) + "y"
    yield root[:-1]
