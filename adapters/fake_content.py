"""What a fake answer says: the text, the tool calls, the JSON, cut to the request's limits. The wire form is elsewhere."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from adapters.fake_script import Script

_WORDS = re.compile(r"\S+\s*|\s+")
_DEPTH = 6
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "email": "fake@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class ToolCall(msgspec.Struct, frozen=True):
    """One function call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Content(msgspec.Struct, frozen=True):
    """What one choice says."""

    text: str | None = None
    reasoning: str = ""
    refusal: str | None = None
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"

    @property
    def words(self) -> int:
        """The tokens of this choice, counted in words."""
        said = (self.text, self.reasoning, self.refusal, *(call.arguments for call in self.calls))
        return sum(count(part) for part in said if part)


class Asked(msgspec.Struct, frozen=True):
    """The members of a request that decide what is said, from chat, completions and responses alike."""

    user_text: str = ""
    tool_text: str | None = None
    """The last message's text when it is a tool's result."""
    tools: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Names and parameter schemas of the function tools."""
    forced: str | None = None
    """The tool the request insists on; "" for any."""
    may_call: bool = True
    schema: Mapping[str, Any] | None = None
    """The JSON schema the answer must satisfy; empty for any JSON object."""
    limit: int | None = None
    stop: tuple[str, ...] = ()


def count(text: str) -> int:
    """Tokens, as the fake counts them: words."""
    return len(text.split())


def text_of(content: object) -> str:
    """The text of a message's content: a string, or its text parts joined by line breaks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        str(part["text"]) for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
    )


def pieces(text: str, script: Script) -> list[str]:
    """The text as content events carry it: a word each, or in `chunks` parts of about the same length."""
    if not script.chunks:
        return _WORDS.findall(text)
    size, more = divmod(len(text), script.chunks)
    parts, start = [], 0
    for index in range(script.chunks):
        end = start + size + (index < more)
        parts.append(text[start:end])
        start = end
    return [part for part in parts if part]


def compose(script: Script, asked: Asked) -> Content:
    """What the script says to this request."""
    if asked.tool_text is not None and script.base in {"tools", "echo"}:
        return _cut(f"The tool said: {asked.tool_text}", asked)
    wants = script.base == "tools" or asked.forced is not None
    if wants and asked.tools and asked.may_call:
        return Content(calls=_calls(script, asked), finish="tool_calls")
    if script.base == "refusal":
        return Content(refusal="I am a fake and must refuse.")
    if asked.schema is not None or script.base == "json":
        echo = msgspec.json.encode({"echo": asked.user_text}).decode()
        return Content(text=sample_json(asked.schema) if asked.schema else echo)
    return _spoken(script, asked)


def _spoken(script: Script, asked: Asked) -> Content:
    if script.base == "fixed":
        return _cut(script.text, asked)
    if script.base == "long":
        return _cut(" ".join(f"word{index}" for index in range(script.words)), asked)
    thought = "I repeat what the user said." if script.base == "reasoning" else ""
    return msgspec.structs.replace(_cut(asked.user_text, asked), reasoning=thought)


def _cut(text: str, asked: Asked) -> Content:
    """End the text at the first stop string and at the token limit."""
    ends = [at for at in (text.find(stop) for stop in asked.stop if stop) if at >= 0]
    if ends:
        text = text[: min(ends)]
    words = _WORDS.findall(text)
    if asked.limit is not None and len(words) > asked.limit:
        return Content(text="".join(words[: asked.limit]), finish="length")
    return Content(text=text)


def _calls(script: Script, asked: Asked) -> tuple[ToolCall, ...]:
    named = [tool for tool in asked.tools if tool[0] == asked.forced] or list(asked.tools)
    chosen = [named[index % len(named)] for index in range(script.calls)]
    return tuple(
        ToolCall(id=f"call_fake_{index}", name=name, arguments=sample_json(schema))
        for index, (name, schema) in enumerate(chosen)
    )


def sample_json(schema: Mapping[str, Any]) -> str:
    """JSON text that satisfies the schema, the same every time."""
    return msgspec.json.encode(_sample(schema, schema, "value", 0)).decode()


def _sample(schema: Any, root: Mapping[str, Any], name: str, depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return name
    if "$ref" in schema:
        return _sample(_resolve(str(schema["$ref"]), root), root, name, depth + 1)
    fixed = [schema[key] for key in ("const", "default") if key in schema] or schema.get("enum")
    if fixed:
        return fixed[0]
    if union := schema.get("anyOf") or schema.get("oneOf"):
        return _sample(_plainest(union, depth), root, name, depth + 1)
    if schema.get("allOf"):
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        merged = {key: value for part in (*schema["allOf"], rest) for key, value in part.items()}
        return _sample(merged, root, name, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    return _of_kind(kind, schema, root, name, depth)


def _plainest(options: Iterable[Any], depth: int) -> Any:
    """The first option that is not null; deep down the null one, so that a recursive schema ends."""
    options = list(options)
    nulls = [each for each in options if isinstance(each, Mapping) and each.get("type") == "null"]
    if depth >= _DEPTH and nulls:
        return nulls[0]
    return next((each for each in options if each not in nulls), options[0])


def _resolve(ref: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in ref.removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int) -> Any:
    if kind == "object":
        required = set(schema.get("required", ()))
        wanted = schema.get("properties", {}).items()
        return {key: _sample(each, root, key, depth + 1) for key, each in wanted if key in required or depth < _DEPTH}
    if kind == "array":
        least = schema.get("minItems", 1 if depth < _DEPTH else 0)
        return [_sample(schema.get("items", {}), root, name, depth + 1) for _ in range(least)]
    if kind in {"integer", "number"}:
        return _number(schema)
    if kind in {"boolean", "null"}:
        return True if kind == "boolean" else None
    text = _FORMATS.get(schema.get("format", ""), name)
    return text.ljust(schema.get("minLength", 0), "x")[
        : schema.get("maxLength", len(text) + schema.get("minLength", 0))
    ]


def _number(schema: Mapping[str, Any]) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 0) - 1 if "exclusiveMaximum" in schema else None)
    value = low if low is not None else (1 if high is None or high >= 1 else high)
    step = schema.get("multipleOf")
    return -(-value // step) * step if step else value
