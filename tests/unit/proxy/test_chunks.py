"""The dialects of real providers (WIRE §1.4): what goes in, and the stream that every client can read."""

import contextlib
import json
from typing import Any

import pytest

from proxy.chunk_shapes import ChatShape, TextShape
from proxy.chunks import ChunkReader, StreamFault

Json = dict[str, Any]
FIRST = {"role": "assistant", "content": ""}


def chunk(delta: Json | None = None, finish: str | None = None, index: int = 0, **members: Any) -> Json:
    choice = {"index": index, "delta": delta if delta is not None else {}, "finish_reason": finish}
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}
    return {**whole, **members}


def encode(event: Json | str) -> bytes:
    return event.encode() if isinstance(event, str) else json.dumps(event, separators=(",", ":")).encode()


def relay(*events: Json | str, asked: bool = False) -> list[Any]:
    """What the client gets: decoded chunks, and the strings that are none."""
    reader = ChunkReader(ChatShape(), asked=asked, id="ours", model="upstream")
    items = [item for event in events for item in reader.take(b"", encode(event))]
    items += reader.end()
    datas = [item.removeprefix(b"data: ").removesuffix(b"\n\n") for item in items]
    return [data.decode() if data == b"[DONE]" else json.loads(data) for data in datas]


def deltas(sent: list[Any]) -> list[Json]:
    return [each["choices"][0]["delta"] for each in sent if isinstance(each, dict) and each["choices"]]


GOOD = [chunk(FIRST), chunk({"content": "Hel"}), chunk({"content": "lo"}), chunk({}, "stop")]


def test_a_stream_as_openai_sends_it_passes_byte_for_byte() -> None:
    """Not a byte of a good event changes."""
    reader = ChunkReader(ChatShape(), asked=False, id="x", model="m")
    for event in GOOD:
        assert reader.take(b"", encode(event)) == [b"data: " + encode(event) + b"\n\n"]
    assert reader.take(b"", b"[DONE]") == [b"data: [DONE]\n\n"]


def test_content_is_in_hand_with_the_first_content_and_not_before() -> None:
    """A role and an empty text are no content."""
    reader = ChunkReader(ChatShape(), asked=False, id="x", model="m")
    for event, committed in ((chunk(FIRST), False), (chunk({"content": ""}), False), (chunk({"content": "a"}), True)):
        reader.take(b"", encode(event))
        assert reader.committed is committed


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"refusal": "no"},
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"audio": {"id": "a"}},
        {"function_call": {"name": "f"}},
        {"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_everything_a_client_would_show_is_content(delta: Json) -> None:
    """Text, refusal, reasoning, audio, calls."""
    reader = ChunkReader(ChatShape(), asked=False, id="x", model="m")
    reader.take(b"", encode(chunk({"role": "assistant", **delta})))
    assert reader.committed


def test_a_finish_reason_is_content() -> None:
    """An answer may be empty."""
    assert relay(chunk({"role": "assistant"}, "stop"))[-1] == "[DONE]"


def test_the_role_stands_in_the_first_delta_of_each_choice_and_there_only_if_it_was() -> None:
    """Missing everywhere: put in once. Null: taken out."""
    sent = relay(chunk({"content": "a"}), chunk({"role": None, "content": "b"}), chunk({}, "stop"))
    assert deltas(sent) == [{"role": "assistant", "content": "a"}, {"content": "b"}, {}]
    two = relay(
        chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk({}, "stop"), chunk({}, "stop", index=1)
    )
    assert [delta.get("role") for delta in deltas(two)] == ["assistant", "assistant", None, None]


def test_every_chunk_has_the_same_identity() -> None:
    """Missing, empty and changing ids, times, models and objects become the first ones."""
    bare = {"choices": [{"index": 0, "delta": {"content": "b"}}]}
    sent = relay(chunk({**FIRST, "content": "a"}), bare, chunk({}, "stop", id="c2", created=9, model="x", object="y"))
    assert {(e["id"], e["created"], e["model"], e["object"]) for e in sent[:-1]} == {
        ("c1", 7, "m", "chat.completion.chunk")
    }
    nameless = relay({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]})[0]
    assert (nameless["id"], nameless["model"], nameless["object"]) == ("ours", "upstream", "chat.completion.chunk")
    assert isinstance(nameless["created"], int)
    assert nameless["choices"][0]["index"] == 0


