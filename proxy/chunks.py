"""Streams of chat and legacy completion chunks: checked event by event, repaired where a provider's dialect would
break a client, passed on byte for byte where not.

The strict views below are what OpenAI sends. A chunk that fits them goes to the client as it came; one that does
not is decoded, repaired and encoded again (WIRE §1.4 has the table of what breaks whom).
"""

import time
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.call import Usage
from proxy.sse import DONE, DONE_ITEM, frame
from proxy.usage import read_usage

Json = dict[str, Any]

_NOTHING = (b"", b"null", b'""', b"[]", b"{}")
_USAGE_NULL = b',"usage":null}'


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

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        """The items to send for this event, often one, perhaps none. Raises StreamFault."""
        ...

    def end(self) -> list[bytes]:
        """The items to send when the upstream's bytes end. Raises StreamFault if they ended too soon."""
        ...


class Tool(msgspec.Struct):
    """A tool call's delta."""

    index: int
    id: str | None = None


class Delta(msgspec.Struct):
    """A chat choice's delta."""

    role: str = ""
    content: Raw = Raw()
    refusal: Raw = Raw()
    reasoning: Raw = Raw()
    reasoning_content: Raw = Raw()
    audio: Raw = Raw()
    function_call: Raw = Raw()
    tool_calls: list[Tool] | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    """One choice of a chat chunk."""

    index: int
    delta: Delta
    finish_reason: str | None = None


class TextChoice(msgspec.Struct):
    """One choice of a legacy completion chunk."""

    index: int
    text: str
    finish_reason: str | None = None


class ChatChunk(msgspec.Struct):
    """A chat chunk."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Any = UNSET
    error: Any = UNSET


class TextChunk(msgspec.Struct):
    """A legacy completion chunk."""

    id: str
    object: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Any = UNSET
    error: Any = UNSET


class ChoiceState:
    """What was already sent of one choice."""

    __slots__ = ("finished", "ids", "role", "tools")

    def __init__(self) -> None:
        self.role = False
        self.finished = False
        self.tools: dict[int, int] = {}
        """The provider's index of each tool call → the one the client sees, counted from 0."""
        self.ids: list[str] = []
        """The ids of the tool calls, by the index that the client sees."""


class Shape(Protocol):
    """What differs between chat and legacy completions."""

    @property
    def object(self) -> str:
        """The `object` member of its chunks."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """The strict view. Raises msgspec's errors."""
        ...

    def fits(self, choice: Any, state: ChoiceState) -> bool:
        """Whether this choice can go out as it is."""
        ...

    def bears_content(self, choice: Any) -> bool:
        """Whether anything in it is content; a finish reason is looked at elsewhere."""
        ...

    def note(self, choice: Any, state: ChoiceState) -> None:
        """Remember what is sent."""
        ...

    def repair(self, choice: Json, state: ChoiceState) -> None:
        """Make this choice fit, in place."""
        ...

    def closing(self) -> Json:
        """The content members of a choice that only finishes."""
        ...

    def text(self, choice: Any) -> bytes:
        """The raw JSON of the text, if that is all the choice brings, else b""."""
        ...


