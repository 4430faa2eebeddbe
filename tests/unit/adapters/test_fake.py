"""The fake provider's scripts: what the engine answers, without a socket."""

import base64
import math
import struct
from typing import Any

import msgspec
import pytest

from adapters.fake import Engine
from adapters.fake_content import sample_json
from adapters.fake_script import DIALECTS, FAULTS, ScriptError, read_script
from adapters.fake_steps import Break, Pause, Scripted

CHAT = "/v1/chat/completions"
HELLO = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three four"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "time", "parameters": {}}},
]


@pytest.fixture
def engine() -> Engine:
    return Engine(lambda: 1_800_000_000.0)


def post(engine: Engine, path: str = CHAT, headers: dict[str, str] | None = None, **body: Any) -> Scripted:
    if path == CHAT:
        body.setdefault("messages", HELLO)
    return engine.answer("POST", path, headers or {}, msgspec.json.encode(body))


def data_of(scripted: Scripted) -> bytes:
    return b"".join(step for step in scripted.body if isinstance(step, bytes))


def json_of(scripted: Scripted) -> Any:
    assert scripted.length == len(data_of(scripted))
    return msgspec.json.decode(data_of(scripted))


def chunks_of(scripted: Scripted) -> list[Any]:
    frames = data_of(scripted).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(frame.removeprefix("data: ")) for frame in frames[:-2]]


