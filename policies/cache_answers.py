"""Stored answers of chat and legacy completions: which may be kept, and one entry for streamed and whole alike.

An answer is kept whole wherever that says the same as what came. A stream that holds what a whole answer has no room
for is kept as it came, and served to streams only.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from policies.answer_shapes import Unfaithful, Whole, chunks_of
from proxy.call import Usage
from proxy.endpoints import CHAT, Endpoint
from proxy.sse import DONE_ITEM, frame

Json = dict[str, Any]
Shape = Literal["whole", "stream"]

_TOOLS = ("tool_calls", "function_call")
_SLICE = 128
"""Events between two chances for other tasks."""


class Stored(msgspec.Struct, frozen=True):
    """An answer as it is kept: one whole body, or a JSON array of the chunks of a stream, without their usage.

    `usage` is the member of that name as the provider sent it, if it did.
    """

    shape: Shape
    body: bytes
    usage: Json | None = None


async def keep(
    endpoint: Endpoint, items: Sequence[bytes], *, streamed: bool, tools: bool, usage: Usage | None
) -> Stored | None:
    """What to keep of a complete answer. None when it must not be kept: it did not simply stop, has not exactly one
    choice, calls tools though `tools` is false, or is no answer. Lets other tasks run in between.

    `usage` is what was counted, for a stream whose client had not asked to see it.
    """
    try:
        if streamed:
            return await _kept_stream(endpoint, items, usage, tools=tools)
        body = b"".join(items)
        answer = msgspec.json.decode(body)
        return Stored("whole", body, answer.get("usage")) if _may_keep(endpoint, answer, tools=tools) else None
    except (AttributeError, IndexError, KeyError, TypeError, msgspec.DecodeError):
        return None  # an answer of another shape than any we know


def as_whole(stored: Stored) -> bytes | None:
    """The body of the answer; None when it can only be streamed."""
    return stored.body if stored.shape == "whole" else None


def as_stream(endpoint: Endpoint, stored: Stored, *, usage: bool) -> bytes | None:
    """The events of the answer, one after the other, with a last chunk for usage if that is asked for; None when it can
    only be whole, or when its usage is asked for and not known.
    """
    if usage and stored.usage is None:
        return None
    try:
        chunks: list[Any] = (
            chunks_of(endpoint, msgspec.json.decode(stored.body))
            if stored.shape == "whole"
            else msgspec.json.decode(stored.body)
        )
    except (Unfaithful, KeyError, TypeError):
        return None
    if usage:
        head = {name: chunks[0][name] for name in ("id", "object", "created", "model")}
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**head, "choices": [], "usage": stored.usage})
    return b"".join([*(frame(msgspec.json.encode(chunk)) for chunk in chunks), DONE_ITEM])


async def _kept_stream(
    endpoint: Endpoint, items: Sequence[bytes], usage: Usage | None, *, tools: bool
) -> Stored | None:
    if not items or items[-1] != DONE_ITEM:
        return None
    counted = _spelled(usage)
    chunks: list[Json] = []
    whole: Whole | None = Whole(endpoint)
    for number, item in enumerate(items[:-1], 1):
        chunk = msgspec.json.decode(item[len(b"data: ") :])
        if chunk.get("usage"):
            counted = chunk["usage"]
        if len(chunk["choices"]) > 1 or (chunk["choices"] and chunk["choices"][0]["index"]):
            return None
        if chunk["choices"] or not chunk.get("usage"):
            chunks.append(chunk)
            whole = _added(whole, chunk)
        if number % _SLICE == 0:
            await asyncio.sleep(0)
    if whole is None:
        kept = [{name: value for name, value in each.items() if name != "usage"} for each in chunks]
        return Stored("stream", msgspec.json.encode(kept), counted) if _may_keep_stream(chunks, tools=tools) else None
    answer = whole.answer()
    if counted is not None:
        answer["usage"] = counted
    return Stored("whole", msgspec.json.encode(answer), counted) if _may_keep(endpoint, answer, tools=tools) else None


def _added(whole: Whole | None, chunk: Json) -> Whole | None:
    """None from the first chunk on that a whole answer has no room for."""
    if whole is None or not chunk["choices"]:
        return None
    try:
        whole.add(chunk)
    except Unfaithful:
        return None
    return whole


def _may_keep(endpoint: Endpoint, answer: Json, *, tools: bool) -> bool:
    choices = answer["choices"]
    if len(choices) != 1:
        return False
    calls = endpoint is CHAT and any(choices[0]["message"].get(name) for name in _TOOLS)
    return _ends_well(choices[0]["finish_reason"], calls=calls, tools=tools)


def _may_keep_stream(chunks: list[Json], *, tools: bool) -> bool:
    choices = [each["choices"][0] for each in chunks if each["choices"]]
    reason = next((each["finish_reason"] for each in reversed(choices) if each.get("finish_reason")), None)
    calls = any((each.get("delta") or {}).get(name) for each in choices for name in _TOOLS)
    return _ends_well(reason, calls=calls, tools=tools)


def _ends_well(reason: object, *, calls: bool, tools: bool) -> bool:
    if calls or reason in _TOOLS:
        return tools and reason in ("stop", *_TOOLS)
    return reason == "stop"


def _spelled(usage: Usage | None) -> Json | None:
    """Counts as OpenAI spells them, each detail that is not 0; None for what we only estimated."""
    if usage is None or usage.estimated:
        return None
    spelled: Json = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    heard = usage.audio - usage.audio_output
    asked = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write, "audio_tokens": heard}
    said = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output}
    for name, details in (("prompt_tokens_details", asked), ("completion_tokens_details", said)):
        known = {each: count for each, count in details.items() if count > 0}
        if known:
            spelled[name] = known
    return spelled
