"""The official Python SDK, 2.x and 3.x: embeddings, models, completions, moderations and responses as from OpenAI."""

import struct
from base64 import b64decode
from typing import Any

import environments
import pytest
from reports import Facts, read_report

PERSON = {"name": "name", "age": 1, "tags": ["tags"]}


@pytest.fixture(scope="module", params=["openai2", "openai3"])
def facts(request: pytest.FixtureRequest, client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(
        environments.make(request.param).run_python("-m", "openai_sdk", "others", "responses", env=client_env)
    )


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
