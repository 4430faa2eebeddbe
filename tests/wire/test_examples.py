"""Every file under `examples/` works as it stands against `lockgate serve` with no configuration and no key."""

import json
from collections.abc import Callable, Iterator, Mapping

import environments
import processes
import pytest

EXAMPLES = environments.ROOT / "examples"
SAID = "Say hello.\nCount to three.\n2 vectors of 1536\n"

Run = Callable[[Mapping[str, str]], str]


@pytest.fixture(scope="module")
def example_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What an example finds in its environment: where the gateway is, and no key."""
    with processes.default_gateway(tmp_path_factory.mktemp("default")) as server:
        yield {"OPENAI_BASE_URL": server.openai}


def _python(environment: str, example: str) -> Run:
    return lambda env: environments.make(environment).run_python(str(EXAMPLES / example / "main.py"), env=env)


def _node(example: str) -> Run:
    return lambda env: environments.make("node").run_node(EXAMPLES / example / "main.mjs", env)


RUNS = {
    "openai_python": _python("openai3", "openai_python"),
    "langchain": _python("langchain", "langchain"),
    "llamaindex": _python("llamaindex", "llamaindex"),
    "openai_js": _node("openai_js"),
    "vercel": _node("vercel"),
}


@pytest.mark.parametrize("example", RUNS)
def test_an_example_says_what_it_should(example_env: dict[str, str], example: str) -> None:
    """An answer, a stream and vectors, word for word what the stand-in provider says."""
    assert RUNS[example](example_env) == SAID


def test_the_curl_example_shows_the_wire(example_env: dict[str, str]) -> None:
    """A JSON answer, server-sent events that end with `[DONE]`, and vectors."""
    first, *events, last = environments.run(["sh", str(EXAMPLES / "curl" / "main.sh")], example_env).splitlines()
    assert json.loads(first)["choices"][0]["message"]["content"] == "Say hello."
    lines = [event.removeprefix("data: ") for event in events if event]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Count to three."
    assert len(json.loads(last)["data"]) == 2


def test_every_example_is_run() -> None:
    """A new folder needs a test; those with a configuration of their own have theirs in test_example_features.py."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not (path / "lockgate.yaml").exists()}
    assert folders == {*RUNS, "curl"}