def said(scripted: Scripted) -> str:
    content = json_of(scripted)["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def broken(scripted: Scripted) -> str | None:
    last = [*scripted.before, *scripted.body][-1]
    return last.how if isinstance(last, Break) else None


def test_an_answer_is_labelled_as_fake_and_has_every_required_member(engine: Engine) -> None:
    answer = json_of(post(engine, model="echo"))
    assert answer["id"].startswith("chatcmpl-fake-")
    assert (answer["system_fingerprint"], answer["model"]) == ("fp_fake", "echo")
    assert (answer["object"], type(answer["created"])) == ("chat.completion", int)
    choice = answer["choices"][0]
    assert {"index", "message", "finish_reason", "logprobs"} <= choice.keys()
    assert {"role", "content", "refusal"} <= choice["message"].keys()
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (6, 4, 10)


@pytest.mark.parametrize("model", ["echo", "gpt-4o", "anything/at:all", "gpt+status=503"])
def test_an_unknown_name_is_echo(engine: Engine, model: str) -> None:
    assert said(post(engine, model=model)) == "one two three four"


@pytest.mark.parametrize("model", ["echo+nonsense", "echo+fault=none", "echo+sse=crlf,x", "echo+delay=soon", "echo=3"])
def test_a_bad_modifier_is_refused_loudly(engine: Engine, model: str) -> None:
    """A typo in a test's script must not pass as an echo."""
    with pytest.raises(ScriptError):
        read_script(model)
    answer = post(engine, model=model)
    assert answer.status == 400
    assert json_of(answer)["error"]["code"] == "fake_script_invalid"


def test_text_parts_are_echoed(engine: Engine) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert said(post(engine, model="echo", messages=[{"role": "user", "content": parts}])) == "see"


def test_long_has_as_many_words_as_it_says(engine: Engine) -> None:
    assert len(said(post(engine, model="long=37")).split()) == 37


def test_fixed_says_its_text(engine: Engine) -> None:
    assert said(post(engine, model="fixed+text=all_is_well")) == "all is well"


def test_limits_and_stops_are_honoured(engine: Engine) -> None:
    cut = json_of(post(engine, model="echo", max_tokens=2))["choices"][0]
    assert (cut["message"]["content"].split(), cut["finish_reason"]) == (["one", "two"], "length")
    cut = json_of(post(engine, model="echo", max_completion_tokens=1))["choices"][0]
    assert cut["finish_reason"] == "length"
    ended = json_of(post(engine, model="echo", stop=["three", "zzz"]))["choices"][0]
    assert (ended["message"]["content"], ended["finish_reason"]) == ("one two ", "stop")


def test_several_choices_are_numbered_and_interleaved(engine: Engine) -> None:
    assert [choice["index"] for choice in json_of(post(engine, model="echo", n=3))["choices"]] == [0, 1, 2]
    order = [chunk["choices"][0]["index"] for chunk in chunks_of(post(engine, model="echo", n=2, stream=True))]
    assert order[:6] == [0, 1, 0, 1, 0, 1]


def test_a_stream_says_what_the_whole_answer_says(engine: Engine) -> None:
    chunks = chunks_of(post(engine, model="echo", stream=True))
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "one two three four"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1


def test_usage_is_streamed_only_when_asked(engine: Engine) -> None:
    assert not any("usage" in chunk for chunk in chunks_of(post(engine, model="echo", stream=True)))
    chunks = chunks_of(post(engine, model="echo", stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 10


def test_content_comes_in_so_many_events(engine: Engine) -> None:
    chunks = chunks_of(post(engine, model="long=30+chunks=7", stream=True))
    contents = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert len([content for content in contents if content]) == 7
    assert "".join(content or "" for content in contents) == said(post(engine, model="long=30"))


def test_tools_are_called_with_arguments_that_fit(engine: Engine) -> None:
    choice = json_of(post(engine, model="tools", tools=TOOLS))["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert call["function"]["name"] == "weather"
    assert msgspec.json.decode(call["function"]["arguments"]) == {"city": "city", "days": 2}


@pytest.mark.parametrize("base", ["tools", "echo"])
def test_a_forced_tool_is_the_one_called(engine: Engine, base: str) -> None:
    forced = {"type": "function", "function": {"name": "time"}}
    message = json_of(post(engine, model=base, tools=TOOLS, tool_choice=forced))["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["time"]
    assert said(post(engine, model=base, tools=TOOLS, tool_choice="none")) == "one two three four"


def test_tool_deltas_are_in_openai_form(engine: Engine) -> None:
    """Index always, id and name once, and the arguments join to the whole answer's."""
    chunks = chunks_of(post(engine, model="tools+calls=2", tools=TOOLS, stream=True))
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert {call["index"] for call in calls} == {0, 1}
    for index in (0, 1):
        first, *rest = [call for call in calls if call["index"] == index]
        assert {"id", "type"} <= first.keys()
        assert all(call.keys() == {"index", "function"} for call in rest)
        msgspec.json.decode("".join(call["function"]["arguments"] for call in (first, *rest)))
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_after_a_tools_result_the_answer_is_text(engine: Engine) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    answer = post(
        engine,
        model="tools",
        tools=TOOLS,
        messages=[*history, {"role": "tool", "tool_call_id": "c", "content": "rain"}],
    )
    assert said(answer) == "The tool said: rain"


SCHEMA = {
    "type": "object",
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    },
    "properties": {
        "kind": {"enum": ["b", "a"]},
        "when": {"type": "string", "format": "date"},
        "name": {"type": ["null", "string"], "minLength": 9, "maxLength": 10},
        "rows": {"type": "array", "minItems": 2, "items": {"type": "number", "exclusiveMinimum": 3}},
        "list": {"$ref": "#/$defs/node"},
        "flag": {"type": "boolean"},
        "nothing": {"type": "null"},
        "both": {"allOf": [{"type": "object", "properties": {"x": {"const": 7}}}, {"required": ["x"]}]},
    },
    "required": ["kind", "when", "name", "rows", "list", "flag", "nothing", "both"],
}


def test_json_satisfies_its_schema() -> None:
    """References, unions, enums, limits and recursion included."""
    value = msgspec.json.decode(sample_json(SCHEMA))
    assert (value["kind"], value["when"], value["flag"], value["nothing"]) == ("b", "2026-01-02", True, None)
    assert 9 <= len(value["name"]) <= 10
    assert len(value["rows"]) == 2
    assert all(row > 3 for row in value["rows"])
    assert value["both"] == {"x": 7}
    assert isinstance(value["list"], dict)


@pytest.mark.parametrize("base", ["json", "echo"])
def test_a_response_format_is_honoured(engine: Engine, base: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    assert msgspec.json.decode(said(post(engine, model=base, response_format=form))) == {"city": "city", "days": 2}
    assert msgspec.json.decode(said(post(engine, model=base, response_format={"type": "json_object"}))) == {
        "echo": "one two three four"
    }


def test_reasoning_comes_before_the_text(engine: Engine) -> None:
    message = json_of(post(engine, model="reasoning"))["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"] == "one two three four"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(post(engine, model="reasoning", stream=True))]
    kinds = ["reasoning" if "reasoning_content" in delta else "text" for delta in deltas[1:-1]]
    assert kinds == sorted(kinds)


def test_a_refusal_has_no_content(engine: Engine) -> None:
    message = json_of(post(engine, model="refusal"))["choices"][0]["message"]
    assert message["content"] is None
    assert message["refusal"]


def test_logprobs_come_when_asked(engine: Engine) -> None:
    shown = json_of(post(engine, model="echo", logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in shown) == "one two three four"
    assert all(len(entry["top_logprobs"]) == 2 for entry in shown)
    assert json_of(post(engine, model="logprobs"))["choices"][0]["logprobs"]["content"]
    assert json_of(post(engine, model="echo"))["choices"][0]["logprobs"] is None


def test_time_passes_where_the_script_says(engine: Engine) -> None:
    scripted = post(engine, model="echo+delay=1.5s+first=200ms+every=20ms", stream=True)
    assert scripted.before == (Pause(1.5),)
    assert [step.seconds for step in scripted.body if isinstance(step, Pause)] == [0.2, 0.02, 0.02, 0.02]
    assert post(engine, model="echo+delay=1s+first=2s").before == (Pause(1.0), Pause(2.0))


def test_drip_cuts_the_same_bytes_smaller(engine: Engine) -> None:
    plain = data_of(post(engine, model="echo", stream=True))
    scripted = post(engine, model="echo+drip=7+pace=1ms", stream=True)
    assert max(len(step) for step in scripted.body if isinstance(step, bytes)) == 7
    assert data_of(scripted).count(b"data: ") == plain.count(b"data: ")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529])
def test_every_status_has_openais_error_body(engine: Engine, status: int) -> None:
    for stream in (False, True):
        answer = post(engine, model=f"echo+status={status}", stream=stream)
        assert answer.status == status
        assert json_of(answer)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("name", "status", "kind", "param"),
    [
        ("context_length_exceeded", 400, "invalid_request_error", "messages"),
        ("content_policy_violation", 400, "invalid_request_error", None),
        ("insufficient_quota", 429, "insufficient_quota", None),
        ("rate_limit_exceeded", 429, "requests", None),
        ("model_not_found", 404, "invalid_request_error", "model"),
        ("invalid_api_key", 401, "invalid_request_error", None),
    ],
)
def test_named_errors_are_openais(engine: Engine, name: str, status: int, kind: str, param: str | None) -> None:
    answer = post(engine, model=f"echo+error={name}")
    error = json_of(answer)["error"]
    assert (answer.status, error["type"], error["code"], error["param"]) == (status, kind, name, param)


def test_every_form_of_retry_after_is_there(engine: Engine) -> None:
    def sent(hint: str) -> dict[str, str]:
        return post(engine, model=f"echo+status=429+{hint}").headers

    assert sent("retry-after=2")["retry-after"] == "2"
    assert sent("retry-after-ms=1500")["retry-after-ms"] == "1500"
    assert sent("x-ms-retry-after-ms=700")["x-ms-retry-after-ms"] == "700"
    assert sent("retry-date=5")["retry-after"] == "Fri, 15 Jan 2027 08:00:05 GMT"


def test_a_member_can_be_refused(engine: Engine) -> None:
    assert post(engine, model="echo+refuses=stream_options").status == 200
    answer = post(engine, model="echo+refuses=stream_options", stream=True, stream_options={"include_usage": True})
    assert (answer.status, json_of(answer)["error"]["param"]) == (400, "stream_options")


def test_the_first_calls_fail_then_it_answers(engine: Engine) -> None:
    statuses = [post(engine, model="echo+status=503+fails=2").status for _ in range(4)]
    assert statuses == [503, 503, 200, 200]


def test_a_sequence_plays_in_order_and_its_last_stays(engine: Engine) -> None:
    model = "echo+seq=503,reset,ok"
    answers = [post(engine, model=model) for _ in range(4)]
    assert [(answer.status, broken(answer)) for answer in answers] == [
        (503, None),
        (200, "reset"),
        (200, None),
        (200, None),
    ]
    engine.reset()
    assert post(engine, model=model).status == 503


@pytest.mark.parametrize("per", ["user", "text", "key"])
def test_counts_can_be_kept_apart(engine: Engine, per: str) -> None:
    def status(who: str) -> int:
        messages = [{"role": "user", "content": who}]
        headers = {"authorization": who}
        return post(
            engine, headers=headers, model=f"echo+status=500+fails=1+per={per}", user=who, messages=messages
        ).status

    assert [status("a"), status("b"), status("a"), status("b")] == [500, 500, 200, 200]


def test_random_faults_keep_their_rate_and_repeat_with_their_seed() -> None:
    def hurts(seed: int) -> list[str]:
        engine = Engine(lambda: 0.0)
        model = f"echo+rate=0.3+pick=503,reset+seed={seed}"
        return [str(broken(answer) or answer.status) for answer in (post(engine, model=model) for _ in range(600))]

    first = hurts(1)
    assert first == hurts(1) != hurts(2)
    assert 0.24 < 1 - first.count("200") / 600 < 0.36
    assert set(first) == {"200", "503", "reset"}


LOOKS_RIGHT = {
    (False, "json-for-stream"),
    (False, "cut-clean"),
    (False, "malformed"),
    (False, "json-invalid"),
    (True, "malformed"),
}
"""Whole in form, wrong in content: JSON that is none, an event that is none (and the first asks for no stream)."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_no_fault_looks_like_a_finished_answer(engine: Engine, fault: str, *, stream: bool) -> None:
    """Each breaks off, has another form, or says less than everything."""
    good = post(engine, model="echo", stream=stream)
    hurt = post(engine, model=f"echo+fault={fault}", stream=stream)
    data = data_of(hurt)
    ends = data.endswith(b"data: [DONE]\n\n") if stream else hurt.length == len(data)
    same = (
        hurt.headers.get("content-type") == good.headers["content-type"]
        and ends
        and b"one" in data
        and not broken(hurt)
    )
    assert same == ((stream, fault) in LOOKS_RIGHT)


@pytest.mark.parametrize("fault", ["json-invalid", "cut-clean", "malformed"])
def test_broken_json_does_not_decode(engine: Engine, fault: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        json_of(post(engine, model=f"echo+fault={fault}"))
    if fault == "malformed":
        with pytest.raises(msgspec.DecodeError):
            chunks_of(post(engine, model="echo+fault=malformed", stream=True))


def test_at_says_how_much_comes_before_the_fault(engine: Engine) -> None:
    for kept in range(4):
        scripted = post(engine, model=f"long=9+fault=cut+at={kept}", stream=True)
        assert data_of(scripted).count(b'"content":"word') == kept


def test_an_error_event_ends_a_stream(engine: Engine) -> None:
    last = data_of(post(engine, model="echo+fault=error-mid", stream=True)).split(b"\n\n")[-2]
    assert msgspec.json.decode(last.removeprefix(b"data: "))["error"].keys() == {"message", "type", "param", "code"}


def raw(engine: Engine, dialect: str, **body: Any) -> bytes:
    return data_of(
        post(engine, model=f"tools+sse={dialect}" if "tools" in body else f"echo+sse={dialect}", stream=True, **body)
    )


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("dialect", "body", "mark"),
    [
        ("crlf", {}, b"}\r\n\r\n"), ("cr", {}, b"}\r\rdata"), ("no-space", {}, b"data:{"), ("bom", {}, b"\xef\xbb\xbfdata"),
        ("comments", {}, b": ping\n\ndata"), ("ids", {}, b"id: 0\ndata"), ("retry", {}, b"retry: 1000\n"),
        ("event", {}, b"event: message\n"), ("ping-event", {}, b"event: ping\n\n"), ("empty-data", {}, b"data:\n\n"),
        ("multiline", {}, b'data: {\ndata:  "id"'), ("done-space", {}, b"data: [DONE] \n\n"), ("error-null", {}, b'"error":null'),
        ("tool-calls-null", {}, b'"tool_calls":null'), ("delta-null", {}, b'"delta":null'), ("obfuscation", {}, b'"obfuscation"'),
        ("choices-null", USAGE, b'"choices":null'), ("usage-always", {}, b'"choices":[],"usage":{"'),
        ("usage-content", {}, b'"finish_reason":"stop"}],"usage":{"'), ("usage-each", {}, b'"one "},"logprobs":null,"finish_reason":null}],"usage":{"'),
        ("tool-index-1", {"tools": TOOLS}, b'"tool_calls":[{"index":1'), ("tool-stop", {"tools": TOOLS}, b'"finish_reason":"stop"'),
        ("role-each", {}, b'{"content":"one ","role":"assistant"}'), ("usage-no-choices", USAGE, b'"default","object":"chat.completion.chunk","usage":{'),
    ],
)  # fmt: skip
def test_a_dialect_shows(engine: Engine, dialect: str, body: dict[str, Any], mark: bytes) -> None:
    assert mark in raw(engine, dialect, **body)
    assert mark not in raw(engine, "usage-none", **body)


@pytest.mark.parametrize(
    ("dialect", "body", "absent"),
    [
        ("no-done", {}, b"[DONE]"), ("no-finish", {}, b'"stop"'), ("no-role", {}, b'"role"'), ("no-index", {}, b'"index"'),
        ("no-created", {}, b'"created"'), ("no-object", {}, b'"object"'), ("no-id", {}, b'"id"'),
        ("usage-none", USAGE, b'"usage":{'), ("tool-no-index", {"tools": TOOLS}, b'[{"index":0,"id"'),
        ("tool-no-id", {"tools": TOOLS}, b"call_fake"),
    ],
)  # fmt: skip
def test_a_dialect_leaves_out(engine: Engine, dialect: str, body: dict[str, Any], absent: bytes) -> None:
    assert absent not in raw(engine, dialect, **body)
    assert absent in raw(engine, "event", **body)


def test_the_last_event_can_lack_its_blank_line(engine: Engine) -> None:
    assert raw(engine, "last-no-blank").endswith(b"data: [DONE]")


@pytest.mark.parametrize(
    ("dialect", "mark"), [("error-text", b'{"error":"'), ("error-event", b'event: error\ndata: {"message"')]
)
def test_an_error_event_has_its_dialects(engine: Engine, dialect: str, mark: bytes) -> None:
    assert mark in data_of(post(engine, model=f"echo+fault=error-mid+sse={dialect}", stream=True))


def test_every_dialect_can_be_combined(engine: Engine) -> None:
    assert data_of(post(engine, model="echo+sse=" + ",".join(sorted(DIALECTS - {"no-role"})), stream=True))


def floats(entry: Any) -> list[float]:
    value = entry["embedding"]
    return (
        list(struct.unpack(f"<{len(base64.b64decode(value)) // 4}f", base64.b64decode(value)))
        if isinstance(value, str)
        else value
    )


def test_embeddings_are_unit_vectors_of_the_text_alone(engine: Engine) -> None:
    def vectors(given: Any, **more: Any) -> list[list[float]]:
        return [
            floats(entry)
            for entry in json_of(post(engine, "/v1/embeddings", model="echo", input=given, **more))["data"]
        ]

    (one,) = vectors("a text", dimensions=64)
    assert vectors(["b", "a text"], dimensions=64)[1] == one
    assert math.isclose(sum(value * value for value in one), 1.0, rel_tol=1e-9)
    assert vectors("a text", dimensions=64, encoding_format="base64")[0] == pytest.approx(one, rel=1e-6)
    assert abs(sum(a * b for a, b in zip(one, vectors("another", dimensions=64)[0], strict=True))) < 0.6
    assert len(vectors("a text")[0]) == 1536
    assert vectors([1, 2], dimensions=8) == vectors([[1, 2]], dimensions=8) != vectors([[2, 1]], dimensions=8)


@pytest.mark.parametrize("given", ["", [], [""], [[]], None, 3, ["x"] * 2049])
def test_bad_embedding_inputs_are_refused(engine: Engine, given: object) -> None:
    answer = post(engine, "/v1/embeddings", model="echo", input=given)
    assert (answer.status, json_of(answer)["error"]["param"]) == (400, "input")


def test_completions_answer_each_prompt(engine: Engine) -> None:
    answer = json_of(post(engine, "/v1/completions", model="echo", prompt=["a b", "c"], n=2, echo=True, logprobs=1))
    assert answer["object"] == "text_completion"
    assert [choice["text"] for choice in answer["choices"]] == ["a ba b", "a ba b #1", "cc", "cc #1"]
    chunks = chunks_of(post(engine, "/v1/completions", model="echo", prompt="a b", stream=True))
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "a b"
    for tokens in ([1, 2], [[1, 2], [3]]):
        assert post(engine, "/v1/completions", model="echo", prompt=tokens).status == 200


def test_moderations_flag_what_names_a_category(engine: Engine) -> None:
    results = json_of(post(engine, "/v1/moderations", model="echo", input=["fine", "self-harm/intent"]))["results"]
    assert [result["flagged"] for result in results] == [False, True]
    assert results[1]["categories"]["self-harm/intent"]


def events_of(scripted: Scripted) -> list[Any]:
    events = []
    for frame in data_of(scripted).decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_responses_streams_its_full_sequence(engine: Engine) -> None:
    events = events_of(post(engine, "/v1/responses", model="echo", input="one two", stream=True))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    whole = json_of(post(engine, "/v1/responses", model="echo", input="one two"))
    assert events[-1]["response"].keys() == whole.keys()
    assert whole["output"][0]["content"][0]["text"] == "one two"
    assert (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"]) == (2, 2)


def test_responses_calls_a_tool_and_goes_on_after_its_output(engine: Engine) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": WEATHER}]
    first = json_of(post(engine, "/v1/responses", model="tools", input="rain?", tools=tools))
    call = first["output"][0]
    assert (call["type"], call["name"]) == ("function_call", "weather")
    assert first["tools"][0]["strict"] is None
    events = events_of(post(engine, "/v1/responses", model="tools", input="rain?", tools=tools, stream=True))
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta")
    assert deltas == call["arguments"]
    history = [
        {"role": "user", "content": "rain?"},
        call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "wet"},
    ]
    after = json_of(post(engine, "/v1/responses", model="tools", input=history, tools=tools))
    assert after["output"][0]["content"][0]["text"] == "The tool said: wet"


def test_responses_honours_a_schema_and_a_limit(engine: Engine) -> None:
    text = {"format": {"type": "json_schema", "name": "w", "schema": WEATHER}}
    answer = json_of(post(engine, "/v1/responses", model="echo", input="x", text=text))
    assert msgspec.json.decode(answer["output"][0]["content"][0]["text"]) == {"city": "city", "days": 2}
    cut = json_of(post(engine, "/v1/responses", model="echo", input="a b c", max_output_tokens=2))
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (
        events_of(post(engine, "/v1/responses", model="echo", input="a b c", max_output_tokens=2, stream=True))[-1][
            "type"
        ]
        == "response.incomplete"
    )


def test_a_fault_in_a_response_stream_is_its_error_event(engine: Engine) -> None:
    last = events_of(post(engine, "/v1/responses", model="echo+fault=error-mid", input="a b c d", stream=True))[-1]
    assert last.keys() == {"type", "code", "message", "param", "sequence_number"}


def test_state_is_refused_by_name(engine: Engine) -> None:
    answer = post(engine, "/v1/responses", model="echo", input="x", previous_response_id="resp_1")
    assert (answer.status, json_of(answer)["error"]["param"]) == (400, "previous_response_id")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", CHAT, b"{", 400), ("POST", CHAT, b"[]", 400), ("POST", CHAT, b'{"messages":[]}', 400),
        ("POST", CHAT, b'{"model":"echo"}', 400), ("POST", CHAT, b'{"model":"echo","messages":[1]}', 400),
        ("POST", CHAT, b'{"model":"echo","messages":[{"role":"user"}],"tools":[3]}', 400),
        ("POST", CHAT, b'{"model":"echo","messages":[{"role":"user"}],"n":0}', 400),
        ("POST", "/v1/nothing", b"{}", 404), ("GET", CHAT, b"", 405), ("GET", "/v1/models", b"", 200),
        ("GET", "/v1/models/a%2Fb:c", b"", 200),
    ],
)  # fmt: skip
def test_bad_requests_get_openais_errors(engine: Engine, method: str, path: str, body: bytes, status: int) -> None:
    answer = engine.answer(method, path, {}, body)
    assert answer.status == status
    assert answer.headers["x-request-id"].startswith("req_fake_")
    if status != 200:
        assert json_of(answer)["error"].keys() == {"message", "type", "param", "code"}


def test_azures_path_names_the_model(engine: Engine) -> None:
    answer = post(engine, "/openai/deployments/fixed/chat/completions?api-version=1", messages=HELLO)
    assert json_of(answer)["model"] == "fixed"
