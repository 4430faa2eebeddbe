"""Streams of chat and legacy completion chunks: checked event by event, repaired where a provider's dialect would
break a client, passed on byte for byte where not.

A chunk that fits the strict views of `chunk_shapes` goes to the client as it came; one that does not is decoded,
repaired and encoded again.
"""

import time
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw

from proxy.call import Usage
from proxy.chunk_shapes import ChoiceState, Json, Shape
from proxy.mould import Mould, take_mould
from proxy.sse import DONE, DONE_ITEM, frame
from proxy.usage import in_tier, read_usage

_USAGE_NULL = b',"usage":null}'


class _Tier(msgspec.Struct):
    service_tier: Any = None


_decode_tier = msgspec.json.Decoder(_Tier).decode


class StreamFault(Exception):
    """The stream is not a good one. `kind`: `malformed`, `error_event`, `empty` or `cut`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Reader(Protocol):
    """Reads one stream of one dialect. `committed`: content was seen. `complete`: the stream ended as it should."""

    committed: bool
    complete: bool
    usage: Usage | None
    deltas: int
    """Events that brought content; most often a token each."""
    text: int
    """Bytes of text that they brought, about."""

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        """The items to send for this event, often one, perhaps none. Raises StreamFault."""
        ...

    def end(self) -> list[bytes]:
        """The items to send when the upstream's bytes end. Raises StreamFault if they ended too soon."""
        ...


