"""Streamed chat answers: the raw iterator, the `.stream()` helper, and what becomes of the connection."""

from typing import Any

import openai
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI
from openai_sdk.chat import HELLO, Person

LONG: list[Any] = [{"role": "user", "content": " ".join(f"word{index}" for index in range(200))}]


def _told(chunks: list[Any]) -> Any:
    return {
        "text": "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
        "chunks": len(chunks),
        "ids": sorted({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}),
        "roles": [choice.delta.role for chunk in chunks for choice in chunk.choices if choice.delta.role],
        "finishes": [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason],
        "without_choices": [index for index, chunk in enumerate(chunks) if not chunk.choices],
        "usages": [chunk.usage.to_dict() for chunk in chunks if chunk.usage],
        "usage_members": sum("usage" in chunk.to_dict(exclude_unset=True) for chunk in chunks),
    }


def stream() -> Any:
    with OpenAI() as client:
        return _told(list(client.chat.completions.create(model="gpt-4o", messages=LONG, stream=True)))


def stream_usage() -> Any:
    asked: Any = {"include_usage": True}
    with OpenAI() as client:
        return _told(
            list(client.chat.completions.create(model="gpt-4o", messages=LONG, stream=True, stream_options=asked))
        )


def stream_n() -> Any:
    with OpenAI() as client:
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, n=2))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        return ["".join(each.delta.content or "" for each in choices if each.index == index) for index in (0, 1)]


def stream_headers() -> Any:
    with (
        OpenAI() as client,
        client.chat.completions.with_streaming_response.create(model="gpt-4o", messages=HELLO, stream=True) as raw,
    ):
        return {"headers": dict(raw.headers), "lines": list(raw.iter_lines())}


async def stream_async() -> Any:
    async with AsyncOpenAI() as client:
        return _told(
            [chunk async for chunk in await client.chat.completions.create(model="gpt-4o", messages=LONG, stream=True)]
        )


def helper() -> Any:
    with OpenAI() as client, client.chat.completions.stream(model="gpt-4o", messages=LONG) as events:
        kinds = [event.type for event in events]
        final = events.get_final_completion()
        return {
            "kinds": sorted(set(kinds)),
            "text": final.choices[0].message.content,
            "finish": final.choices[0].finish_reason,
        }


async def helper_async() -> Any:
    async with AsyncOpenAI() as client, client.chat.completions.stream(model="gpt-4o", messages=LONG) as events:
        kinds = [event.type async for event in events]
        final = await events.get_final_completion()
        return {
            "kinds": sorted(set(kinds)),
            "text": final.choices[0].message.content,
            "finish": final.choices[0].finish_reason,
        }


def helper_parse() -> Any:
    with (
        OpenAI() as client,
        client.chat.completions.stream(model="fake/json", messages=HELLO, response_format=Person) as events,
    ):
        return events.get_final_completion().choices[0].message.parsed.model_dump()


async def reuse() -> Any:
    """The local ports of six requests, a stream before each whole answer: equal ports are one connection."""
    ports: list[int] = []

    async def note(response: Any) -> None:
        ports.append(response.extensions["network_stream"].get_extra_info("client_addr")[1])

    async with AsyncOpenAI(http_client=DefaultAsyncHttpxClient(event_hooks={"response": [note]})) as client:
        for _ in range(3):
            async for _chunk in await client.chat.completions.create(model="gpt-4o", messages=LONG, stream=True):
                pass
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    return {"sdk": openai.__version__, "ports": ports}


SECTIONS = {
    "stream": stream,
    "stream_usage": stream_usage,
    "stream_n": stream_n,
    "stream_headers": stream_headers,
    "stream_async": stream_async,
    "helper": helper,
    "helper_async": helper_async,
    "helper_parse": helper_parse,
    "reuse": reuse,
}
