"""LangChain's own standard integration suite on ChatOpenAI and OpenAIEmbeddings, against OPENAI_BASE_URL.

Run by the pytest of its environment. The upstream is scripted: it calls the tool it is given and fills the arguments
from their schema, but it understands no prompt. The few tests that need that are marked, and `TestExactArguments`
checks through the gateway what they are about.
"""

from types import SimpleNamespace
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests, chat_models

NEEDS_UNDERSTANDING = pytest.mark.xfail(
    reason="the arguments stand in the prompt, which a script does not understand", strict=True
)
NAME = '你好啊集团 "and" こんにちは'


class _Downloads:
    """The sample files that the suite would fetch from the internet: a few megabytes, so that bodies are large."""

    def get(self, url: str, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(content=url.encode() * 30_000)


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_models, "httpx", _Downloads())
    monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none is sent")


class _Chat(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return False  # JSON mode names no schema: the keys stand in the prompt

    @property
    def model_override_value(self) -> str:
        return "echo"

    @NEEDS_UNDERSTANDING
    @pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)
    def test_tool_calling(self, model: Any) -> None:
        super().test_tool_calling(model)

    @NEEDS_UNDERSTANDING
    async def test_tool_calling_async(self, model: Any) -> None:
        await super().test_tool_calling_async(model)

    @NEEDS_UNDERSTANDING
    def test_unicode_tool_call_integration(self, model: Any, **options: Any) -> None:
        super().test_unicode_tool_call_integration(model, **options)


class TestChatCompletions(_Chat):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "tools", "stream_usage": True}


class TestResponses(_Chat):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "tools", "use_responses_api": True}


class TestEmbeddings(EmbeddingsIntegrationTests):
    """The default request: token arrays, answered in base64."""

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "text-embedding-3-small"}


class TestEmbeddingsOfText(TestEmbeddings):
    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "text-embedding-3-small", "check_embedding_ctx_length": False, "dimensions": 16}


@tool
def found_company(name: Literal['你好啊集团 "and" こんにちは'], seats: Literal[3]) -> str:
    """Found a company."""
    return f"{name} {seats}"


@pytest.mark.parametrize("options", [{}, {"output_version": "v1"}, {"use_responses_api": True}])
class TestExactArguments:
    def _calls(self, message: BaseMessage) -> None:
        assert isinstance(message, AIMessage)
        (call,) = message.tool_calls
        assert (call["name"], call["args"]) == ("found_company", {"name": NAME, "seats": 3})

    def test_arguments_arrive_whole(self, options: dict[str, Any]) -> None:
        """Any text, invoked and streamed."""
        model = ChatOpenAI(model="tools", **options).bind_tools([found_company], tool_choice="any")
        self._calls(model.invoke("Found it."))
        chunks = list(model.stream("Found it."))
        full = chunks[0]
        for chunk in chunks[1:]:
            full = full + chunk
        self._calls(full)

    async def test_arguments_arrive_whole_async(self, options: dict[str, Any]) -> None:
        """The same for the async client."""
        model = ChatOpenAI(model="tools", **options).bind_tools([found_company], tool_choice="found_company")
        self._calls(await model.ainvoke("Found it."))


def test_json_mode_is_json() -> None:
    """`json_object` reaches the upstream."""
    model = ChatOpenAI(model="fake/json").bind(response_format={"type": "json_object"})
    assert (model | JsonOutputParser()).invoke("Say JSON.") == {"echo": "Say JSON."}
