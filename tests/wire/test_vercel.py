"""Vercel's AI SDK works through the gateway by each of its three doors."""

import struct

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"
DOORS = ["responses", "chat", "compatible"]


@pytest.fixture(scope="module")
def facts(client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(environments.make("node").run_node(environments.CLIENTS / "vercel.mjs", client_env))


@pytest.mark.parametrize("door", DOORS)
def test_text_is_generated(facts: Facts, door: str) -> None:
    """`generateText` has text, finish and usage."""
    told = facts(f"{door}_generate")
    assert (told["text"], told["finishReason"]) == (GREETING, "stop")
    assert told["tokens"] > 0


@pytest.mark.parametrize("door", DOORS)
def test_text_is_streamed(facts: Facts, door: str) -> None:
    """`streamText` ends with a finish and usage, and without an error part."""
    told = facts(f"{door}_stream")
    assert (told["text"], told["finishReason"], told["errors"]) == (GREETING, "stop", [])
    assert told["tokens"] > 0


@pytest.mark.parametrize("kind", ["tools", "stream_tools"])
@pytest.mark.parametrize("door", DOORS)
def test_a_tool_loop_takes_two_steps(facts: Facts, door: str, kind: str) -> None:
    """The call's arguments fit, the result is sent back, the second answer ends the loop."""
    told = facts(f"{door}_{kind}")
    assert told["seen"] == [{"city": "東京"}]
    assert told["steps"] == 2
    assert "22 °C" in told["text"]


@pytest.mark.parametrize("door", DOORS)
def test_an_object_satisfies_its_schema(facts: Facts, door: str) -> None:
    """Structured output parses."""
    assert set(facts(f"{door}_object")) == {"name", "age"}


@pytest.mark.parametrize("door", DOORS)
def test_an_error_is_read(facts: Facts, door: str) -> None:
    """Status and code reach the caller, and a 404 is not tried again."""
    told = facts(f"{door}_error")
    assert told == {"name": "AI_APICallError", "status": 404, "retryable": False, "code": "model_not_found"}


@pytest.mark.parametrize("door", DOORS)
def test_a_broken_stream_reports_an_error(facts: Facts, door: str) -> None:
    """What came is read, and the error handler is told."""
    told = facts(f"{door}_cut")
    assert told["text"]
    assert told["text"] != GREETING
    assert told["errors"] == 1


def test_embeddings_are_read(facts: Facts) -> None:
    """One and many values, by two providers, are the same vectors."""
    told = facts("embeddings")
    assert struct.pack("<64f", *told["one"]) == struct.pack("<64f", *told["many"][0])
    assert len(told["many"]) == 2
    assert told["tokens"] > 0
