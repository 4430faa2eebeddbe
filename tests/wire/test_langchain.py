"""LangChain's standard integration suite passes through the gateway."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import environments
import pytest

# one loop for all tests: LangChain shares its async HTTP client among models
SETTINGS = """[pytest]
asyncio_mode = auto
asyncio_default_test_loop_scope = session
asyncio_default_fixture_loop_scope = session
"""
NOT_ASKED = {
    "test_json_mode": "Test requires json mode support.",
    "test_image_tool_message": "Model does not support image tool message.",
    "test_pdf_tool_message": "Model does not support PDF tool message.",
    "test_anthropic_inputs": "Model does not explicitly support Anthropic inputs.",
    "test_stream_time": "VCR not set up.",
}
NEEDS_UNDERSTANDING = {"test_tool_calling", "test_tool_calling_async", "test_unicode_tool_call_integration"}


def _tokenizer_files() -> str:
    """The cl100k vocabulary that tiktoken would otherwise download: litellm carries it."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")


@pytest.fixture(scope="module")
def results(client_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each test of the suite and how it ended: passed, or why not."""
    folder = tmp_path_factory.mktemp("langchain")
    langchain = environments.make("langchain")
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini")]
    (folder / "pytest.ini").write_text(SETTINGS)
    env = {**client_env, "TIKTOKEN_CACHE_DIR": _tokenizer_files(), "LANGSMITH_TRACING": "false"}
    suite = environments.CLIENTS / "langchain_suite.py"
    langchain.run_python("-m", "pytest", *options, f"--junitxml={folder}/results.xml", str(suite), env=env)
    cases = ET.parse(folder / "results.xml").iter("testcase")
    return {f"{_class(case)}::{case.get('name')}": _ended(case) for case in cases}


def _class(case: ET.Element) -> str:
    return str(case.get("classname")).rpartition(".")[2]


def _ended(case: ET.Element) -> str:
    skipped = case.find("skipped")
    return "passed" if skipped is None else str(skipped.get("message"))


def test_the_whole_suite_ran(results: dict[str, str]) -> None:
    """A failed test of the suite fails the fixture; nothing is left out but what is listed here."""
    passed = [name for name, ended in results.items() if ended == "passed"]
    others = {name: ended for name, ended in results.items() if ended != "passed"}
    unknown = {
        name: ended
        for name, ended in others.items()
        if NOT_ASKED.get(_plain(name)) != ended and _plain(name) not in NEEDS_UNDERSTANDING
    }
    assert not unknown
    assert len(passed) >= 80


@pytest.mark.parametrize(
    "group", ["TestChatCompletions", "TestResponses", "TestEmbeddings", "TestEmbeddingsOfText", "TestExactArguments"]
)
def test_each_group_ran(results: dict[str, str], group: str) -> None:
    """Chat by both APIs, embeddings by tokens and by text, and exact tool arguments."""
    assert sum(ended == "passed" for name, ended in results.items() if name.startswith(f"{group}::")) >= 4


def _plain(name: str) -> str:
    return name.rpartition("::")[2].partition("[")[0]
