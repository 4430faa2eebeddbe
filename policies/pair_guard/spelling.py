"""How words are spelled: typing mistakes, accents left out, one word in two languages."""

import unicodedata
from functools import lru_cache
from typing import Final

_COGNATE: Final = 5


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


def bare(accented: str, plain: str, text: str) -> bool:
    """Whether a word is the other without its accents, where `text`, which has it, has none."""
    return not accented.isascii() and text.isascii() and _plain(accented) == plain


def same_but_accents(one: str, other: str) -> str:
    """What two words are without their accents, if these alone tell them apart; empty otherwise."""
    if one == other or (one.isascii() and other.isascii()):
        return ""
    plain = _plain(one)
    return plain if plain == _plain(other) else ""


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
