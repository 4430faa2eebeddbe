"""What is known of the models before they are loaded."""

from typing import Final

import msgspec


class Model(msgspec.Struct, frozen=True):
    """A model that runs here; `module` loads it, and its libraries with it."""

    module: str
    id: str
    size: int
    window: int
    languages: tuple[str, ...]


USE: Final = Model(
    module="adapters.embedder_use",
    id="use-multilingual-3/0.2.1",
    size=512,
    window=256,
    languages=("ar", "zh", "en", "fr", "de", "it", "ja", "ko", "nl", "pl", "pt", "es", "th", "tr", "ru"),
)
MINILM: Final = Model(
    module="adapters.embedder_minilm",
    id="all-MiniLM-L6-v2-onnx-int8/1.0.0",
    size=384,
    window=256,
    languages=("en",),
)
