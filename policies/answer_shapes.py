"""One answer in two shapes: whole, and as the chunks of a stream. Each way only where it says the same.

What is known to mean nothing is left out: `obfuscation` (padding against eavesdroppers, new in every stream), `x_groq`
(the id of the provider's own request), and empty members of a message (`"refusal": null`, `"annotations": []`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from proxy.endpoints import CHAT, Endpoint

Json = dict[str, Any]

_MEANINGLESS = frozenset({"obfuscation", "x_groq"})
_IDENTITY = ("id", "object", "created", "model", "choices", "usage")
_THOUGHT = ("reasoning_content", "reasoning")
_TEXTS = frozenset({"content", "refusal", *_THOUGHT})
_TOOLS = ("tool_calls", "function_call")
_SCALARS = (str, int, float, bool)
_EMPTY: tuple[object, ...] = (None, [], {})


class Unfaithful(Exception):
    """In the other shape the answer would not say the same."""


class Whole:
    """Puts the whole answer together from the chunks of one choice, one by one, without usage."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._chat = endpoint is CHAT
        self._head: Json = {}
        self._rest: Json = {}
        self._message: Json = {"role": "assistant", "content": None, "refusal": None}
        self._text: list[str] = []
        self._logprobs: Json = {}
        self._choice: Json = {}

    def add(self, chunk: Json) -> None:
        """The next chunk. Raises Unfaithful, after which this is of no use."""
        if not self._head:
            self._head = {name: chunk[name] for name in ("id", "object", "created", "model")}
        _merge(self._rest, _scalars(chunk, _IDENTITY))
        choice = chunk["choices"][0]
        if self._chat:
            _add_delta(self._message, choice.get("delta"))
        else:
            self._text.append(_text(choice.get("text")))
        if choice.get("logprobs"):
            _add_logprobs(self._logprobs, choice["logprobs"])
        _merge(self._choice, _scalars(choice, ("index", "delta", "text", "logprobs")))

    def answer(self) -> Json:
        """What all of them make."""
        content: Json = {"text": "".join(self._text)}
        if self._chat:
            self._head["object"] = "chat.completion"
            if "tool_calls" in self._message:
                self._message["tool_calls"] = [_without(tool, "index") for tool in self._message["tool_calls"]]
            content = {"message": self._message}
        choice = {"index": 0, **content, "logprobs": self._logprobs or None, **self._choice}
        return {**self._head, "choices": [choice], **self._rest}


def chunks_of(endpoint: Endpoint, answer: Json) -> list[Json]:
    """The chunks of a stream that make this whole answer of one choice, without usage. Raises Unfaithful."""
    rest = {name: value for name, value in _scalars(answer, _IDENTITY).items() if value is not None}
    head = {name: answer[name] for name in ("id", "object", "created", "model")} | rest
    choice = answer["choices"][0]
    ending = _scalars(choice, ("index", "message", "text", "logprobs"))
    if endpoint is CHAT:
        head["object"] = "chat.completion.chunk"
        deltas: list[Json] = [{"delta": delta} for delta in _deltas(choice["message"])]
        last: Json = {"delta": {}}
    else:
        deltas, last = [{"text": _text(choice["text"])}], {"text": ""}
    spoken = _where_spoken(deltas)
    for each in deltas:
        each["logprobs"] = choice.get("logprobs") if each is spoken else None
        each["finish_reason"] = None
    parts = [*deltas, {**last, "logprobs": None, **ending}]
    return [{**head, "choices": [{"index": 0, **part}]} for part in parts]


def _where_spoken(deltas: list[Json]) -> Json:
    """The part to which log probabilities belong."""
    return next((each for each in deltas if each.get("delta", {}).get("content")), deltas[0])


def _add_delta(message: Json, delta: object) -> None:
    for name, value in _object(delta).items():
        if value in _EMPTY or name == "role":
            continue
        if name in _TEXTS:
            message[name] = (message.get(name) or "") + _text(value)
        elif name == "tool_calls":
            _add_tools(message.setdefault("tool_calls", []), value)
        elif name == "function_call":
            _add_function(message.setdefault("function_call", {}), value)
        else:
            raise Unfaithful(name)


def _add_tools(tools: list[Json], deltas: object) -> None:
    for delta in _list(deltas):
        tool = _object(delta)
        known = next((each for each in tools if each["index"] == tool.get("index")), None)
        if known is None:
            tools.append(dict(tool))
        elif set(tool) - {"index", "function"}:
            raise Unfaithful("tool_calls")
        else:
            _add_function(known.setdefault("function", {}), tool.get("function", {}))


def _add_function(function: Json, delta: object) -> None:
    for name, value in _object(delta).items():
        if name == "arguments":
            function[name] = function.get(name, "") + _text(value)
        elif value is not None and function.setdefault(name, value) != value:
            raise Unfaithful("function")


def _deltas(message: object) -> list[Json]:
    """Reasoning first, then what is said, then what is called: clients look at one of them in a delta."""
    given = {name: value for name, value in _object(message).items() if value not in _EMPTY}
    given.pop("role", None)
    thought = {name: _text(given.pop(name)) for name in _THOUGHT if name in given}
    said = {name: _text(given.pop(name)) for name in ("content", "refusal") if name in given}
    called = {name: given.pop(name) for name in _TOOLS if name in given}
    if given:
        raise Unfaithful(", ".join(given))
    if "tool_calls" in called:
        called["tool_calls"] = [
            {"index": index, **_object(tool)} for index, tool in enumerate(_list(called["tool_calls"]))
        ]
    deltas = [each for each in (thought, said, called) if each] or [{}]
    content = None if _object(message).get("content") is None else ""
    deltas[0] = {"role": "assistant", "content": content, **deltas[0]}
    return deltas


def _add_logprobs(merged: Json, given: object) -> None:
    """Lists one after the other, as chat and legacy completions both have them."""
    for name, value in _object(given).items():
        if value is None:
            merged.setdefault(name, None)
        elif merged.get(name) is None:
            merged[name] = list(_list(value))
        else:
            merged[name] += _list(value)


def _merge(merged: Json, given: Json) -> None:
    """Further members of several chunks: plain values that do not contradict each other."""
    for name, value in given.items():
        before = merged.get(name)
        if before is not None and value is not None and before != value:
            raise Unfaithful(name)
        merged[name] = value if value is not None else before


def _scalars(given: Json, known: Sequence[str]) -> Json:
    """Members beside the known ones. Raises Unfaithful for any that is more than a plain value."""
    rest: Json = {}
    for name, value in given.items():
        if name in known or name in _MEANINGLESS:
            continue
        if value not in _EMPTY and not isinstance(value, _SCALARS):
            raise Unfaithful(name)
        rest[name] = value if isinstance(value, _SCALARS) else None
    return rest


def _without(given: Json, name: str) -> Json:
    return {key: value for key, value in given.items() if key != name}


def _checked(kind: type[Any]) -> Callable[[object], Any]:
    def check(value: object) -> Any:
        if not isinstance(value, kind):
            raise Unfaithful(f"{kind.__name__} expected")
        return value

    return check


_object = _checked(dict)
_list = _checked(list)
_text = _checked(str)
