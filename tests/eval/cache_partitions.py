"""The partition test: calls that differ in anything but their last message, through the policy and the embedded store."""

import random
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from adapters.embedder_models import USE
from adapters.qdrant import EmbeddedQdrant
from policies.cache_kept import Served
from policies.cache_writer import CacheWriter
from policies.calibration import shipped
from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from policies.semantic_cache import SemanticCache
from policies.semantic_kept import SemanticCounts, SemanticKept, Tallies
from policies.semantic_settings import SemanticCacheConfig
from policies.semantic_text import Eligibility, Words
from proxy.call import CacheControls, Call, Caller, Record
from proxy.config import Qdrant
from proxy.deployments import Deployment, Route
from proxy.endpoints import CHAT
from proxy.reply import Reply
from proxy.values import Size
from proxy.wire import read_head

QUESTIONS = [
    ("How do I change my delivery address?", "How can I change my delivery address?"),
    ("What is the boiling point of water?", "What's the boiling point of water?"),
    ("How do I undo the last commit in git?", "In git, how do I undo the last commit?"),
    ("What are the ingredients of pesto?", "Which are the ingredients of pesto?"),
    ("How long does a passport renewal take?", "How much time does a passport renewal take?"),
    ("Comment fermer mon compte ?", "Comment puis-je fermer mon compte ?"),
]
PARTS: dict[str, Sequence[Any]] = {
    "partition": ("acme", "globex", "initech", ""),
    "namespace": ("", "blue"),
    "route": ("fast", "clever"),
    "system": (None, "You are brief.", "You are a pirate.", "Tu réponds en français."),
    "tools": (
        None,
        [{"type": "function", "function": {"name": "search"}}],
        [{"type": "function", "function": {"name": "find"}}],
    ),
    "history": (
        (),
        ("hello", "Hello! How can I help?"),
        ("I live in Norway.", "Noted."),
        ("I live in Japan.", "Noted."),
    ),
    "temperature": (None, 0, 0.7),
    "response_format": (None, {"type": "json_object"}),
}


class PartitionResult(msgspec.Struct):
    """How many calls were answered from an entry of a call that differs in anything but its last message (leaks), and
    how many paraphrases were answered from an entry of one that does not (hits).
    """

    pairs: int
    leaks: int
    paraphrases: int
    hits: int
    conversations: int
    conversation_leaks: int


class Nowhere:
    """A provider that is never asked."""

    async def __call__(self, call: Call, deployment: Deployment, /) -> Reply:
        raise AssertionError

    async def aclose(self) -> None:
        """Nothing is held."""


class Quick:
    """The default embedder, each text once."""

    id, size, window, languages = USE.id, USE.size, USE.window, USE.languages

    def __init__(self) -> None:
        self._encode = lru_cache(None)(import_module(USE.module).load())

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        vector: Sequence[float] = self._encode(text)
        return vector


def call_of(number: int, text: str, parts: Mapping[str, Any]) -> Call:
    """A call of these parts with this as the last message."""
    messages = [] if parts["system"] is None else [{"role": "system", "content": parts["system"]}]
    messages += [
        {"role": role, "content": said} for role, said in zip(("user", "assistant"), parts["history"], strict=False)
    ]
    body: dict[str, Any] = {"model": parts["route"], "messages": [*messages, {"role": "user", "content": text}]}
    body |= {name: parts[name] for name in ("tools", "temperature", "response_format") if parts[name] is not None}
    raw = msgspec.json.encode(body)
    where = Deployment(id=f"p/{parts['route']}", provider_name="p", model=parts["route"], provider=Nowhere())
    return Call(
        id=f"{number:032x}",
        endpoint=CHAT,
        headers={},
        record=Record(id="", endpoint="chat", started=0.0),
        caller=Caller(id=f"key of {parts['partition']}", partition=parts["partition"]),
        cache=CacheControls(namespace=parts["namespace"]),
        head=read_head(raw, CHAT),
        body=raw,
        route=Route(name=parts["route"], deployments=(where,)),
    )


async def answer(call: Call) -> Reply:
    """An answer that says whose it is."""
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": call.id}, "finish_reason": "stop"}]}  # fmt: skip
    return Reply.whole(msgspec.json.encode(body))


async def ask(policy: SemanticCache, writer: CacheWriter, call: Call) -> str:
    """The id of the call whose answer this is; what was answered is stored before this returns."""
    reply = await policy(call, answer)
    said = b"".join([item async for item in reply.items])
    await reply.aclose("complete")
    await writer.emptied()
    return str(msgspec.json.decode(said)["choices"][0]["message"]["content"])


async def partitions(pairs: int) -> PartitionResult:
    """So many random pairs of calls, the second of which must not have the first's answer; and then must have its own."""
    choose = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        qdrant = EmbeddedQdrant(Path(folder), Qdrant(max_entries=10**6, min_free=Size.parse("0B")), lambda: 1000.0)
        store, embedder = qdrant.collection("semantic", USE.size), Quick()
        writer = CacheWriter("semantic_cache", 10**9, store)
        kept = SemanticKept(store, embedder, writer, Served(), SemanticCounts(), Tallies(), lambda: 1000.0)
        policy = SemanticCache(
            SemanticCacheConfig(),
            kept,
            judge=PairGuard(Tables.load()),
            eligibility=Eligibility(Words.load(), USE.window),
            checker=None,
            calibration=shipped(USE.id),
            guards=lambda _call: b"",
            now=lambda: 1000.0,
        )
        await qdrant.start()
        await writer.start()
        try:
            return await _run(policy, writer, choose, pairs)
        finally:
            await writer.aclose()
            await qdrant.aclose()


async def _run(policy: SemanticCache, writer: CacheWriter, choose: random.Random, pairs: int) -> PartitionResult:
    result = PartitionResult(pairs, 0, 0, 0, 0, 0)
    asked: list[Mapping[str, Any]] = []

    async def source(text: str, parts: Mapping[str, Any]) -> Mapping[str, Any]:
        """The parts of the call whose answer a call of these parts gets."""
        asked.append(parts)
        return asked[int(await ask(policy, writer, call_of(len(asked) - 1, text, parts)), 16)]

    for number in range(pairs):
        question, paraphrase = choose.choice(QUESTIONS)
        one = {name: choose.choice(values) for name, values in PARTS.items()}
        if number % 2:
            one["system"] = f"You are assistant {number}."  # as many systems as pairs, too
        other = dict(one)
        for name in choose.sample(list(PARTS), choose.randint(1, 3)):
            other[name] = choose.choice([value for value in PARTS[name] if value != one[name]])
        await source(question, one)
        leaked = await source(choose.choice((question, paraphrase)), other) != other
        result.leaks += leaked
        if {name for name in PARTS if one[name] != other[name]} == {"history"}:
            result.conversations += 1
            result.conversation_leaks += leaked
        asked_before = len(asked)
        result.paraphrases += 1
        found = await ask(policy, writer, call_of(asked_before, paraphrase, one))
        asked.append(one)
        result.leaks += asked[int(found, 16)] != one
        result.hits += int(found, 16) != asked_before
    return result
