"""The official Python SDK, 2.x and 3.x: chat, streams and tools as from OpenAI."""

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"
LONG = " ".join(f"word{index}" for index in range(200))
PERSON = {"name": "name", "age": 1, "tags": ["tags"]}


@pytest.fixture(scope="module", params=["openai2", "openai3"])
def facts(request: pytest.FixtureRequest, client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(
        environments.make(request.param).run_python("-m", "openai_sdk", "chat", "streams", "tools", env=client_env)
    )


def test_a_chat_answer_arrives_whole(facts: Facts) -> None:
    """Text, roles, usage and ids come as the API promises them, and the request's id is exposed by the SDK."""
    answer = facts("chat")
    assert answer["choices"][0]["message"]["content"] == GREETING
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["object"] == "chat.completion"
    assert (
        answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"] > 0
    )
    assert answer["request_id"]
    assert not answer["unknown"], "the gateway's own facts never enter the answer"


def test_choices_are_numbered(facts: Facts) -> None:
    """`n` asks for several choices and gets them in order."""
    assert facts("chat_n") == [0, 1, 2]


def test_the_request_id_is_a_header(facts: Facts) -> None:
    """Raw responses carry `x-request-id` and JSON's content type."""
    raw = facts("chat_raw")
    assert raw["request_id"] == raw["headers"]["x-request-id"]
    assert raw["headers"]["content-type"].startswith("application/json")
    assert raw["text"] == GREETING


def test_the_async_client_gets_the_same(facts: Facts) -> None:
    """Sync and async clients read the same answer."""
    assert facts("chat_async") == GREETING


@pytest.mark.parametrize("section", ["parse", "parse_async"])
def test_structured_outputs_parse(facts: Facts, section: str) -> None:
    """A `parse` call sends its schema and gets an object that satisfies it."""
    assert facts(section) == {"person": PERSON, "refusal": None}


def test_a_refusal_stays_a_refusal(facts: Facts) -> None:
    """A refused structured answer has no object and a reason."""
    told = facts("parse_refusal")
    assert told["person"] is None
    assert told["refusal"]


@pytest.mark.parametrize("section", ["stream", "stream_async"])
def test_a_stream_tells_the_text_once(facts: Facts, section: str) -> None:
    """All text, one role, one finish, one identity for all chunks, and no usage that nobody asked for."""
    told = facts(section)
    assert told["text"] == LONG
    assert told["roles"] == ["assistant"]
    assert told["finishes"] == ["stop"]
    assert len(told["ids"]) == 1
    assert told["ids"][0][3] == "chat.completion.chunk"
    assert told["chunks"] > 100
    assert told["without_choices"] == []
    assert told["usage_members"] == 0


def test_usage_comes_last_when_asked_for(facts: Facts) -> None:
    """With `include_usage` one extra chunk without choices closes the stream."""
    told = facts("stream_usage")
    assert told["text"] == LONG
    assert told["without_choices"] == [told["chunks"] - 1]
    assert [usage["completion_tokens"] for usage in told["usages"]] == [200]
    assert told["usage_members"] == told["chunks"], "the other chunks say null"


def test_streamed_choices_keep_apart(facts: Facts) -> None:
    """Two choices in one stream each make their own text."""
    first, second = facts("stream_n")
    assert first == GREETING
    assert second.startswith(GREETING)


def test_a_stream_is_plain_server_sent_events(facts: Facts) -> None:
    """Only `data:` lines and blank ones, `[DONE]` last, with headers that stop proxies from holding it back."""
    told = facts("stream_headers")
    lines = [line for line in told["lines"] if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert told["headers"]["content-type"] == "text/event-stream; charset=utf-8"
    assert told["headers"]["cache-control"] == "no-cache"
    assert told["headers"]["x-accel-buffering"] == "no"
    assert told["headers"]["x-request-id"]
    assert "content-encoding" not in told["headers"]


@pytest.mark.parametrize("section", ["helper", "helper_async"])
def test_the_stream_helper_ends_with_the_whole_answer(facts: Facts, section: str) -> None:
    """The SDK's own accumulator accepts every chunk."""
    told = facts(section)
    assert told["text"] == LONG
    assert told["finish"] == "stop"
    assert told["kinds"] == ["chunk", "content.delta", "content.done"]


def test_structured_outputs_parse_from_a_stream(facts: Facts) -> None:
    """The helper parses a streamed object."""
    assert facts("helper_parse") == PERSON


def test_a_connection_is_used_again(facts: Facts) -> None:
    """After a whole answer always; after a stream when the SDK waits for the body's end, as 3.x does and 2.x does not."""
    told = facts("reuse")
    ports = told["ports"]
    assert ports[1] == ports[2]
    assert ports[3] == ports[4]
    if not told["sdk"].startswith("2."):
        assert len(set(ports)) == 1


def test_a_tool_is_called_and_its_result_told_back(facts: Facts) -> None:
    """Both ways round: arguments arrive as JSON text, the history with the result is accepted."""
    told = facts("tools")
    assert told["call"]["name"] == "get_weather"
    assert told["call"]["arguments"] == {"city": "東京 “Tokyo”", "days": 3}
    assert told["call"]["type"] == "function"
    assert told["content"] is None
    assert told["finish"] == "tool_calls"
    assert "22 °C" in told["answer"]


def test_a_call_without_arguments_has_empty_json(facts: Facts) -> None:
    """No arguments are `"{}"`, a string."""
    assert facts("tools_without_arguments") == "{}"


def test_parallel_calls_stream_by_index(facts: Facts) -> None:
    """Each call's id and name come once; its pieces join to its arguments."""
    told = facts("tools_stream")
    first, second = told["parts"]
    assert (len(first["ids"]), first["names"]) == (1, ["get_weather"])
    assert (len(second["ids"]), second["names"]) == (1, ["now"])
    assert first["ids"] != second["ids"]
    assert "東京" in first["arguments"]
    assert second["arguments"] == "{}"
    assert told["finish"] == "tool_calls"


def test_tool_arguments_parse_from_a_stream(facts: Facts) -> None:
    """The helper parses streamed arguments into the tool's model."""
    assert facts("tools_helper") == {"name": "Person", "parsed": PERSON}


def test_a_forced_tool_is_the_one_called(facts: Facts) -> None:
    """`tool_choice` reaches the upstream."""
    assert facts("tools_async")["name"] == "get_weather"
