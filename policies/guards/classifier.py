"""The injection classifier: a logistic regression over hashed character n-grams, stored as int8, numpy only.

Features: the distinct 3- to 5-grams of the plain text with a space at each end, hashed into 2**16 buckets, each with the
value 1/sqrt(number of distinct buckets, at least 64). Logit = bias + scale * sum(weights) / sqrt(count). Without that
floor a text of one or two words would be judged as firmly as a page that holds nothing else.
"""

import math
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

BITS: Final = 16
ORDERS: Final = (3, 4, 5)
FEWEST: Final = 64
_FNV: Final = np.uint32(0x01000193)
_MIX: Final = np.uint32(0x2C1B3C6D)
_SHIFT: Final = np.uint32(32 - BITS)
_HALF: Final = np.uint32(15)
_SALTS: Final = {n: np.uint32(n * 0x9E3779B1 & 0xFFFFFFFF) for n in ORDERS}


def buckets(text: str) -> NDArray[np.intp]:
    """The distinct buckets of a plain text's n-grams, ascending. Empty for a text without any."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    rolling, grams = codes, []
    for order in range(2, ORDERS[-1] + 1):
        if codes.size < order:
            break
        rolling = rolling[:-1] * _FNV
        rolling ^= codes[order - 1 :]
        if order in _SALTS:
            grams.append(rolling ^ _SALTS[order])
    if not grams:
        return np.zeros(0, dtype=np.intp)
    mixed = np.concatenate(grams)
    mixed ^= mixed >> _HALF
    mixed *= _MIX
    mixed >>= _SHIFT
    seen = np.zeros(1 << BITS, dtype=np.bool_)
    seen[mixed.astype(np.intp)] = True
    return np.flatnonzero(seen)


class Classifier:
    """Weights and their version; immutable, safe to share between tasks and threads."""

    def __init__(self, weights: NDArray[np.int8], scale: float, bias: float, version: str) -> None:
        self._weights = weights.astype(np.float32) * np.float32(scale)
        self._bias = bias
        self.version = version

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read an .npz of `weights` (int8, 2**16), `scale`, `bias`, `version`; ValueError when it is of another shape."""
        with np.load(path, allow_pickle=False) as stored:
            weights = stored["weights"]
            if weights.dtype != np.int8 or weights.shape != (1 << BITS,):
                raise ValueError(f"{path.name}: expected {1 << BITS} int8 weights")
            return cls(weights, float(stored["scale"]), float(stored["bias"]), str(stored["version"]))

    def logit(self, text: str) -> float:
        """The log-odds that a plain text is an injection; 0.0 is undecided. Linear in the length."""
        found = buckets(text)
        if not found.size:
            return self._bias
        return self._bias + float(self._weights.take(found).sum()) / math.sqrt(max(FEWEST, found.size))
