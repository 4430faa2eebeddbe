"""Stored embeddings: each input of a batch is an entry of its own, and only the missing ones are asked for."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from policies.cache_entries import Collected, bytes_held, entry_for, facts_of, is_vouched_for
from policies.cache_kept import ExactKept, Hit
from policies.cache_memory import Facts
from policies.fingerprint import canonical_value, fingerprint
from proxy.call import Call, Outcome, Usage
from proxy.entries import Entry, StoreUnavailable
from proxy.errors import UpstreamUnavailable
from proxy.reply import Reply

Ask = Callable[[Call], Awaitable[Reply]]
Raw = msgspec.Raw

_OK = 200
_MOST = 2048
"""Inputs that one call may have (WIRE §1.5)."""
_SLICE = 64
_LARGEST = 64 * 1024 * 1024
_OVERHEAD = 1000
_OWN = ("data", "usage")
_inputs = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[dict[str, Raw]]
    usage: _Counts = msgspec.field(default_factory=_Counts)


_answer = msgspec.json.Decoder(_Answer)
_members = msgspec.json.Decoder(dict[str, Raw])


class Embedding(msgspec.Struct, frozen=True):
    """One input's embedding in memory: its object without the index, and the answer's other members."""

    facts: Facts
    item: bytes
    top: bytes
    tokens: int

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.item) + len(self.top) + _OVERHEAD


class _Batch(msgspec.Struct, frozen=True):
    """The inputs of one call and their keys, in order; `found` by id."""

    call: Call
    partition: str
    ttl: float
    inputs: list[bytes]
    keys: list[bytes]
    found: dict[str, Embedding]

    @property
    def missing(self) -> dict[bytes, bytes]:
        """Key and input of those to ask for, each once."""
        return {key: raw for key, raw in zip(self.keys, self.inputs, strict=True) if key[:16].hex() not in self.found}


class EmbeddingCache:
    """The exact cache's part for embeddings. `now` is Unix time."""

    def __init__(self, kept: ExactKept, now: Callable[[], float]) -> None:
        self._kept = kept
        self._now = now

    async def __call__(self, call: Call, ask: Ask, *, partition: str, guards: bytes, ttl: float) -> Reply:
        """The embeddings in the order of their inputs; the missing ones come from `ask`. Raises what `ask` raises."""
        inputs = split(call.head.members["input"])
        if not 0 < len(inputs) <= _MOST:
            call.record.cache = "bypass"
            return await ask(call)
        base = fingerprint(call, partition=partition, guards=guards, without="input")
        keys = []
        for number, raw in enumerate(inputs, 1):
            keys.append(hashlib.sha256(base + canonical_value(raw)).digest())
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        batch = _Batch(call, partition, ttl, inputs, keys, {})
        await self._look_up(batch)
        missing = batch.missing
        if not missing:
            return self._served(batch)
        if batch.found:
            rest = {**call.head.members, "input": Raw(_encode([Raw(raw) for raw in missing.values()]))}
            call = call.replace(head=call.head.with_members(rest))
        reply = await ask(call)
        if reply.status != _OK:
            return reply
        if call.cache.store and ttl > 0 and not call.record.fallbacks:
            self._keep_when_over(batch, missing, reply)
        return reply.through(partial(_completed, batch, missing)) if batch.found else reply

    async def _look_up(self, batch: _Batch) -> None:
        """Fill `found`."""
        call, counts = batch.call, self._kept.counts
        if not call.cache.look_up:
            call.record.cache = "bypass"
            counts.bypassed += 1
            return
        call.record.cache = "miss"
        wanted = []
        for key in batch.keys:
            held = self._kept.memory.get(key[:16].hex())
            if isinstance(held, Embedding) and self._is_fresh(held, call):
                batch.found[held.facts.id] = held
            else:
                wanted.append(key[:16].hex())
        from_memory, cleared = not wanted, self._kept.memory.cleared
        try:
            entries = await self._kept.store.get(wanted) if wanted else {}
        except StoreUnavailable:
            call.record.cache = "bypass"
            counts.unavailable += 1
            entries = {}
        for entry in entries.values():
            embedding = _read(entry)
            self._kept.memory.put(embedding, cleared=cleared)
            if self._is_fresh(embedding, call):
                batch.found[entry.id] = embedding
        if batch.missing:
            counts.misses += 1
        elif from_memory:
            counts.hits_memory += 1
        else:
            counts.hits_store += 1

    def _is_fresh(self, embedding: Embedding, call: Call) -> bool:
        return call.cache.max_age is None or self._now() - embedding.facts.created <= call.cache.max_age

    def _served(self, batch: _Batch) -> Reply:
        found = [batch.found[key[:16].hex()] for key in batch.keys]
        tokens = sum(each.tokens for each in found)
        record, caller = batch.call.record, batch.call.caller
        record.cache, record.cost = "hit-exact", 0
        record.usage = Usage(prompt=tokens)
        costs = [each.facts.cost for each in found if each.facts.cost is not None]
        record.saved = sum(costs) if len(costs) == len(found) else None
        entry, *others = dict.fromkeys(each.facts.id for each in found)
        self._kept.served.note(batch.call.id, Hit("exact", caller.partition, caller.id, entry, others=tuple(others)))
        age = self._now() - min(each.facts.created for each in found)
        body = _body([each.item for each in found], found[0].top, tokens)
        return Reply.whole(body, headers={"age": str(int(max(0.0, age)))})

    def _keep_when_over(self, batch: _Batch, missing: dict[bytes, bytes], reply: Reply) -> None:
        collected = Collected(_LARGEST)
        reply.through(collected.over)

        async def close(outcome: Outcome) -> None:
            if outcome == "complete" and not collected.too_large:
                self._kept.writer.add(
                    partial(self._store, batch, missing, collected), bytes_held(batch.call, collected)
                )

        reply.on_close(close)

    async def _store(self, batch: _Batch, missing: dict[bytes, bytes], collected: Collected) -> Sequence[Entry]:
        record, counts = batch.call.record, self._kept.counts
        # what was asked for: the missing inputs, or all of them with their repetitions
        keys = list(missing) if batch.found else batch.keys
        inputs = list(missing.values()) if batch.found else batch.inputs
        body = b"".join(collected.items)
        items = _items(body, len(keys))
        if items is None or not is_vouched_for(record):
            counts.not_kept += 1
            return ()
        top = _top(body)
        tokens = shares(_answer.decode(body).usage.prompt_tokens, [_weight(raw) for raw in inputs])
        costs = shares(record.cost, tokens) if record.cost is not None else [None] * len(tokens)
        now = self._now()
        entries = []
        for number, (key, item) in enumerate(zip(keys, items, strict=True)):
            meta = {"top": top.decode(), "tokens": tokens[number], "cost": costs[number]}
            entry = entry_for(key, item, call=batch.call, partition=batch.partition, now=now, ttl=batch.ttl, meta=meta)
            self._kept.memory.put(_read(entry))
            entries.append(entry)
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        counts.stored += len(entries)
        return entries


