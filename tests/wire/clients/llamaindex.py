"""LlamaIndex's OpenAILike, which asks /completions unless told it is a chat model, and its embeddings."""

import os
from typing import Any

import sections
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

BASE = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
GREETING = "Grüße, 世界 🌍"


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def _model(name: str, **options: Any) -> OpenAILike:
    return OpenAILike(model=name, api_base=BASE, api_key=KEY, max_retries=0, **options)


def completion() -> Any:
    model = _model("gpt-4o")
    return {
        "text": model.complete(GREETING).text,
        "streamed": "".join(part.delta or "" for part in model.stream_complete(GREETING)),
    }


async def completion_async() -> Any:
    model = _model("gpt-4o")
    stream = await model.astream_complete(GREETING)
    return {
        "text": (await model.acomplete(GREETING)).text,
        "streamed": "".join([part.delta or "" async for part in stream]),
    }


def chat() -> Any:
    model = _model("gpt-4o", is_chat_model=True)
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content="Repeat."),
        ChatMessage(role=MessageRole.USER, content=GREETING),
    ]
    return {
        "text": model.chat(messages).message.content,
        "streamed": "".join(part.delta or "" for part in model.stream_chat(messages)),
        "completed": model.complete(GREETING).text,
    }


async def chat_async() -> Any:
    model = _model("gpt-4o", is_chat_model=True)
    messages = [ChatMessage(role=MessageRole.USER, content=GREETING)]
    stream = await model.astream_chat(messages)
    return {
        "text": (await model.achat(messages)).message.content,
        "streamed": "".join([part.delta or "" async for part in stream]),
    }


def tools() -> Any:
    def weather(city: str, days: int) -> str:
        """The weather of a city."""
        return f"{city} {days}"

    model = _model("tools", is_chat_model=True, is_function_calling_model=True)
    tool = FunctionTool.from_defaults(weather)
    answer = model.predict_and_call([tool], user_msg="How is the weather?")
    return {"called": [source.tool_name for source in answer.sources], "said": str(answer)}


def structured() -> Any:
    model = _model("tools", is_chat_model=True, is_function_calling_model=True)
    parsed: Any = model.as_structured_llm(Person).complete("Who?").raw
    return parsed.model_dump()


def embeddings() -> Any:
    model = OpenAIEmbedding(model_name="text-embedding-3-small", api_base=BASE, api_key=KEY)
    one = model.get_text_embedding("one")
    return {"size": len(one), "same": model.get_text_embedding_batch(["one", "zwei"])[0] == one}


async def embeddings_async() -> Any:
    model = OpenAIEmbedding(model_name="text-embedding-3-small", api_base=BASE, api_key=KEY)
    return [len(each) for each in await model.aget_text_embedding_batch(["one", "zwei"])]


sections.report(
    {
        "completion": completion,
        "completion_async": completion_async,
        "chat": chat,
        "chat_async": chat_async,
        "tools": tools,
        "structured": structured,
        "embeddings": embeddings,
        "embeddings_async": embeddings_async,
    }
)
