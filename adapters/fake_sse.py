"""Fake event streams: chunks in OpenAI's form, bent into a dialect when the script names one, and framed as bytes."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

from adapters.fake_content import Content, count, pieces
from adapters.fake_script import Script
from adapters.fake_shapes import Json, chat_deltas, completion_choice, completion_logprobs, usage

Kind = Literal["role", "content", "finish", "usage", "end", "error"]


class Event(msgspec.Struct):
    """One event: its JSON (or text) and what it is for the script's timing and faults. `type` is its SSE event name."""

    data: Json | str
    kind: Kind
    type: str = ""


class Plan(msgspec.Struct, frozen=True):
    """What a stream of choices is made from. `top` is the number of top_logprobs, None for no logprobs."""

    frame: Json
    said: Sequence[Content]
    prompt: int
    script: Script
    asked_usage: bool
    top: int | None = None


def chat_events(plan: Plan) -> list[Event]:
    """A chat stream: the choices interleaved by index, one finish each, usage when asked, then the end."""
    frame = {**plan.frame, "object": "chat.completion.chunk"}
    events: list[Event] = []
    lanes = [chat_deltas(content, plan.script, plan.top) for content in plan.said]
    for row in zip_longest(*lanes):
        for index, entry in enumerate(row):
            if entry is not None:
                delta, shown = entry
                choice = {"index": index, "delta": delta, "logprobs": shown, "finish_reason": None}
                events.append(Event({**frame, "choices": [choice]}, "role" if "role" in delta else "content"))
    for index, content in enumerate(plan.said):
        choice = {"index": index, "delta": {}, "logprobs": None, "finish_reason": content.finish}
        events.append(Event({**frame, "choices": [choice]}, "finish"))
    return _bent([*_with_usage(events, plan, frame), Event("[DONE]", "end")], plan.script)


def completion_events(plan: Plan) -> list[Event]:
    """A stream of the legacy endpoint: `text_completion` objects."""
    frame = {**plan.frame, "object": "text_completion"}
    events: list[Event] = []
    for row in zip_longest(*(pieces(content.text or "", plan.script) for content in plan.said)):
        for index, piece in enumerate(row):
            if piece is not None:
                shown = None if plan.top is None else completion_logprobs([piece], plan.top)
                events.append(Event({**frame, "choices": [completion_choice(piece, index, None, shown)]}, "content"))
    for index, content in enumerate(plan.said):
        events.append(Event({**frame, "choices": [completion_choice("", index, content.finish)]}, "finish"))
    return _bent([*_with_usage(events, plan, frame), Event("[DONE]", "end")], plan.script)


def _with_usage(events: list[Event], plan: Plan, frame: Json) -> list[Event]:
    sse = plan.script.sse
    asked = (
        plan.asked_usage or bool(sse & {"usage-always", "usage-content", "usage-each"})
    ) and "usage-none" not in sse
    if not asked:
        return events
    total = usage(
        plan.prompt, sum(content.words for content in plan.said), sum(count(each.reasoning) for each in plan.said)
    )
    so_far = 0
    for index, event in enumerate(events):
        if isinstance(event.data, dict):
            so_far += event.kind == "content"
            last = index == len(events) - 1
            running = usage(plan.prompt, so_far) if "usage-each" in sse and not last else None
            event.data["usage"] = total if last and sse & {"usage-each", "usage-content"} else running
    if sse & {"usage-each", "usage-content"}:
        return events
    extra: Json = {**frame, "choices": [], "usage": total}
    if "choices-null" in sse:
        extra["choices"] = None
    if "usage-no-choices" in sse:
        del extra["choices"]
    return [*events, Event(extra, "usage")]


def _bent(events: list[Event], script: Script) -> list[Event]:
    sse = script.sse
    kept = [
        event
        for event in events
        if not (event.kind == "finish" and "no-finish" in sse) and not (event.kind == "end" and "no-done" in sse)
    ]
    for event in kept:
        if isinstance(event.data, dict):
            _bend(event.data, sse)
    return kept


def _bend(chunk: Json, sse: frozenset[str]) -> None:
    for member in ("created", "object", "id"):
        if f"no-{member}" in sse:
            del chunk[member]
    if "error-null" in sse:
        chunk["error"] = None
    if "obfuscation" in sse:
        chunk["obfuscation"] = "fakefakefake"
    for choice in chunk.get("choices") or ():
        if "no-index" in sse:
            choice.pop("index", None)
        if choice["finish_reason"] == "tool_calls" and "tool-stop" in sse:
            choice["finish_reason"] = "stop"
        if "delta" in choice:
            _bend_delta(choice, sse)


def _bend_delta(choice: Json, sse: frozenset[str]) -> None:
    delta = choice["delta"]
    if choice["finish_reason"] is not None and "delta-null" in sse:
        choice["delta"] = None
        return
    if "no-role" in sse:
        delta.pop("role", None)
    if "role-each" in sse:
        delta["role"] = "assistant"
    if "tool-calls-null" in sse:
        delta.setdefault("tool_calls", None)
    for call in delta.get("tool_calls") or ():
        if "tool-index-1" in sse:
            call["index"] += 1
        if "tool-no-index" in sse:
            del call["index"]
        if "tool-no-id" in sse:
            call.pop("id", None)


def frames(events: Iterable[Event], sse: frozenset[str]) -> list[bytes]:
    """The bytes of each event in the script's dialect."""
    framed = [_frame(event, index, sse) for index, event in enumerate(events)]
    if framed and "bom" in sse:
        framed[0] = b"\xef\xbb\xbf" + framed[0]
    if framed and "last-no-blank" in sse:
        framed[-1] = framed[-1].rstrip(b"\r\n")
    return framed


def _frame(event: Event, index: int, sse: frozenset[str]) -> bytes:
    text = event.data if isinstance(event.data, str) else msgspec.json.encode(event.data).decode()
    if "multiline" in sse and not isinstance(event.data, str):
        text = msgspec.json.format(text, indent=1)
    if event.data == "[DONE]" and "done-space" in sse:
        text += " "
    space = "" if "no-space" in sse else " "
    lines = [": ping", ""] if "comments" in sse else []
    lines += ["event: ping", ""] if "ping-event" in sse else []
    lines += ["data:", ""] if "empty-data" in sse else []
    lines += [f"id: {index}"] if "ids" in sse else []
    lines += ["retry: 1000"] if "retry" in sse else []
    name = event.type or ("message" if "event" in sse else "")
    lines += [f"event: {name}"] if name else []
    lines += [f"data:{space}{line}" for line in text.split("\n")]
    newline = "\r\n" if "crlf" in sse else "\r" if "cr" in sse else "\n"
    return (newline.join(lines) + newline * 2).encode()


def error_event(body: Json, sse: frozenset[str]) -> Event:
    """A failure inside a stream: an error object, a bare text, or an `error` event without the `error` member."""
    if "error-text" in sse:
        return Event({"error": body["error"]["message"]}, "error")
    if "error-event" in sse:
        return Event(body["error"], "error", "error")
    return Event(body, "error")
