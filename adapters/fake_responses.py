"""The Responses API of the fake: text and function tools, whole and as its full sequence of events (WIRE §1.7)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.fake_content import Asked, Content, pieces, text_of
from adapters.fake_script import Script
from adapters.fake_shapes import Json
from adapters.fake_sse import Event

_ECHOED: dict[str, Any] = {
    "instructions": None,
    "metadata": {},
    "tool_choice": "auto",
    "temperature": 1.0,
    "top_p": 1.0,
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "max_tool_calls": None,
    "service_tier": "default",
    "safety_identifier": None,
    "prompt_cache_key": None,
    "max_output_tokens": None,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": False,
    "text": {"format": {"type": "text"}},
    "truncation": "disabled",
    "background": False,
    "user": None,
}


def asked_by_responses(body: Mapping[str, Any]) -> Asked:
    """What a Responses request asks for. A last item that is a function's output makes the answer a text about it."""
    given = body.get("input")
    items: list[Any] = given if isinstance(given, list) else [{"role": "user", "content": given or ""}]
    users = [item for item in items if isinstance(item, dict) and item.get("role") == "user"]
    last = items[-1] if items and isinstance(items[-1], dict) else {}
    choice = body.get("tool_choice")
    named = choice.get("name") if isinstance(choice, dict) else None
    form = (body.get("text") or {}).get("format") or {}
    return Asked(
        user_text=text_of(users[-1].get("content")) if users else "",
        tool_text=text_of(last.get("output")) if last.get("type") == "function_call_output" else None,
        tools=tuple(
            (tool["name"], tool.get("parameters") or {})
            for tool in body.get("tools") or ()
            if tool.get("type") == "function"
        ),
        forced=named or ("" if choice == "required" else None),
        may_call=choice != "none",
        schema=_schema(form),
        limit=body.get("max_output_tokens"),
    )


def _schema(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if form.get("type") == "json_object":
        return {}
    return form.get("schema") if form.get("type") == "json_schema" else None


def response_whole(start: Json, said: Content, prompt: int) -> Json:
    """The response object, finished; `start` is what `response_start` made."""
    cut = said.finish == "length"
    now, call_id = start["created_at"], start["id"]
    return {
        **start,
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else now,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [item for item, _ in _items(said, call_id)],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said.words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + said.words,
        },
    }


def response_start(body: Mapping[str, Any], script: Script, call_id: str, now: int) -> Json:
    """The response object before anything is said, with every nullable member."""
    echoed = {key: value if body.get(key) is None else body[key] for key, value in _ECHOED.items()}
    tools = [
        {"description": None, "parameters": None, "strict": None, **tool} if tool.get("type") == "function" else tool
        for tool in body.get("tools") or ()
    ]
    return {
        "id": call_id,
        "object": "response",
        "created_at": now,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": script.name,
        "output": [],
        "usage": None,
        "tools": tools,
        **echoed,
    }


def _items(said: Content, call_id: str) -> list[tuple[Json, str]]:
    """The output items with the text that streams into each."""
    if said.calls:
        return [
            (
                {
                    "type": "function_call",
                    "id": f"fc_{call_id}_{index}",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments,
                    "status": "completed",
                },
                call.arguments,
            )
            for index, call in enumerate(said.calls)
        ]
    text = said.refusal if said.refusal is not None else said.text or ""
    part = _part(said, text)
    status = "incomplete" if said.finish == "length" else "completed"
    return [
        ({"type": "message", "id": f"msg_{call_id}", "role": "assistant", "status": status, "content": [part]}, text)
    ]


def _part(said: Content, text: str) -> Json:
    if said.refusal is not None:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_events(start: Json, whole: Json, script: Script, said: Content) -> list[Event]:
    """The stream of a response: from `response.created` to its last event, `sequence_number` from 0 without gaps."""
    events = [
        Event({"response": start}, "role", "response.created"),
        Event({"response": start}, "role", "response.in_progress"),
    ]
    for index, (item, text) in enumerate(_items(said, whole["id"])):
        place = {"output_index": index, "item_id": item["id"]}
        blank: Json = {"arguments": ""} if said.calls else {"content": []}
        empty = {**item, "status": "in_progress", **blank}
        events.append(Event({"output_index": index, "item": empty}, "role", "response.output_item.added"))
        events += _call_events(place, item, script) if said.calls else _text_events(place, said, text, script)
        events.append(Event({"output_index": index, "item": item}, "finish", "response.output_item.done"))
    events.append(Event({"response": whole}, "end", f"response.{whole['status']}"))
    for number, event in enumerate(events):
        if isinstance(event.data, dict):
            event.data = {"type": event.type, "sequence_number": number, **event.data}
    return [event for event in events if not (event.kind == "end" and "no-done" in script.sse)]


def _call_events(place: Json, item: Json, script: Script) -> list[Event]:
    name = "response.function_call_arguments"
    cut = script if script.chunks else msgspec.structs.replace(script, chunks=4)
    deltas = [Event({**place, "delta": piece}, "content", f"{name}.delta") for piece in pieces(item["arguments"], cut)]
    done = {**place, "name": item["name"], "arguments": item["arguments"]}
    return [*deltas, Event(done, "finish", f"{name}.done")]


def _text_events(place: Json, said: Content, text: str, script: Script) -> list[Event]:
    place = {**place, "content_index": 0}
    refusal = said.refusal is not None
    name = "response.refusal" if refusal else "response.output_text"
    more: Json = {} if refusal else {"logprobs": []}
    deltas = [Event({**place, "delta": piece, **more}, "content", f"{name}.delta") for piece in pieces(text, script)]
    whole = {**place, "refusal": text} if refusal else {**place, "text": text, **more}
    return [
        Event({**place, "part": _part(said, "")}, "role", "response.content_part.added"),
        *deltas,
        Event(whole, "finish", f"{name}.done"),
        Event({**place, "part": _part(said, text)}, "finish", "response.content_part.done"),
    ]