class ChunkReader:
    """Reads one stream of chunks.

    `asked` is whether the client asked for usage: if so it gets one chunk with it, last; if not, none, though the
    gateway itself always asks. `model` and `id` name the chunks of a provider that does not.
    """

    __slots__ = (
        "_asked",
        "_created",
        "_id",
        "_identified",
        "_last_usage",
        "_model",
        "_mould",
        "_shape",
        "_states",
        "committed",
        "complete",
        "deltas",
        "text",
        "usage",
    )

    def __init__(self, shape: Shape, *, asked: bool, id: str, model: str) -> None:  # noqa: A002 - the member's name
        self._shape = shape
        self._asked = asked
        self._id = id
        self._model = model
        self._created = 0
        self._identified = False
        self._states: dict[int, ChoiceState] = {}
        self._last_usage: Json | None = None
        self._mould: Mould | None = None
        self.usage: Usage | None = None
        self.committed = False
        self.complete = False
        self.deltas = 0
        self.text = 0

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        """The items to send for this event. Raises StreamFault."""
        mould = self._mould
        if mould is not None and not name:
            item = mould.fill(data)
            if item is not None:
                self.deltas += 1
                self.text += len(data) - mould.least
                return [item]
        if data.startswith(DONE):
            return self._finish()
        chunk = self._strict(data)
        if name or chunk is None or not self._fits(chunk):
            try:
                data = msgspec.json.encode(self._repaired(name, data))
                chunk = self._shape.decode(data)
            except (msgspec.DecodeError, RecursionError, OverflowError):
                raise StreamFault("malformed", "an event of the stream is not a chunk") from None
        return self._note(chunk, data)

    def end(self) -> list[bytes]:
        """Close the stream if every choice has finished. Raises StreamFault if not."""
        if self.complete:
            return []
        if not self._states:
            raise StreamFault("empty", "the stream ended without an answer")
        if not all(state.finished for state in self._states.values()):
            raise StreamFault("cut", "the stream ended before its answer was complete")
        return self._finish()

    def _strict(self, data: bytes) -> Any:
        try:
            if not data.isascii():
                data.decode()  # members that are skipped must be sound too
            return self._shape.decode(data)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise StreamFault("malformed", "an event of the stream is not valid JSON") from None

    def _fits(self, chunk: Any) -> bool:
        if chunk.error is not UNSET:
            return False
        if not chunk.choices:
            return True
        if self._identified:
            if chunk.id != self._id or chunk.created != self._created or chunk.model != self._model:
                return False
        elif not chunk.id:
            return False
        if chunk.object != self._shape.object or chunk.usage:
            return False
        for choice in chunk.choices:
            state = self._state(choice.index)
            reason = choice.finish_reason
            if reason is not None and (not reason or state.finished):
                return False
            if not self._shape.fits(choice, state):
                return False
        return True

    def _state(self, index: int) -> ChoiceState:
        state = self._states.get(index)
        if state is None:
            state = self._states[index] = ChoiceState()
        return state

    def _note(self, chunk: Any, data: bytes) -> list[bytes]:
        if not chunk.choices:
            return self._note_bare(chunk, data)
        if not self._identified:
            self._id, self._created, self._model = chunk.id, chunk.created, chunk.model
            self._identified = True
        self._mould = None
        for choice in chunk.choices:
            state = self._state(choice.index)
            self._shape.note(choice, state)
            size = self._shape.size(choice)
            if size:
                self.deltas += 1
                self.text += size
            if choice.finish_reason is not None:
                state.finished = True
                self.committed = True
            elif not self.committed and self._shape.bears_content(choice):
                self.committed = True
        sent = _without_usage(data) if chunk.usage is None and not self._asked else data
        if len(chunk.choices) == 1 and chunk.choices[0].finish_reason is None:
            self._mould = take_mould(data, sent, self._shape.text(chunk.choices[0]))
        return [frame(sent)]

    def _note_bare(self, chunk: Any, data: bytes) -> list[bytes]:
        """A chunk without choices: the one with usage is held for the end, others are keep-alives or vendors' own."""
        if isinstance(chunk.usage, dict):
            self._keep_usage(chunk.usage, _decode_tier(data).service_tier)
            return []
        return [frame(data if self._asked or chunk.usage is UNSET else _without_usage(data))]

    def _keep_usage(self, usage: Json, tier: object) -> None:
        self._last_usage = usage
        self.usage = in_tier(read_usage(usage), tier)

    def _finish(self) -> list[bytes]:
        if not self._states:
            raise StreamFault("empty", "the stream ended without an answer")
        items = [
            self._chunk([{"index": index, **self._shape.closing(), "finish_reason": "stop"}])
            for index, state in self._states.items()
            if not state.finished
        ]
        if self._asked and self._last_usage is not None:
            items.append(self._chunk([], self._last_usage))
        self.committed = True
        self.complete = True
        return [*items, DONE_ITEM]

    def _chunk(self, choices: list[Json], usage: Json | None = None) -> bytes:
        chunk: Json = {
            "id": self._id,
            "object": self._shape.object,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if usage is not None:
            chunk["usage"] = usage
        return frame(msgspec.json.encode(chunk))

    def _repaired(self, name: bytes, data: bytes) -> Json:
        chunk = msgspec.json.decode(data)
        if not isinstance(chunk, dict):
            raise StreamFault("malformed", "an event of the stream is not a JSON object")
        error = chunk.pop("error", None)
        if error is not None or name == b"error":
            raise StreamFault("error_event", error_text(error if error is not None else chunk))
        self._repair_identity(chunk)
        choices = chunk.get("choices")
        listed = choices if isinstance(choices, list) else []
        chunk["choices"] = [choice for choice in listed if isinstance(choice, dict)]
        for position, choice in enumerate(chunk["choices"]):
            self._repair_choice(choice, position)
        if chunk["choices"] and isinstance(chunk.get("usage"), dict):
            self._keep_usage(chunk.pop("usage"), chunk.get("service_tier"))
        return chunk

    def _repair_identity(self, chunk: Json) -> None:
        chunk["object"] = self._shape.object
        for member, kind, ours in (("id", str, self._id), ("model", str, self._model), ("created", int, self._created)):
            value = chunk.get(member)
            if self._identified or not value or isinstance(value, bool) or not isinstance(value, kind):
                chunk[member] = ours or int(time.time())

    def _repair_choice(self, choice: Json, position: int) -> None:
        if not isinstance(choice.get("index"), int):
            choice["index"] = position
        state = self._state(choice["index"])
        self._shape.repair(choice, state)
        reason = choice.get("finish_reason")
        if not isinstance(reason, str) or not reason or state.finished:
            choice["finish_reason"] = None


def error_text(error: object) -> str:
    """The human part of an error in any of the forms that providers send it, at most 500 characters."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("code") or "unknown error"
    return str(error)[:500]


def _without_usage(data: bytes) -> bytes:
    """The same chunk without its `"usage":null` member, the rest byte for byte."""
    if data.endswith(_USAGE_NULL):
        return data[: -len(_USAGE_NULL)] + b"}"
    members = msgspec.json.decode(data, type=dict[str, Raw])
    members.pop("usage", None)
    return msgspec.json.encode(members)