class ChatShape:
    """Chat completion chunks."""

    object = "chat.completion.chunk"

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(ChatChunk).decode

    def fits(self, choice: ChatChoice, state: ChoiceState) -> bool:
        """Role in the first delta of a choice; each tool call numbered from 0, with its id in its first delta."""
        delta = choice.delta
        if not state.role and not delta.role:
            return False
        if delta.tool_calls is not UNSET:
            for tool in delta.tool_calls:
                known = state.tools.get(tool.index)
                if known is None:
                    if tool.index != len(state.ids) or not tool.id:
                        return False
                elif known != tool.index or tool.id is not None:
                    return False
        return not (choice.finish_reason == "stop" and state.tools)

    def bears_content(self, choice: ChatChoice) -> bool:
        """Non-empty content, refusal, reasoning, audio, tool or function call."""
        delta = choice.delta
        return (
            bytes(delta.content) not in _NOTHING
            or bool(delta.tool_calls)
            or any(
                bytes(part) not in _NOTHING
                for part in (
                    delta.refusal,
                    delta.reasoning,
                    delta.reasoning_content,
                    delta.audio,
                    delta.function_call,
                )
            )
        )

    def note(self, choice: ChatChoice, state: ChoiceState) -> None:
        """Remember the role and the tool calls."""
        state.role = True
        if choice.delta.tool_calls is not UNSET:
            for tool in choice.delta.tool_calls:
                if tool.index == len(state.ids):
                    state.tools.setdefault(tool.index, tool.index)
                    state.ids.append(tool.id or "")

    def repair(self, choice: Json, state: ChoiceState) -> None:
        """Give the choice a delta with role, numbered and named tool calls, and a finish reason that says so."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            message = choice.pop("message", None)
            delta = message if isinstance(message, dict) else {}
        choice["delta"] = delta
        if not isinstance(delta.get("role"), str):
            delta.pop("role", None)
            if not state.role:
                choice["delta"] = {"role": "assistant", **delta}
        tools = delta.get("tool_calls")
        if isinstance(tools, list):
            choice["delta"]["tool_calls"] = [_repair_tool(tool, state) for tool in tools if isinstance(tool, dict)]
        else:
            choice["delta"].pop("tool_calls", None)
        if choice.get("finish_reason") == "stop" and (state.tools or choice["delta"].get("tool_calls")):
            choice["finish_reason"] = "tool_calls"

    def closing(self) -> Json:
        """An empty delta."""
        return {"delta": {}}

    def text(self, choice: ChatChoice) -> bytes:
        """The content."""
        delta = choice.delta
        return b"" if delta.role or delta.tool_calls is not UNSET else bytes(delta.content)


class TextShape:
    """Legacy completion chunks."""

    object = "text_completion"

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(TextChunk).decode

    def fits(self, choice: TextChoice, state: ChoiceState) -> bool:
        """Any."""
        return True

    def bears_content(self, choice: TextChoice) -> bool:
        """Non-empty text."""
        return bool(choice.text)

    def note(self, choice: TextChoice, state: ChoiceState) -> None:
        """Nothing is remembered."""

    def repair(self, choice: Json, state: ChoiceState) -> None:
        """Give the choice a text."""
        if not isinstance(choice.get("text"), str):
            choice["text"] = ""

    def closing(self) -> Json:
        """An empty text."""
        return {"text": "", "logprobs": None}

    def text(self, choice: TextChoice) -> bytes:
        """The text."""
        return msgspec.json.encode(choice.text)


class Mould:
    """The form of a chunk that was checked in full, around its text: the next one most often differs only there.

    A chunk of the same form, whose text needs no escape, is thereby checked as well: same choice, same members,
    well-formed, nothing finished. It saves the parse of almost every event of a stream.
    """

    __slots__ = ("_head", "_least", "_sent_head", "_sent_tail", "_tail")

    def __init__(self, head: bytes, tail: bytes, sent_tail: bytes) -> None:
        self._head = head
        self._tail = tail
        self._least = len(head) + len(tail)
        self._sent_head = b"data: " + head
        self._sent_tail = sent_tail + b"\n\n"

    def fill(self, data: bytes) -> bytes | None:
        """The item for this chunk if it has the form, else None."""
        if len(data) < self._least or not data.startswith(self._head) or not data.endswith(self._tail):
            return None
        text = data[len(self._head) : -len(self._tail)]
        if b'"' in text or b"\\" in text:
            return None
        try:
            if not text.decode().isprintable():
                return None
        except UnicodeDecodeError:
            return None
        return b"%b%b%b" % (self._sent_head, text, self._sent_tail)


def _mould(data: bytes, sent: bytes, text: bytes) -> Mould | None:
    """The form of a chunk whose text is this raw JSON string; None when it cannot be told from the rest."""
    if len(text) <= 2 or not text.startswith(b'"') or data.count(text) != 1:  # noqa: PLR2004 - the two quotes
        return None
    start = data.index(text) + 1
    end = start + len(text) - 2
    removed = len(data) - len(sent)
    if sent[: end + 1] != data[: end + 1]:
        return None  # what was removed stood before the text
    return Mould(data[:start], data[end:], sent[end : len(data) - removed])


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

    def take(self, name: bytes, data: bytes) -> list[bytes]:
        """The items to send for this event. Raises StreamFault."""
        if self._mould is not None and not name:
            item = self._mould.fill(data)
            if item is not None:
                return [item]
        if data.startswith(DONE):
            return self._finish()
        chunk = self._strict(data)
        if name or chunk is None or not self._fits(chunk):
            data = msgspec.json.encode(self._repaired(name, data))
            chunk = self._shape.decode(data)
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
            if choice.finish_reason is not None:
                state.finished = True
                self.committed = True
            elif not self.committed and self._shape.bears_content(choice):
                self.committed = True
        sent = _without_usage(data) if chunk.usage is None and not self._asked else data
        if len(chunk.choices) == 1 and chunk.choices[0].finish_reason is None:
            self._mould = _mould(data, sent, self._shape.text(chunk.choices[0]))
        return [frame(sent)]

    def _note_bare(self, chunk: Any, data: bytes) -> list[bytes]:
        """A chunk without choices: the one with usage is held for the end, others are keep-alives or vendors' own."""
        if isinstance(chunk.usage, dict):
            self._keep_usage(chunk.usage)
            return []
        return [frame(data if self._asked or chunk.usage is UNSET else _without_usage(data))]

    def _keep_usage(self, usage: Json) -> None:
        self._last_usage = usage
        self.usage = read_usage(usage)

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
        chunk["choices"] = [choice for choice in choices if isinstance(choice, dict)] if choices else []
        for position, choice in enumerate(chunk["choices"]):
            self._repair_choice(choice, position)
        if chunk["choices"] and isinstance(chunk.get("usage"), dict):
            self._keep_usage(chunk.pop("usage"))
        return chunk

    def _repair_identity(self, chunk: Json) -> None:
        chunk["object"] = self._shape.object
        for member, kind, ours in (("id", str, self._id), ("model", str, self._model), ("created", int, self._created)):
            if self._identified or not isinstance(chunk.get(member), kind) or not chunk[member]:
                chunk[member] = ours or int(time.time())

    def _repair_choice(self, choice: Json, position: int) -> None:
        if not isinstance(choice.get("index"), int):
            choice["index"] = position
        state = self._state(choice["index"])
        self._shape.repair(choice, state)
        reason = choice.get("finish_reason")
        if not isinstance(reason, str) or not reason or state.finished:
            choice["finish_reason"] = None


def _repair_tool(tool: Json, state: ChoiceState) -> Json:
    """Number a tool call from 0 by order of appearance; id, type and name stand in its first delta only."""
    theirs, call_id = tool.get("index"), tool.get("id") or None
    if not isinstance(theirs, int):
        theirs = max(state.tools, default=0) if call_id is None or call_id in state.ids else _next_index(state)
    known = state.tools.get(theirs)
    if known is None or (call_id is not None and call_id != state.ids[known]):
        known = state.tools[theirs] = len(state.ids)
        state.ids.append(call_id or f"call_{known}")
        tool = {"type": "function", **tool, "id": state.ids[known]}
    else:
        tool.pop("id", None)
        tool.pop("type", None)
        if isinstance(tool.get("function"), dict):
            tool["function"].pop("name", None)
    tool["index"] = known
    function = tool.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), dict | list):
        function["arguments"] = msgspec.json.encode(function["arguments"]).decode()
    return tool


def _next_index(state: ChoiceState) -> int:
    return max(state.tools, default=-1) + 1


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
