"""The short way through a stream of chunks gives the same bytes as the long one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.chunk_shapes import ChatShape, Shape, TextShape
from proxy.chunks import ChunkReader, StreamFault

SHAPES: dict[str, Shape] = {"chat": ChatShape(), "text": TextShape()}


class Careful(ChunkReader):
    """Forgets every form at once, so that each chunk is parsed."""

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        self._mould = None
        return super().take(name, data)


def chunk(text: str, *, usage: bool, spaced: bool, ascii_only: bool, index: int = 0, kind: str = "chat") -> bytes:
    choice = (
        {"index": index, "delta": {"content": text}, "finish_reason": None}
        if kind == "chat"
        else {"index": index, "text": text, "logprobs": None, "finish_reason": None}
    )
    name = "chat.completion.chunk" if kind == "chat" else "text_completion"
    whole = {"id": "c", "object": name, "created": 1, "model": "m", "choices": [choice]}
    if usage:
        whole["usage"] = None
    separators = (", ", ": ") if spaced else (",", ":")
    return json.dumps(whole, separators=separators, ensure_ascii=ascii_only).encode()


def sent(reader: ChunkReader, events: list[bytes]) -> list[bytes]:
    out: list[bytes] = []
    for event in events:
        try:
            out += reader.take(b"", event)
        except StreamFault as fault:
            return [*out, fault.kind.encode()]
    return out


TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["m", "c", "1", "content", '"', "\\", "\n", "\x7f", "é"]),
    min_size=1,
    max_size=8,
)


@given(TEXTS, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["chat", "text"]))
def test_a_stream_is_the_same_either_way(
    texts: list[str], usage: bool, spaced: bool, ascii_only: bool, asked: bool, kind: str
) -> None:
    """Whatever the texts and the spelling of the chunks."""
    events = [chunk(text, usage=usage, spaced=spaced, ascii_only=ascii_only, kind=kind) for text in texts]
    short = ChunkReader(SHAPES[kind], asked=asked, id="x", model="m")
    long = Careful(SHAPES[kind], asked=asked, id="x", model="m")
    assert sent(short, events) == sent(long, events)


@given(TEXTS, st.binary(max_size=6), st.integers(0, 200))
def test_a_broken_chunk_is_found_either_way(texts: list[str], junk: bytes, where: int) -> None:
    """Bytes put into the last chunk make it malformed, or not, whichever way it is read."""
    events = [chunk(text, usage=False, spaced=False, ascii_only=False) for text in [*texts, "hello"]]
    last = events[-1]
    events[-1] = last[:where] + junk.replace(b"\n", b"") + last[where:]
    short = ChunkReader(SHAPES["chat"], asked=False, id="x", model="m")
    long = Careful(SHAPES["chat"], asked=False, id="x", model="m")
    assert sent(short, events) == sent(long, events)


def test_interleaved_choices_keep_apart() -> None:
    """With two choices the forms take turns, and nothing is taken for the other."""
    events = [chunk(f"{n}", usage=False, spaced=False, ascii_only=True, index=n % 2) for n in range(8)]
    short = ChunkReader(SHAPES["chat"], asked=False, id="x", model="m")
    long = Careful(SHAPES["chat"], asked=False, id="x", model="m")
    assert sent(short, events) == sent(long, events)