def test_a_null_delta_and_a_missing_index_are_put_right_and_the_finish_is_kept() -> None:
    """`delta: null` with a finish reason loses nothing."""
    sent = relay(*GOOD[:3], {**chunk(), "choices": [{"delta": None, "finish_reason": "length"}]})
    assert sent[3]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}


def test_nulls_that_break_clients_are_taken_out() -> None:
    """`error: null` and `tool_calls: null`."""
    sent = relay(chunk({**FIRST, "content": "a", "tool_calls": None}, error=None), chunk({}, "stop"))
    assert "error" not in sent[0]
    assert "tool_calls" not in sent[0]["choices"][0]["delta"]


def test_tool_calls_are_numbered_from_0_and_named_once() -> None:
    """No index, no id, an id in every delta, counting from 1: all become OpenAI's form; arguments stay whole."""
    expected = [
        {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    named: Json = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    piece: Json = {"function": {"arguments": ":1}"}}
    for first, second in (
        ({"index": 0, **named}, {"index": 0, **piece}),
        (named, piece),
        ({"index": 1, **named}, {"index": 1, **piece}),
        (
            {"index": 0, **named},
            {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ":1}"}},
        ),
        ({"index": 0, **named}, {"index": 0, "id": "", **piece}),
    ):
        sent = relay(
            chunk({"role": "assistant", "tool_calls": [first]}),
            chunk({"tool_calls": [second]}),
            chunk({}, "tool_calls"),
        )
        assert [delta["tool_calls"][0] for delta in deltas(sent)[:2]] == expected


def test_two_calls_at_one_index_are_two_calls() -> None:
    """Another id is another call, whatever the index says."""
    calls = [{"index": 0, "id": name, "function": {"name": "f", "arguments": "{}"}} for name in ("a", "b")]
    sent = relay(
        chunk({"role": "assistant", "tool_calls": [calls[0]]}), chunk({"tool_calls": [calls[1]]}), chunk({}, "stop")
    )
    assert [delta["tool_calls"][0]["index"] for delta in deltas(sent)[:2]] == [0, 1]


def test_a_tool_call_without_id_gets_one_and_arguments_are_text() -> None:
    """An object in `arguments` breaks LangChain and Vercel."""
    call = {"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}
    sent = relay(chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "stop"))
    made = deltas(sent)[0]["tool_calls"][0]
    assert made["id"]
    assert made["function"]["arguments"] == '{"a":1}'


def test_a_stream_that_called_tools_finishes_with_tool_calls() -> None:
    """`stop` would end an agent's loop."""
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = relay(chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "stop"))
    assert sent[1]["choices"][0]["finish_reason"] == "tool_calls"


def test_each_choice_finishes_exactly_once() -> None:
    """A second finish reason is taken out; an empty one is null; one that is missing before [DONE] is put in."""
    again = relay(*GOOD, chunk({}, "stop"), "[DONE]")
    assert [each["choices"][0]["finish_reason"] for each in again[:-1]].count("stop") == 1
    empty = relay(chunk({**FIRST, "content": "a"}, ""), chunk({}, "stop"))
    assert empty[0]["choices"][0]["finish_reason"] is None
    missing = relay(*GOOD[:3], "[DONE]")
    assert missing[-2]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize(
    "events",
    [
        [*GOOD, chunk(choices=[], usage=USAGE)],
        [*GOOD[:3], chunk({}, "stop", usage=USAGE)],
        [*(chunk(each["choices"][0]["delta"], each["choices"][0]["finish_reason"], usage=USAGE) for each in GOOD)],
        [*GOOD, chunk(choices=None, usage=USAGE)],
        [*GOOD, {key: value for key, value in chunk(usage=USAGE).items() if key != "choices"}],
    ],
    ids=["extra chunk", "with the finish", "on each", "choices null", "no choices"],
)
def test_usage_comes_once_and_last_for_who_asked_and_never_for_who_did_not(events: list[Json]) -> None:
    """Wherever the provider puts it."""
    asked = relay(*events, "[DONE]", asked=True)
    assert [each for each in asked[:-1] if each.get("usage")] == [asked[-2]]
    assert (asked[-2]["choices"], asked[-2]["usage"]) == ([], USAGE)
    silent = relay(*events, "[DONE]")
    assert all("usage" not in each and each["choices"] for each in silent[:-1])
    assert len(silent) == 5


