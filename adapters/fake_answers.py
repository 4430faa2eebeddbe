"""What each endpoint of the fake answers to a well-formed request, whole or as events; and what is wrong with a bad one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from adapters.fake_content import Asked, Content, compose, pieces, text_of
from adapters.fake_responses import asked_by_responses, response_events, response_start, response_whole
from adapters.fake_script import BASES, Script
from adapters.fake_shapes import (
    FINGERPRINT,
    Json,
    chat_whole,
    completion_choice,
    completion_logprobs,
    embeddings,
    model_object,
    moderations,
    tokens_in,
    usage,
)
from adapters.fake_sse import Event, Plan, chat_events, completion_events

_MOST_INPUTS = 2048
_MOST_DIMENSIONS = 8192
_MOST_CHOICES = 128


class Made(msgspec.Struct, frozen=True):
    """An answer before faults and framing: `events` when the request asked for a stream."""

    whole: Json
    events: list[Event] | None = None


class RefusedError(Exception):
    """The request is not one the API accepts: by default a 400 naming `param`."""

    def __init__(self, message: str, param: str | None, status: str = "400") -> None:
        super().__init__(message)
        self.param = param
        self.status = status


class Question(msgspec.Struct, frozen=True):
    """One request as the endpoints see it. `serial` tells answers apart; `now` is unix seconds."""

    body: Mapping[str, Any]
    script: Script
    serial: int
    now: int


Maker = Callable[[Question], Made]


def _list(body: Mapping[str, Any], member: str) -> Sequence[Any]:
    value = body.get(member)
    if not isinstance(value, list) or not value:
        raise RefusedError(f"Missing or empty required parameter: '{member}'.", member)
    return value


def _integer(body: Mapping[str, Any], member: str, most: int | None = None) -> int | None:
    value = body.get(member)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        raise RefusedError(f"Invalid value for '{member}'.", member)
    return value


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop")
    return (stop,) if isinstance(stop, str) else tuple(str(each) for each in stop or ())


def _frame(question: Question, prefix: str) -> Json:
    return {
        "id": f"{prefix}-fake-{question.serial}",
        "created": question.now,
        "model": question.script.name,
        "system_fingerprint": FINGERPRINT,
        "service_tier": "default",
    }


def _numbered(said: Content, count: int) -> list[Content]:
    """N choices that differ, so that a mix-up shows: the i-th text ends in ` #i`."""
    return [
        said if not index or said.text is None else msgspec.structs.replace(said, text=f"{said.text} #{index}")
        for index in range(count)
    ]


def _asked_usage(body: Mapping[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _asked_by_chat(body: Mapping[str, Any]) -> Asked:
    messages = _list(body, "messages")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise RefusedError("Each message needs a role.", "messages")
    users = [message for message in messages if message["role"] == "user"]
    last = messages[-1]
    choice = body.get("tool_choice")
    named = (choice.get("function") or {}).get("name", "") if isinstance(choice, dict) else None
    form = body.get("response_format") or {}
    schema = (form.get("json_schema") or {}).get("schema") if form.get("type") == "json_schema" else None
    return Asked(
        user_text=text_of(users[-1].get("content")) if users else "",
        tool_text=text_of(last.get("content")) if last["role"] in {"tool", "function"} else None,
        tools=tuple(
            (tool["function"]["name"], tool["function"].get("parameters") or {})
            for tool in body.get("tools") or ()
            if tool.get("type") == "function"
        ),
        forced=named if named is not None else "" if choice == "required" else None,
        may_call=choice != "none",
        schema={} if form.get("type") == "json_object" else schema,
        limit=_integer(body, "max_completion_tokens") or _integer(body, "max_tokens"),
        stop=_stops(body),
    )


def _chat(question: Question) -> Made:
    body, script = question.body, question.script
    said = _numbered(compose(script, _asked_by_chat(body)), _integer(body, "n", _MOST_CHOICES) or 1)
    prompt = tokens_in([message.get("content") for message in body["messages"]])
    wants = body.get("logprobs") is True or script.base == "logprobs"
    top = (body.get("top_logprobs") or 0) if wants else None
    frame = _frame(question, "chatcmpl")
    counted = usage(prompt, sum(each.words for each in said), sum(len(each.reasoning.split()) for each in said))
    whole = chat_whole(frame, said, counted, script, top)
    if body.get("stream") is not True:
        return Made(whole)
    return Made(whole, chat_events(Plan(frame, said, prompt, script, _asked_usage(body), top)))


def _prompts(body: Mapping[str, Any]) -> list[str]:
    prompt = body.get("prompt")
    if prompt is None or prompt == []:
        raise RefusedError("Missing required parameter: 'prompt'.", "prompt")
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and all(isinstance(each, str) for each in prompt):
        return prompt
    rows = prompt if isinstance(prompt, list) and isinstance(prompt[0], list) else [prompt]
    return [" ".join(str(token) for token in row) for row in rows]


def _completions(question: Question) -> Made:
    body, script = question.body, question.script
    said: list[Content] = []
    for prompt in _prompts(body):
        limit = _integer(body, "max_tokens")
        content = compose(script, Asked(user_text=prompt, limit=limit, stop=_stops(body)))
        if body.get("echo") is True:
            content = msgspec.structs.replace(content, text=prompt + (content.text or ""))
        said += _numbered(content, _integer(body, "n", _MOST_CHOICES) or 1)
    prompt_tokens = tokens_in(body["prompt"])
    top = body.get("logprobs")
    frame = _frame(question, "cmpl")
    choices = []
    for index, content in enumerate(said):
        text = content.text or ""
        shown = None if top is None else completion_logprobs(pieces(text, script), top)
        choices.append(completion_choice(text, index, content.finish, shown))
    counted = usage(prompt_tokens, sum(content.words for content in said))
    whole = {**frame, "object": "text_completion", "choices": choices, "usage": counted}
    if body.get("stream") is not True:
        return Made(whole)
    return Made(whole, completion_events(Plan(frame, said, prompt_tokens, script, _asked_usage(body), top)))


def _embeddings(question: Question) -> Made:
    body = question.body
    given = body.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and all(type(each) is int for each in given)):
        given = [given]
    inputs = _list({"input": given}, "input")
    if len(inputs) > _MOST_INPUTS or not all(each and isinstance(each, str | list) for each in inputs):
        raise RefusedError("'input' takes up to 2048 texts or token lists, none of them empty.", "input")
    form = body.get("encoding_format") or "float"
    if form not in {"float", "base64"}:
        raise RefusedError("'encoding_format' is float or base64.", "encoding_format")
    size = _integer(body, "dimensions", _MOST_DIMENSIONS) or question.script.dims
    keys = [each if isinstance(each, str) else repr(each) for each in inputs]
    return Made(embeddings(question.script.name, keys, size, as_base64=form == "base64", tokens=tokens_in(given)))


def _moderations(question: Question) -> Made:
    given = question.body.get("input")
    if not isinstance(given, str | list) or not given:
        raise RefusedError("Missing required parameter: 'input'.", "input")
    if isinstance(given, str):
        texts = [given]
    else:
        texts = given if all(isinstance(each, str) for each in given) else [text_of(given)]
    return Made(moderations(question.script.name, f"modr-fake-{question.serial}", texts))


def _responses(question: Question) -> Made:
    body, script = question.body, question.script
    for member in ("previous_response_id", "conversation", "background"):
        if body.get(member):
            raise RefusedError(f"The fake keeps no state: '{member}' is not supported.", member)
    if not body.get("input"):
        raise RefusedError("Missing required parameter: 'input'.", "input")
    said = compose(script, asked_by_responses(body))
    prompt = tokens_in(body["input"]) + tokens_in(body.get("instructions"))
    start = response_start(body, script, f"resp_fake_{question.serial}", question.now)
    whole = response_whole(start, said, prompt)
    if body.get("stream") is not True:
        return Made(whole)
    return Made(whole, response_events(start, whole, script, said))


MAKERS: dict[str, Maker] = {
    "/chat/completions": _chat,
    "/completions": _completions,
    "/embeddings": _embeddings,
    "/moderations": _moderations,
    "/responses": _responses,
}


def models(path: str) -> Json:
    """The answer to `GET …/models` or `GET …/models/{id}`: every name is a script, so every id is there."""
    name = path.partition("/models")[2].strip("/")
    return model_object(name) if name else {"object": "list", "data": [model_object(base) for base in sorted(BASES)]}
