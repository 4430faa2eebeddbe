"""What OpenAI's chunks look like, as strict views, and how a choice that does not fit them is put right.

WIRE §1.4 has the table of what breaks whom.
"""

from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType

Json = dict[str, Any]

_QUOTES = len('""')
_FUNCTION = len('{"arguments":""}')
_NOTHING = (b"", b"null", b'""', b"[]", b"{}")


class Tool(msgspec.Struct):
    """A tool call's delta."""

    index: int
    id: str | None = None
    function: Raw = Raw()


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

    def size(self, choice: Any) -> int:
        """Bytes of the text that it brings, of every kind, about."""
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

    def size(self, choice: ChatChoice) -> int:
        """Bytes of content, refusal, reasoning and what is said to tools."""
        delta = choice.delta
        size = 0
        for part in (delta.content, delta.refusal, delta.reasoning, delta.reasoning_content, delta.function_call):
            size += max(0, len(part) - _QUOTES)
        if delta.tool_calls is not UNSET:
            size += sum(max(0, len(tool.function) - _FUNCTION) for tool in delta.tool_calls)
        return size

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

    def size(self, choice: TextChoice) -> int:
        """Bytes of the text, where it is plain."""
        return len(choice.text)

    def closing(self) -> Json:
        """An empty text."""
        return {"text": "", "logprobs": None}

    def text(self, choice: TextChoice) -> bytes:
        """The text."""
        return msgspec.json.encode(choice.text)


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
