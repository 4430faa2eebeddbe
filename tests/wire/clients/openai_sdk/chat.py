"""Whole chat answers, sync and async, and structured outputs."""

from typing import Any

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

HELLO: list[Any] = [{"role": "system", "content": "Repeat."}, {"role": "user", "content": "Grüße, 世界 🌍"}]


class Person(BaseModel):
    """What a structured answer must look like."""

    name: str
    age: int
    tags: list[str]


def chat() -> Any:
    with OpenAI() as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, temperature=0.25, seed=2**53 + 1)
        return {**answer.to_dict(), "request_id": answer._request_id, "unknown": answer.model_extra}


def chat_n() -> Any:
    with OpenAI() as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, n=3)
        return [choice.index for choice in answer.choices]


def chat_raw() -> Any:
    with OpenAI() as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
        return {
            "headers": dict(raw.headers),
            "request_id": raw.request_id,
            "text": raw.parse().choices[0].message.content,
        }


async def chat_async() -> Any:
    async with AsyncOpenAI() as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        return answer.choices[0].message.content


def parse() -> Any:
    with OpenAI() as client:
        answer = client.chat.completions.parse(model="fake/json", messages=HELLO, response_format=Person)
        return {"person": answer.choices[0].message.parsed.model_dump(), "refusal": answer.choices[0].message.refusal}


async def parse_async() -> Any:
    async with AsyncOpenAI() as client:
        answer = await client.chat.completions.parse(model="fake/json", messages=HELLO, response_format=Person)
        return {"person": answer.choices[0].message.parsed.model_dump(), "refusal": answer.choices[0].message.refusal}


def parse_refusal() -> Any:
    with OpenAI() as client:
        answer = client.chat.completions.parse(model="fake/refusal", messages=HELLO, response_format=Person)
        return {"person": answer.choices[0].message.parsed, "refusal": answer.choices[0].message.refusal}


SECTIONS = {
    "chat": chat,
    "chat_n": chat_n,
    "chat_raw": chat_raw,
    "chat_async": chat_async,
    "parse": parse,
    "parse_async": parse_async,
    "parse_refusal": parse_refusal,
}