def split(raw: bytes | Raw) -> list[bytes]:
    """Each input of an embeddings call: a text or an array of tokens. Empty for what is neither, and for an array whose
    members are not all of one kind: a part of it would be another call than the whole.
    """
    text = bytes(raw)
    if text[:1] == b'"':
        return [text]
    try:
        each = [bytes(one) for one in _inputs.decode(text)]
    except msgspec.DecodeError:
        return []
    kinds = {_kind(one) for one in each}
    if len(kinds) != 1 or "" in kinds:
        return []
    return [text] if kinds == {"number"} else each


def _kind(raw: bytes) -> str:
    first = raw[:1]
    return "number" if first.isdigit() else {b'"': "text", b"[": "tokens"}.get(first, "")


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a count in proportion to weights so that the parts make the whole again (largest remainders)."""
    whole = sum(weights) or len(weights)
    exact = [total * (weight if sum(weights) else 1) for weight in weights]
    parts = [each // whole for each in exact]
    order = sorted(range(len(parts)), key=lambda index: -(exact[index] % whole))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return parts


async def _completed(batch: _Batch, missing: dict[bytes, bytes], items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The whole answer out of what was found and what was asked for. Its usage is that of every input, so that an input
    that was asked for once and stands there twice counts twice, as it does where all are asked for or all are found.
    """
    body = b"".join([item async for item in items])
    asked = _items(body, len(missing))
    if asked is None:
        raise UpstreamUnavailable("The provider's answer has not one embedding for each input.", kind="bad_shape")
    fresh = dict(zip(missing, asked, strict=True))
    found = [batch.found.get(key[:16].hex()) for key in batch.keys]
    data = [fresh[key] if each is None else each.item for key, each in zip(batch.keys, found, strict=True)]
    parts = shares(_answer.decode(body).usage.prompt_tokens, [_weight(raw) for raw in missing.values()])
    asked_for = dict(zip(missing, parts, strict=True))
    tokens = [asked_for[key] if each is None else each.tokens for key, each in zip(batch.keys, found, strict=True)]
    yield _body(data, _top(body), sum(tokens))


def _items(body: bytes, count: int) -> list[bytes] | None:
    """The objects of an answer's data in the order of their inputs, without their index; None if one is missing."""
    try:
        data = _answer.decode(body).data
        by_index = {int(bytes(item.pop("index"))): item for item in data}
        return [_encode(by_index[index]) for index in range(count)] if len(data) == count else None
    except (KeyError, ValueError, msgspec.DecodeError):
        return None


def _top(body: bytes) -> bytes:
    """The other members of an answer."""
    return _encode({name: raw for name, raw in _members.decode(body).items() if name not in _OWN})


def _body(items: Sequence[bytes], top: bytes, tokens: int) -> bytes:
    data = b",".join(b'{"index":%d,%b' % (index, item[1:]) for index, item in enumerate(items))
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
    return b'{"data":[%b],%b%b%b}' % (data, usage, b"," if len(top) > len(b"{}") else b"", top[1:-1])


def _read(entry: Entry) -> Embedding:
    meta: dict[str, Any] = dict(entry.meta)
    return Embedding(facts_of(entry), entry.body, str(meta.get("top", "{}")).encode(), int(meta.get("tokens", 0)))


def _weight(raw: bytes) -> int:
    """What tokens are divided by: the number of tokens where they are given, else the length of the text."""
    return raw.count(b",") + 1 if raw[:1] == b"[" else len(raw)
