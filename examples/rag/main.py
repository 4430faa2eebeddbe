# Retrieval: the passages nearest to a question go into the prompt. Their embeddings are cached, one by one.
#   lockgate serve --config examples/rag/lockgate.yaml
#   python examples/rag/main.py      (pip install openai)
import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "any"),
)
PASSAGES = [
    "The lighthouse of Cordouan was finished in 1611.",
    "A Fresnel lens bends the light of a lamp into a beam.",
    "Foghorns replaced bells and cannons in the nineteenth century.",
]
QUESTION = "How does the lamp of a lighthouse make a beam?"


def embed(texts: list[str]) -> tuple[list[list[float]], str]:
    """The texts' vectors, and what the cache had to do with it."""
    answer = client.embeddings.with_raw_response.create(model="text-embedding", input=texts)
    return [each.embedding for each in answer.parse().data], answer.headers["x-lockgate-cache"]


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


vectors, cache = embed(PASSAGES)
print(f"{len(vectors)} passages embedded: {cache}")
# a new passage beside old ones: only it goes to the provider
vectors, cache = embed([*PASSAGES, "Lampreys are no lamps."])
print(f"{len(vectors)} passages embedded: {cache}")
vectors, cache = embed(PASSAGES)
print(f"{len(vectors)} passages embedded: {cache}")

[asked], _ = embed([QUESTION])
best = max(range(len(PASSAGES)), key=lambda number: likeness(asked, vectors[number]))
reply = client.chat.completions.create(
    model="assistant",
    temperature=0,
    messages=[
        {"role": "system", "content": f"Answer from this passage alone: {PASSAGES[best]}"},
        {"role": "user", "content": QUESTION},
    ],
)
print(reply.choices[0].message.content)
