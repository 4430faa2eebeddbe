"""Which words are real ones: a misspelling is a word that is not among them."""

import gzip
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("words.bin.gz")
_BITS: Final = 20


class Words:
    """A Bloom filter of common English and French words of four letters and more: about one in a hundred others is taken for known."""

    def __init__(self, bits: bytes) -> None:
        self._bits = bits

    @classmethod
    def load(cls) -> "Words":
        """The filter as shipped."""
        return cls(gzip.decompress(_FILE.read_bytes()))

    def __contains__(self, word: str) -> bool:
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in places(word))


def places(word: str) -> tuple[int, int]:
    """The two bits of a word (FNV-1a, 64 bits, halved)."""
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value & ((1 << _BITS) - 1), (value >> 32) & ((1 << _BITS) - 1)
