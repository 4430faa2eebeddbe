"""Embeddings, models, legacy completions and moderations."""

import base64
import os
from typing import Any

from openai import AsyncOpenAI, OpenAI

MODEL = "text-embedding-3-small"
TEXTS = ["one", "zwei", "三"]


def embeddings() -> Any:
    """The default request (base64 on the wire), floats, and the same from the upstream without the gateway."""
    with OpenAI() as client, OpenAI(base_url=os.environ["UPSTREAM_BASE_URL"]) as upstream:
        decoded = client.embeddings.create(model=MODEL, input=TEXTS)
        return {
            "default": [each.embedding for each in decoded.data],
            "floats": [
                each.embedding
                for each in client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float").data
            ],
            "direct": [each.embedding for each in upstream.embeddings.create(model="echo+dims=64", input=TEXTS).data],
            "indexes": [each.index for each in decoded.data],
            "usage": decoded.usage.to_dict(),
            "request_id": decoded._request_id,
        }


def embeddings_base64() -> Any:
    """The text of the vectors as it crossed the wire, through the gateway and past it."""
    with OpenAI() as client, OpenAI(base_url=os.environ["UPSTREAM_BASE_URL"]) as upstream:
        through: Any = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="base64")
        direct: Any = upstream.embeddings.create(model="echo+dims=64", input=TEXTS, encoding_format="base64")
        return {
            "through": [each.embedding for each in through.data],
            "direct": [each.embedding for each in direct.data],
            "bytes": [len(base64.b64decode(each.embedding, validate=True)) for each in through.data],
        }


def embeddings_tokens() -> Any:
    with OpenAI() as client:
        one = client.embeddings.create(model=MODEL, input=[1, 2, 3])
        two = client.embeddings.create(model=MODEL, input=[[1, 2, 3], [4, 5]], dimensions=8)
        return {"one": len(one.data), "two": [len(each.embedding) for each in two.data]}


async def embeddings_async() -> Any:
    async with AsyncOpenAI() as client:
        return len((await client.embeddings.create(model=MODEL, input="one")).data[0].embedding)


def models() -> Any:
    with OpenAI() as client:
        listed = [model.to_dict() for model in client.models.list()]
        return {"listed": listed, "one": client.models.retrieve("gpt-4o").to_dict()}


def model_with_slash() -> Any:
    with OpenAI() as client:
        return client.models.retrieve("fake/echo").to_dict()


def completions() -> Any:
    with OpenAI() as client:
        whole = client.completions.create(model="gpt-4o", prompt="Once upon a time")
        chunks = list(client.completions.create(model="gpt-4o", prompt="Once upon a time", stream=True))
        return {
            "object": whole.object,
            "text": whole.choices[0].text,
            "finish": whole.choices[0].finish_reason,
            "streamed": "".join(choice.text for chunk in chunks for choice in chunk.choices),
            "stream_objects": sorted({chunk.object for chunk in chunks}),
            "stream_finishes": [
                choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason
            ],
        }


def moderations() -> Any:
    with OpenAI() as client:
        answer = client.moderations.create(model="omni-moderation-latest", input="hello")
        return {"flagged": answer.results[0].flagged, "categories": answer.results[0].categories.to_dict()}


SECTIONS = {
    "embeddings": embeddings,
    "embeddings_base64": embeddings_base64,
    "embeddings_tokens": embeddings_tokens,
    "embeddings_async": embeddings_async,
    "models": models,
    "model_with_slash": model_with_slash,
    "completions": completions,
    "moderations": moderations,
}
