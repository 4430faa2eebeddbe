"""What a text says without letters or digits: signs of numbers, negation as programmers write it, the case of units,
symbols and emoji. Words are read without case and punctuation, so these would be lost.
"""

import re
import unicodedata
from typing import Final, NamedTuple

_NEGATIVE: Final = re.compile(r"(?:(?<![^\W_])(?<![)\d] )|(?<=\d[eE]))-\.?\d[\d.,]*|(?<![\w)])-\w*\(")
"""A minus sign, and neither a hyphen, a range nor a difference; with its number, since two may change places."""
_NOT: Final = re.compile(r"!=|(?<!\w)!(?=\w)")
_UNIT: Final = re.compile(r"(?<=\d)[ ]?([A-Za-zµ]{1,3})(?![\w'])")
_CASELESS: Final = frozenset({"am", "pm", "g", "th", "st", "nd", "rd"})
"""Times, ordinals and 4G."""
_NO_LETTER: Final = re.compile(r"[^\w\s]")
_SYMBOLS: Final = frozenset({"Sm", "So", "Sc"})
_WORDS: Final = frozenset("$£€°")
"""Read as words."""
_MARKS: Final = frozenset("©®")
"""Say nothing about what is asked."""


class Signs(NamedTuple):
    """What was found, sorted."""

    negatives: tuple[str, ...]
    symbols: tuple[str, ...]
    units: tuple[str, ...]
    """Of one to three letters, as they are written."""

    def differ(self, other: "Signs") -> bool:
        """Whether they tell two questions apart that have the same words."""
        if self.negatives != other.negatives or self.symbols != other.symbols:
            return True
        # another unit is another word; only its case is not: 10 mW and 10 MW
        return self.units != other.units and _folded(self.units) == _folded(other.units)


def signs_of(text: str) -> Signs:
    """The signs of a text that was spelled."""
    symbols = filter(_is_symbol, _NO_LETTER.findall(text))
    return Signs(
        tuple(sorted(each.rstrip(".,") for each in _NEGATIVE.findall(text))),
        tuple(sorted([*_NOT.findall(text), *symbols])),
        tuple(sorted(each for each in _UNIT.findall(text) if each.lower() not in _CASELESS)),
    )


def _is_symbol(sign: str) -> bool:
    return unicodedata.category(sign) in _SYMBOLS and sign not in _WORDS and sign not in _MARKS


def _folded(units: tuple[str, ...]) -> list[str]:
    return sorted(each.lower() for each in units)
