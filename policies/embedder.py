"""The seam to what turns texts into vectors, and how it is configured."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from proxy.values import Duration, Secret, duration


class Embedder(Protocol):
    """Turns texts into vectors of length `size` and norm 1."""

    @property
    def id(self) -> str:
        """Model and version: vectors with another id are never compared with these."""
        ...

    @property
    def size(self) -> int:
        """The length of its vectors."""
        ...

    @property
    def window(self) -> int:
        """How many tokens it reads; what is longer must not be given to it."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows, as ISO 639-1 codes; empty for any."""
        ...

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        """The vector of a text. A patient caller has time: it waits until the model is loaded.

        Raises ModelBusy, ModelUnavailable.
        """
        ...


class UseEmbedder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="use"):
    """Universal Sentence Encoder, multilingual: its weights come inside a package. The default."""

    queue: int = 64


class MiniLMEmbedder(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="minilm"
):
    """all-MiniLM-L6-v2 as int8 ONNX, English only: needs the extra `minilm`."""

    queue: int = 64


class HttpEmbedder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="http"):
    """A server with OpenAI's embeddings route, such as Hugging Face's TEI. `size` is the length of its vectors, `prefix` what
    its model wants before each text, such as `query: ` for E5.

    When it fails or takes longer than `timeout` it is left alone for `cool_down`.
    """

    base_url: str
    model: str
    size: int
    window: int = 256
    prefix: str = ""
    languages: tuple[str, ...] = ()
    api_key: Secret | None = None
    queue: int = 64
    timeout: Duration = duration("200ms")
    cool_down: Duration = duration("5s")


EmbedderConfig = UseEmbedder | MiniLMEmbedder | HttpEmbedder
