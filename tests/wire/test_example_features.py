"""Examples with a configuration of their own, run as they stand on a gateway that has it, with no provider's key."""

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environments
import processes
import pytest

EXAMPLES = environments.ROOT / "examples"
ADMIN = "sk-admin-of-the-examples-0123456789"


@contextmanager
def running(example: str, folder: Path) -> Iterator[dict[str, str]]:
    """The example's gateway; what its program finds in its environment."""
    with processes.example_gateway(
        folder, EXAMPLES / example / "lockgate.yaml", {"LITELLM_MASTER_KEY": ADMIN}
    ) as server:
        yield {"OPENAI_BASE_URL": server.openai, "LITELLM_MASTER_KEY": ADMIN}


def said(example: str, env: dict[str, str]) -> list[str]:
    """The lines that its program prints."""
    return environments.make("openai3").run_python(str(EXAMPLES / example / "main.py"), env=env).splitlines()


def admin(env: dict[str, str], path: str) -> Any:
    url = env["OPENAI_BASE_URL"].removesuffix("/v1") + path
    with urllib.request.urlopen(urllib.request.Request(url, headers={"authorization": f"Bearer {ADMIN}"})) as answer:
        return json.load(answer)


def test_team_budgets(tmp_path: Path) -> None:
    """The small budget ends, the large one does not, and the spend of both is told."""
    with running("team_budgets", tmp_path) as env:
        why, small, large, *accounts = said("team_budgets", env)
    count = int(small.split()[1])
    assert why == "  insufficient_quota"
    assert 1 <= count <= 10
    assert small == f"search: {count} calls, then refused"
    assert large == "support: 30 calls, and more to come"
    assert any("search" in line for line in accounts)
    assert any("support" in line for line in accounts)


def test_failover_drill(tmp_path: Path) -> None:
    """Three failures end in an answer, the fourth in an error event."""
    with running("failover_drill", tmp_path) as env:
        assert said("failover_drill", env) == [
            "works: attempts 1, fallbacks 0: answered",
            "overloaded: attempts 3, fallbacks 1: answered",
            "out-of-quota: attempts 2, fallbacks 1: answered",
            "silent: attempts 3, fallbacks 1: answered in pieces",
            "breaks-midway: attempts 1, fallbacks 0: the stream broke and said so (upstream_interrupted)",
        ]


def test_code_docs(tmp_path: Path) -> None:
    """Each function has its text and its trace, all of one session."""
    with running("code_docs", tmp_path) as env:
        first, text, second, _ = said("code_docs", env)
        assert first.startswith("area (trace tr-")
        assert second.startswith("fits (trace tr-")
        assert text == "    def area(width: float, height: float) -> float:"
        ids = [line.partition("tr-")[2].rstrip(")") for line in (first, second)]
        records = [admin(env, f"/admin/requests/{call_id}") for call_id in ids]
        assert records[0]["session"] == records[1]["session"]
        assert records[0]["session"].startswith("code-docs-")


def test_rag(tmp_path: Path) -> None:
    """What was embedded once is not embedded again, and the passage reaches the prompt."""
    with running("rag", tmp_path) as env:
        first, second, third, answer = said("rag", env)
    assert first == "3 passages embedded: miss"
    assert second == "4 passages embedded: miss"
    assert third == "3 passages embedded: hit-exact"
    assert answer == "How does the lamp of a lighthouse make a beam?"


def loaded(env: dict[str, str]) -> None:
    """Wait until the embedder's model is there: it is loaded when the first text comes."""
    text = "Which lamps are used in lighthouses?"
    body = {"model": "support", "temperature": 0, "messages": [{"role": "user", "content": text}]}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{env['OPENAI_BASE_URL']}/chat/completions", json.dumps(body).encode(), headers)
    end = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(request) as answer:
            if answer.headers["x-lockgate-cache"] != "bypass":
                return
        assert time.monotonic() < end
        time.sleep(0.2)


def test_support_chatbot(tmp_path: Path) -> None:
    """Other words hit, another question does not, an attack is refused."""
    with running("support_chatbot", tmp_path) as env:
        loaded(env)
        assert said("support_chatbot", env) == [
            "How do I reset my password? -> miss",
            "How can I reset my password? -> hit-semantic",
            "How do I delete my password? -> no answer (not_cached)",
            "an attack -> prompt_injection",
        ]


def test_multilingual(tmp_path: Path) -> None:
    """Each language is served from its own answers."""
    with running("multilingual", tmp_path) as env:
        loaded(env)
        assert said("multilingual", env) == [
            "How do I open an account? -> miss",
            "How can I open an account? -> hit-semantic",
            "Comment ouvrir un compte ? -> miss",
            "Comment puis-je ouvrir un compte ? -> hit-semantic",
        ]


def test_every_example_with_a_configuration_is_run() -> None:
    """A new folder needs a test of its name."""
    named = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.parent.name for path in EXAMPLES.glob("*/lockgate.yaml")} <= named


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/lockgate.yaml")), ids=lambda path: path.parent.name)
def test_an_examples_configuration_is_valid(path: Path) -> None:
    """By `lockgate check`."""
    environments.run([sys.executable, "-m", "proxy.cli", "check", "--config", str(path)], {"LITELLM_MASTER_KEY": ADMIN})
