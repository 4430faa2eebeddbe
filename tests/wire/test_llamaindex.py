"""LlamaIndex works through the gateway in completion mode, its default, and in chat mode."""

import environments
import pytest
from reports import Facts, read_report

GREETING = "Grüße, 世界 🌍"


@pytest.fixture(scope="module")
def facts(client_env: dict[str, str]) -> Facts:
    """What one run of the client program told, section by section."""
    return read_report(environments.make("llamaindex").run_python("-m", "llamaindex", env=client_env))


@pytest.mark.parametrize("section", ["completion", "completion_async"])
def test_completion_mode_works(facts: Facts, section: str) -> None:
    """Whole and streamed, by /completions."""
    assert facts(section) == {"text": GREETING, "streamed": GREETING}


@pytest.mark.parametrize("section", ["chat", "chat_async"])
def test_chat_mode_works(facts: Facts, section: str) -> None:
    """Whole and streamed, by /chat/completions; `complete` goes the same way."""
    assert set(facts(section).values()) == {GREETING}


def test_a_tool_is_called(facts: Facts) -> None:
    """The call's arguments fit the function."""
    assert facts("tools") == {"called": ["weather"], "said": "city 1"}


def test_a_structured_answer_satisfies_its_model(facts: Facts) -> None:
    """LlamaIndex forces a tool for it."""
    assert facts("structured") == {"name": "name", "age": 1}


def test_embeddings_work(facts: Facts) -> None:
    """One by one and in batches, sync and async."""
    assert facts("embeddings") == {"size": 64, "same": True}
    assert facts("embeddings_async") == [64, 64]
