"""One plain form of a text, so that look-alikes, invisible characters and styled letters read as what a model reads.

The form is for matching only: it has no offsets into the original and is never shown or stored.
"""

import re
import unicodedata
from typing import Final

import msgspec
import numpy as np


class Plain(msgspec.Struct, frozen=True, gc=False):
    """A normalised text: lower case, single spaces, no marks; `smuggled` is what it carried in invisible tag characters."""

    text: str
    smuggled: str = ""


_INVISIBLE: Final = (
    0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
    *range(0x2060, 0x2070), 0x3164, 0xFEFF, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0),
)  # fmt: skip
_TAGS: Final = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)} | {0xE0001: "", 0xE007F: ""}
_QUOTES: Final = {**dict.fromkeys(map(ord, "‘’‚‛′´"), "'"), **dict.fromkeys(map(ord, "“”„‟«»″"), '"'),
                  **dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")}  # fmt: skip
_STYLED: Final = {  # letters that NFKC leaves alone: negative circled, negative squared, regional indicators
    first + i: chr(ord("a") + i) for first in (0x1F150, 0x1F170, 0x1F1E6) for i in range(26)
}
_SMALL_CAPITALS: Final = dict(zip(map(ord, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"), "abcdefghijklmnoprstuvwyz", strict=True))
_SUBSTITUTE: Final = {
    chr(code): letter
    for code, letter in (dict.fromkeys(_INVISIBLE, "") | _TAGS | _QUOTES | _STYLED | _SMALL_CAPITALS).items()
}

# Letters of other scripts drawn like Latin ones (the visible core of Unicode's confusables table).
LOOKALIKES: Final = str.maketrans({
    **dict(zip("аеорсхуіјѕһԁԛԝѵвкмнтгьпизӏ", "aeopcxyijshdqwvbkmhtrbnuzl", strict=True)),
    **dict(zip("αοερνικτυχϲβγηωδσμζλπθ", "aoepviktuxcbynwdomzlno", strict=True)),
    **dict(zip("օոսհցեզքյդռ", "onuhgeqpjdn", strict=True)),
    **dict(zip("ɑɡıɩȷɴɯəɛʀⅼⅰⅴⅹⅽⅾⅿ", "agiijnweerlivxcdm", strict=True)),
    **dict(zip("ⲟⲣⲥⲁⲉⲓⲕⲙⲛⲧⲩⲭ", "opcaeikmntyx", strict=True)),
})  # fmt: skip

LONGEST: Final = 4096  # characters of a plain text; segments have half of that
_TAG, _FIRST_TAG, _LAST_TAG, _FLAG = 0xE0000, 0xE0020, 0xE007E, 6  # a flag emoji carries at most six tag characters
_ASCII, _FEW = bytes(range(128)), 64
# Entries of the table that are no letters; the last one marks a letter that reads as several.
_UNKNOWN, _GONE, _SEVERAL, _LETTER = 0x110002, 0x110001, 0x80000000, 0x7FFFFFFF
_ALIKE: Final = frozenset(map(chr, LOOKALIKES))
_LATIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_MARK: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)


def plain_letter(char: str) -> str:
    """What one character reads as: compatibility form, case folded, without accents; "" for an invisible one."""
    if char in _SUBSTITUTE:
        return _SUBSTITUTE[char]
    folded = unicodedata.normalize("NFKC", char).casefold()
    return unicodedata.normalize("NFC", _MARK.sub("", unicodedata.normalize("NFD", folded)))


def fold(text: str) -> str:
    """Every character as `plain_letter` has it: for the patterns of rules, which meet texts in that form."""
    return "".join(map(plain_letter, text))


def _latin(word: str) -> str:
    """A word (not all ASCII) that mixes Latin letters with look-alikes of another script, all Latin; any other word as it is."""
    if _LATIN.isdisjoint(word) or _ALIKE.isdisjoint(word):
        return word
    return word.translate(LOOKALIKES)


def _smuggled(tags: list[int]) -> str:
    """What tag characters spell, in plain form; "" for no more of them than a flag has."""
    return " ".join("".join(map(chr, tags)).lower().split()) if len(tags) > _FLAG else ""


class Normaliser:
    """Texts to plain texts through a table of code points that fills as letters are met. Linear for any input.

    Reading and filling the table are idempotent, so one instance may be shared by tasks and threads.
    """

    def __init__(self) -> None:
        self._table = np.full(0x110000, _UNKNOWN, dtype=np.uint32)
        self._many: dict[int, str] = {}

    def __call__(self, text: str) -> Plain:
        """The plain form of `text`, at most LONGEST characters: a letter may become up to 18."""
        if text.isascii():
            return Plain(" ".join(text.lower().split())[:LONGEST])
        foreign = text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")
        if len(foreign) <= _FEW:
            return self._mostly_ascii(text.lower(), foreign.lower())
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        letters = self._table[codes]
        if (letters == _UNKNOWN).any():
            for code in np.unique(codes[letters == _UNKNOWN]).tolist():
                self._learn(code)
            letters = self._table[codes]
        tags = codes[(codes >= _FIRST_TAG) & (codes <= _LAST_TAG)] - _TAG
        if (letters == _GONE).any():
            letters = letters[letters != _GONE]
        several = bool((letters >= _SEVERAL).any())
        if several:
            letters &= np.uint32(_LETTER)
        plain = letters.tobytes().decode("utf-32-le", "surrogatepass")
        if several:
            plain = plain.translate(self._many)
        words = plain[:LONGEST].split()
        if not (plain.isascii() or _LATIN.isdisjoint(plain)):
            words = [word if word.isascii() else _latin(word) for word in words]
        return Plain(" ".join(words), _smuggled(tags.tolist()))

    def _mostly_ascii(self, text: str, foreign: str) -> Plain:
        """The same for a text with a few other characters: replacing each kind of them is quicker than a table."""
        letters = set(foreign)
        for letter in letters:
            text = text.replace(letter, plain_letter(letter))
        words = text[:LONGEST].split()
        if not text.isascii():
            words = [word if word.isascii() else _latin(word) for word in words]
        tags = [ord(letter) - _TAG for letter in foreign if _FIRST_TAG <= ord(letter) <= _LAST_TAG]
        return Plain(" ".join(words), _smuggled(tags))

    def _learn(self, code: int) -> None:
        read = plain_letter(chr(code))
        if len(read) == 1:
            self._table[code] = ord(read)
        elif not read:
            self._table[code] = _GONE
        else:
            self._table[code] = code | _SEVERAL
            self._many[code] = read
