"""The official JavaScript SDK talks through the gateway as it talks to OpenAI."""

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"
LONG = " ".join(f"word{index}" for index in range(200))


@pytest.fixture(scope="module")
def facts(client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    node = environments.make("node")
    return read_report(node.run_node(environments.CLIENTS / "openai_node.mjs", client_env))


def test_the_runtime_is_the_locked_one(facts: Facts) -> None:
    """The SDK asks for Node 22 or later, whatever the machine has."""
    assert int(facts("runtime")["node"].split(".")[0]) >= 22


def test_a_chat_answer_arrives_whole(facts: Facts) -> None:
    """Text, finish, usage, and the request's id where the SDK exposes it."""
    told = facts("chat")
    assert (told["text"], told["finish"]) == (GREETING, "stop")
    assert told["usage"]["total_tokens"] > 0
    assert told["id"]


def test_a_stream_tells_the_text_once(facts: Facts) -> None:
    """All text in many chunks of one identity, one finish, and no usage that nobody asked for."""
    told = facts("stream")
    assert told["text"] == LONG
    assert told["chunks"] > 100
    assert told["ids"] == 1
    assert told["finishes"] == ["stop"]
    assert told["withoutChoices"] == 0
    assert told["usages"] == []


def test_usage_comes_when_asked_for(facts: Facts) -> None:
    """With `include_usage` one chunk has it and no choices."""
    told = facts("stream_usage")
    assert told["text"] == LONG
    assert told["withoutChoices"] == 1
    assert told["usages"] == [200]


def test_the_stream_helper_ends_with_the_whole_answer(facts: Facts) -> None:
    """The SDK's accumulator, which wants a role and a finish, accepts every chunk."""
    assert facts("helper") == {"text": LONG, "role": "assistant", "finish": "stop"}


def test_a_tool_is_called_and_its_result_told_back(facts: Facts) -> None:
    """By hand, streamed, and by the SDK's own loop."""
    told = facts("tools")
    assert (told["name"], told["arguments"]) == ("get_weather", {"city": "東京 “Tokyo”"})
    assert told["finish"] == "tool_calls"
    assert "22 °C" in told["answer"]
    assert facts("tools_stream") == {"name": "get_weather", "arguments": {"city": "東京 “Tokyo”"}}
    assert "met name" in facts("run_tools")


def test_structured_outputs_parse(facts: Facts) -> None:
    """The schema reaches the upstream and the answer satisfies it."""
    assert set(facts("parse")) == {"name", "age", "tags"}


@pytest.mark.parametrize("section", ["errors", "errors_of_streams"])
@pytest.mark.parametrize(
    ("case", "kind", "status", "code"),
    [
        ("400", "BadRequestError", 400, "context_length_exceeded"),
        ("401", "InternalServerError", 502, "upstream_auth_failed"),
        ("404", "NotFoundError", 404, "model_not_found"),
        ("422", "UnprocessableEntityError", 422, None),
        ("429", "RateLimitError", 429, "upstream_rate_limited"),
        ("500", "InternalServerError", 502, "upstream_unavailable"),
        ("html", "InternalServerError", 502, "upstream_unavailable"),
    ],
)
def test_an_error_is_raised_as_its_class(
    facts: Facts, section: str, case: str, kind: str, status: int, code: str | None
) -> None:
    """Before the first content every failure is a status, a class and four members."""
    raised = facts(section)[case]
    assert (raised["class"], raised["status"], raised["code"]) == (kind, status, code)
    assert set(raised["body"]) == {"message", "type", "param", "code"}
    assert raised["requestID"]


@pytest.mark.parametrize("fault", ["cut", "cut-reset", "cut-clean", "malformed", "error-mid"])
def test_a_broken_stream_never_ends_cleanly(facts: Facts, fault: str) -> None:
    """What came is read, then the SDK throws."""
    told = facts("broken_streams")[fault]
    assert told["text"]
    assert told["text"] != GREETING
    assert told["error"]["class"] == "APIError"
    assert told["error"]["code"] == "upstream_interrupted"


def test_embeddings_are_exact(facts: Facts) -> None:
    """Base64 (the SDK's default), floats and the upstream's own answer are the same float32."""
    told = facts("embeddings")
    assert told["default"] == told["floats"] == told["direct"]
    assert [len(each) for each in told["default"]] == [64, 64, 64]


def test_models_are_listed_and_found(facts: Facts) -> None:
    """A slash in a name, which the SDK escapes, does not hide a model."""
    told = facts("models")
    assert {"gpt-4o", "tools"} <= set(told["ids"])
    assert told["one"]["id"] == "gpt-4o"
    assert told["slash"] == "fake/echo"


def test_legacy_completions_and_moderations_work(facts: Facts) -> None:
    """Whole and streamed completions say the same."""
    assert facts("completions") == {"text": GREETING, "streamed": GREETING}
    assert facts("moderations") is False


def test_responses_answer_and_stream_in_order(facts: Facts) -> None:
    """Events are numbered without a gap, from `created` to `completed`; structured text parses."""
    told = facts("responses")
    assert told["text"] == GREETING
    assert (told["kinds"][0], told["kinds"][-1]) == ("response.created", "response.completed")
    assert told["numbers"] == list(range(len(told["numbers"])))
    assert set(told["parsed"]) == {"name", "age", "tags"}
