"""The official Python SDK, 2.x and 3.x, talks through the gateway as it talks to OpenAI."""

import struct
from base64 import b64decode
from typing import Any

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"
LONG = " ".join(f"word{index}" for index in range(200))
PERSON = {"name": "name", "age": 1, "tags": ["tags"]}


@pytest.fixture(scope="module", params=["openai2", "openai3"])
def facts(request: pytest.FixtureRequest, client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(environments.make(request.param).run_python("-m", "openai_sdk", env=client_env))


def test_a_chat_answer_arrives_whole(facts: Facts) -> None:
    """Text, roles, usage and ids come as the API promises them, and the request's id is exposed by the SDK."""
    answer = facts("chat")
    assert answer["choices"][0]["message"]["content"] == GREETING
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"] > 0
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


REFUSED = {
    "400": ("BadRequestError", 400, "invalid_request_error", "context_length_exceeded", "messages"),
    "400 unsupported": ("BadRequestError", 400, "invalid_request_error", "unsupported_parameter", "messages"),
    "401": ("InternalServerError", 502, "upstream_error", "upstream_auth_failed", None),
    "404": ("NotFoundError", 404, "invalid_request_error", "model_not_found", "model"),
    "422": ("UnprocessableEntityError", 422, "invalid_request_error", None, None),
    "429": ("RateLimitError", 429, "requests", "upstream_rate_limited", None),
    "429 quota": ("RateLimitError", 429, "requests", "upstream_rate_limited", None),
    "500": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "503": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with an error": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with HTML": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "200 with broken JSON": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
    "reset": ("InternalServerError", 502, "upstream_error", "upstream_unavailable", None),
}


@pytest.mark.parametrize("section", ["errors", "errors_of_streams"])
@pytest.mark.parametrize("case", REFUSED)
def test_an_error_is_raised_as_its_class(facts: Facts, section: str, case: str) -> None:
    """Before the first content every failure is a status, a class and four members, streamed calls included."""
    raised = facts(section)[case]
    assert isinstance(raised, dict), raised
    told = (raised["class"], raised["status"], raised["type"], raised["code"], raised["param"])
    assert told == REFUSED[case]
    assert raised["body"]["message"]
    assert set(raised["body"]) == {"message", "type", "param", "code"}
    assert raised["request_id"] == raised["headers"]["x-request-id"]


def test_an_upstream_limit_says_when_to_come_back(facts: Facts) -> None:
    """The upstream's wait is passed on."""
    assert facts("errors")["429"]["headers"]["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["cut", "cut-reset", "cut-clean", "malformed", "error-mid"])
def test_a_broken_stream_never_ends_cleanly(facts: Facts, fault: str) -> None:
    """What came is read, then the SDK raises: a cut answer does not look finished."""
    told = facts("broken_streams")[fault]
    assert told["text"], "content before the fault arrives"
    assert told["text"] != GREETING
    assert told["raised"]["class"] == "APIError"
    assert told["raised"]["type"] == "upstream_error"
    assert told["raised"]["code"] == "upstream_interrupted"


def test_a_client_timeout_is_the_clients_own(facts: Facts) -> None:
    """The gateway does not answer in place of a slow upstream before the client gives up."""
    assert facts("timeout") == "APITimeoutError"


def test_the_gateways_own_refusals_have_the_shape(facts: Facts) -> None:
    """Missing and wrong members are named; an unknown path is a 404 with all four members."""
    told = facts("bad_requests")
    assert (told["no model"]["class"], told["no model"]["param"]) == ("BadRequestError", "model")
    assert (told["model is a number"]["class"], told["model is a number"]["param"]) == ("BadRequestError", "model")
    assert told["unknown path"]["class"] == "NotFoundError"
    assert all(set(each["body"]) == {"message", "type", "param", "code"} for each in told.values())


def _float32(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_embeddings_are_exact(facts: Facts) -> None:
    """Base64 (the SDK's default), floats and the upstream's own answer are the same float32, in the input's order."""
    told: dict[str, Any] = facts("embeddings")
    vectors = [[_float32(each) for each in told[kind]] for kind in ("default", "floats", "direct")]
    assert vectors[0] == vectors[1] == vectors[2]
    assert len({*vectors[0]}) == 3
    assert told["indexes"] == [0, 1, 2]
    assert told["usage"]["total_tokens"] == 3
    assert told["request_id"]


def test_base64_crosses_untouched(facts: Facts) -> None:
    """Asked for base64, the client gets the upstream's text, four bytes a dimension."""
    told = facts("embeddings_base64")
    assert told["through"] == told["direct"]
    assert told["bytes"] == [256] * 3
    assert all(b64decode(each, validate=True) for each in told["through"])


def test_token_arrays_and_dimensions_pass(facts: Facts) -> None:
    """One list of tokens is one text; lists of lists are several; `dimensions` is obeyed."""
    assert facts("embeddings_tokens") == {"one": 1, "two": [8, 8]}
    assert facts("embeddings_async") == 64


def test_models_are_listed_and_found(facts: Facts) -> None:
    """Every route with a plain name is in the list; one is found by its name, slashes included."""
    told = facts("models")
    listed = {model["id"]: model for model in told["listed"]}
    assert {"gpt-4o", "tools", "text-embedding-3-small"} <= set(listed)
    assert told["one"] == listed["gpt-4o"]
    assert told["one"]["object"] == "model"
    assert isinstance(told["one"]["created"], int)
    assert facts("model_with_slash")["id"] == "fake/echo"


def test_legacy_completions_work(facts: Facts) -> None:
    """Whole and streamed, all objects are `text_completion`."""
    told = facts("completions")
    assert told["text"] == told["streamed"] == "Once upon a time"
    assert told["object"] == "text_completion"
    assert told["stream_objects"] == ["text_completion"]
    assert told["stream_finishes"] == ["stop"]


def test_moderations_pass_through(facts: Facts) -> None:
    """Categories keep names that have a slash."""
    told = facts("moderations")
    assert told["flagged"] is False
    assert "harassment/threatening" in told["categories"]


def test_responses_answer(facts: Facts) -> None:
    """The Responses API: text, status and usage under its own names."""
    told = facts("responses")
    assert (told["object"], told["status"], told["text"]) == ("response", "completed", "Grüße")
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"] + told["usage"]["output_tokens"]
    assert told["request_id"]


def test_responses_stream_in_order(facts: Facts) -> None:
    """Events are numbered without a gap, from `created` to `completed`."""
    told = facts("responses_stream")
    assert told["kinds"][0] == "response.created"
    assert told["kinds"][-1] == "response.completed"
    assert told["numbers"] == list(range(len(told["numbers"])))
    assert told["text"] == "Grüße aus der Ferne"
    assert facts("responses_helper") == "Grüße"


def test_responses_parse_and_call_tools(facts: Facts) -> None:
    """`text.format` and function tools reach the upstream; a tool's result is told back."""
    assert facts("responses_parse") == PERSON
    told = facts("responses_tools")
    assert (told["name"], told["arguments"]) == ("get_weather", {"city": "東京"})
    assert "22 °C" in told["answer"]


def test_responses_that_need_state_are_refused_by_name(facts: Facts) -> None:
    """Stored objects have no owner here: `previous_response_id` is a 400 that names the member."""
    told = facts("responses_stateful")
    assert told["param"] == "previous_response_id"
    assert told["type"] == "invalid_request_error"
