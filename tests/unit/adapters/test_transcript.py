import json
from typing import Any

import pytest

from adapters.transcript import answered, asked
from proxy.segments import Texts
from proxy.sse import DONE_ITEM, frame


def hide(text: str) -> str:
    return text.replace("secret", "[redacted]")


def chunk(delta: dict[str, Any], index: int = 0, reason: str | None = None, **members: object) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    event = {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **members}
    return frame(json.dumps(event).encode())


def streamed(*items: bytes, cut: bool = False, bodies: str = "full") -> Any:
    told = answered(Texts(bodies, answer=list(items), answer_cut=cut), hide)  # type: ignore[arg-type]
    return json.loads(told) if told else None


def test_a_stream_is_told_as_the_whole_answer_it_comes_to() -> None:
    """Text, several choices, finish reasons and usage, in OpenAI's shape."""
    usage = frame(json.dumps({"id": "c1", "choices": [], "usage": {"total_tokens": 3}}).encode())
    whole = streamed(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "other"}, index=1),
        chunk({"content": "lo"}),
        chunk({}, reason="stop"),
        usage,
        DONE_ITEM,
    )
    assert whole == {
        "id": "c1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "other"}, "finish_reason": None},
        ],
        "usage": {"total_tokens": 3},
    }


def test_calls_of_tools_are_put_together() -> None:
    """By their index; names once, arguments piece by piece."""
    first = {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a":1}'}}
    whole = streamed(chunk({"tool_calls": [first]}), chunk({"tool_calls": [more]}), chunk({}, reason="tool_calls"))
    message = whole["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    ]


def test_a_responses_stream_is_told_by_its_last_event_or_else_its_deltas() -> None:
    """Whole where it ended, the text so far where it did not."""
    delta = frame(json.dumps({"type": "response.output_text.delta", "delta": "Hi"}).encode(), b"response.x")
    done = frame(json.dumps({"type": "response.completed", "response": {"id": "r", "output": []}}).encode())
    assert streamed(delta, delta) == {"object": "response", "output_text": "HiHi"}
    assert streamed(delta, done)["output"] == []


def test_the_error_that_ended_a_stream_stands_in_what_is_told() -> None:
    """Beside what came before it."""
    whole = streamed(chunk({"content": "Hel"}), frame(b'{"error":{"message":"broke"}}'))
    assert (whole["error"], whole["choices"][0]["message"]["content"]) == ({"message": "broke"}, "Hel")


def test_a_cut_stream_is_told_as_far_as_it_goes() -> None:
    """The event in which the cut falls is left out."""
    assert streamed(chunk({"content": "Hel"}), chunk({"content": "lo"})[:30], cut=True)["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hel",
    }


def test_what_is_to_be_redacted_is_redacted_everywhere() -> None:
    """Nested strings, names of members, escapes, and words that a stream cut in two."""
    body = b'{"messages":[{"content":"a s\\u0065cret"}],"metadata":{"secret":"x"}}'
    told = asked(Texts("redacted", body), hide)
    assert json.loads(told) == {"messages": [{"content": "a [redacted]"}], "metadata": {"[redacted]": "x"}}
    assert asked(Texts("full", body), hide).count("secret") == 2
    whole = streamed(chunk({"content": "a sec"}), chunk({"content": "ret!"}), bodies="redacted")
    assert whole["choices"][0]["message"]["content"] == "a [redacted]!"


def test_what_stands_at_a_cut_is_left_out_where_it_might_be_half_a_secret() -> None:
    """Nothing would find it."""
    assert asked(Texts("redacted", b'{"content":"my secret is sec', request_cut=True), hide) == (
        '{"content":"my [redacted] is '
    )
    assert asked(Texts("full", b'{"content":"my secret is sec', request_cut=True), hide).endswith("sec")
    whole = streamed(chunk({"content": "so it is sec"}), cut=True, bodies="redacted")
    assert whole["choices"][0]["message"]["content"] == "so it is "


def test_inline_files_are_left_out() -> None:
    """An image says nothing here, and takes all the room."""
    url = "data:image/png;base64," + "A" * 5000
    told = json.loads(asked(Texts("full", json.dumps({"url": url}).encode()), hide))
    assert told == {"url": "data:image/png;base64,[5022 characters]"}


@pytest.mark.parametrize("said", [b"", b"\xff\xfe", b"not json", b"[" * 5000])
def test_what_is_no_json_is_told_as_it_is(said: bytes) -> None:
    """Nothing that a client sends or gets can stop the shipping."""
    assert isinstance(asked(Texts("redacted", said), hide), str)
    assert isinstance(answered(Texts("redacted", answer=[b"data: " + said + b"\n\n"]), hide), str)


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "items",
    [
        [chunk({"content": "secret"}), chunk({"extra": json.loads(DEEP)})],
        [frame(f'{{"type":"response.completed","response":{{"tools":{DEEP},"text":"secret"}}}}'.encode())],
        [chunk({"tool_calls": "secret"}), chunk({"tool_calls": [{"index": 0}]})],
    ],
    ids=["a deep chunk", "a deep response", "a wrong type"],
)
def test_a_stream_that_cannot_be_put_together_is_told_as_it_came_or_not_at_all(items: list[bytes]) -> None:
    """Where it is to be redacted it is not told: half a secret in each of two events is found by nothing."""
    said = b"".join(items)
    assert answered(Texts("full", answer=items), hide) == said.decode()
    assert answered(Texts("redacted", answer=items), hide) == ""


def test_deltas_after_a_response_without_text_are_told() -> None:
    response = frame(b'{"type":"response.created","response":{"output_text":null}}')
    delta = frame(b'{"type":"response.output_text.delta","delta":"hi"}')
    assert streamed(response, delta)["output_text"] == "hi"