def test_a_null_usage_is_taken_out_bytewise_for_who_did_not_ask() -> None:
    """The rest of the event keeps its bytes; for who asked, the null stays as OpenAI sends it."""
    event = encode(chunk({**FIRST, "content": "a"}))[:-1] + b',"usage":null}'
    silent = ChunkReader(ChatShape(), asked=False, id="x", model="m").take(b"", event)
    assert silent == [b"data: " + encode(chunk({**FIRST, "content": "a"})) + b"\n\n"]
    asked = ChunkReader(ChatShape(), asked=True, id="x", model="m").take(b"", event)
    assert asked == [b"data: " + event + b"\n\n"]


def test_the_usage_is_known_whoever_asked() -> None:
    """For the record."""
    reader = ChunkReader(ChatShape(), asked=False, id="x", model="m")
    for event in [*GOOD, chunk(choices=[], usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 1}})]:
        reader.take(b"", encode(event))
    assert reader.usage is not None
    assert (reader.usage.prompt, reader.usage.completion, reader.usage.cached) == (3, 2, 1)


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (GOOD[:3], "cut"),
        ([chunk(FIRST), chunk({"content": "a"}, index=1), chunk({}, "stop", index=1)], "cut"),
        ([], "empty"),
        (["[DONE]"], "empty"),
        ([*GOOD[:2], '{"id": "c1", "choices"'], "malformed"),
        ([*GOOD[:2], "[1]"], "malformed"),
        ([*GOOD[:2], '{"error": {"message": "overloaded"}}'], "error_event"),
        ([*GOOD[:2], '{"error": "overloaded"}'], "error_event"),
        ([chunk({"content": "a"}, error={"message": "x"})], "error_event"),
    ],
    ids=[
        "no finish",
        "one of two unfinished",
        "nothing",
        "only done",
        "broken json",
        "no object",
        "error",
        "error text",
        "error member",
    ],
)
def test_a_stream_that_is_not_whole_is_a_fault(events: list[Any], kind: str) -> None:
    """Never a clean end."""
    with pytest.raises(StreamFault) as caught:
        relay(*events)
    assert caught.value.kind == kind


def test_an_event_named_error_is_a_fault_without_an_error_member() -> None:
    """`event: error` with any data."""
    reader = ChunkReader(ChatShape(), asked=False, id="x", model="m")
    with pytest.raises(StreamFault) as caught:
        reader.take(b"error", b'{"message": "gone"}')
    assert caught.value.message == "gone"


def test_a_finished_stream_without_done_gets_one() -> None:
    """With a finish reason the answer is whole."""
    assert relay(*GOOD)[-1] == "[DONE]"


def test_legacy_completions_have_their_own_form() -> None:
    """`text_completion` in every chunk."""
    reader = ChunkReader(TextShape(), asked=False, id="x", model="m")
    choice = {"index": 0, "text": "a", "finish_reason": None}
    event = {"id": "c", "object": "text_completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    item = json.loads(reader.take(b"", encode(event))[0].removeprefix(b"data: "))
    assert item["object"] == "text_completion"
    assert reader.committed


@pytest.mark.parametrize(
    "event",
    [
        '{"choices":true}',
        '{"choices":[{"index":true,"delta":{"content":1e999}}],"created":true}',
        '{"choices":[{"delta":{"content":"a","tool_calls":[{"index":{}}]}}],"x":1e999}',
        '{"a":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_no_event_is_odd_enough_to_be_our_bug(event: str) -> None:
    """It is repaired, or the stream is at fault."""
    with contextlib.suppress(StreamFault):
        ChunkReader(ChatShape(), asked=False, id="x", model="m").take(b"", event.encode())
