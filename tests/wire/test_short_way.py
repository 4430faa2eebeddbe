"""The short way of equal calls against the long one, with the policies of a whole configuration: nobody can tell which was
gone. A call whose body is still to come when it begins takes the long way.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from proxy.app import build
from proxy.call import Call, Record
from proxy.config_file import parse_config
from proxy.endpoints import CHAT
from proxy.entries import EVERYTHING
from proxy.errors import GatewayError
from proxy.headers import HeadersRead
from proxy.identity import Identity
from proxy.keepers import Keepers
from proxy.key_store import KeyStore
from proxy.runtime import Runtime

CONFIG: dict[str, Any] = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"*": {"deployments": [{"provider": "fake", "model": "*"}]}},
    "authenticate": {"keys": True},
    "client_limits": {"requests": "1000/minute", "applies_to": "all"},
    "caller_limits": {"requests": "500/minute", "tokens": "100000/minute", "parallel": 5},
    "parameters": {"temperature": [0.0, 0.5], "max_tokens": [1, 64], "clamp": True},
    "input_guards": [{"kind": "injection", "action": "block"}, {"kind": "length", "max_chars": 1000, "action": "flag"}],
    "single_flight": {},
    "exact_cache": {},
    "failover": {},
}
PER_CALL = {"id", "started", "duration", "first_content"}


class Bench:
    """One instance without sockets, and what its calls come to."""

    def __init__(self, keepers: Keepers, runtime: Runtime, secret: str) -> None:
        self.keepers, self.runtime, self.secret = keepers, runtime, secret
        self.long = self.asked = 0
        self._headers = HeadersRead()

    async def ask(self, body: bytes, headers: Mapping[str, str] = {}, *, at_once: bool = True) -> dict[str, Any]:
        """One call, and all that can be seen of it."""
        self.asked += 1
        sent = {"authorization": f"Bearer {self.secret}", "content-type": "application/json", "host": "gw", **headers}
        read = self._headers.of([(name.encode(), value.encode()) for name, value in sent.items()])
        record = Record(id=f"{self.asked:032x}", endpoint="chat", started=1e9)

        async def read_body(_limit: int) -> bytes:
            self.long += 1
            return body

        call = Call(
            id=record.id, endpoint=CHAT, headers=read.by_name, said=read.said, record=record, peer="127.0.0.1",
            read_body=read_body, arrived=lambda: body if at_once else None,
        )  # fmt: skip
        seen: dict[str, Any] = {}
        try:
            reply = await self.runtime.handlers["chat"](call)
        except GatewayError as error:
            seen |= {"error": error.body(), "headers": dict(error.headers)}
        else:
            seen["windows"] = [
                msgspec.to_builtins(each) for each in (record.requests, record.tokens)
            ]  # as headers say them
            seen["sealed"] = record.outcome
            sent_back = reply.at_hand or b"".join([item async for item in reply.items])
            await reply.aclose("complete")
            seen |= {"body": sent_back, "headers": reply.headers, "status": reply.status, "stream": reply.streaming}
        await asyncio.sleep(0)
        if self.keepers.caches is not None and self.keepers.caches.exact is not None:
            await self.keepers.caches.exact.writer.emptied()
        kept: dict[str, Any] = msgspec.to_builtins(record)
        for window in (kept.get("requests"), kept.get("tokens"), *seen.get("windows", ())):
            if window is not None:
                window["reset"] = round(window["reset"] / 10)
        return {"record": {name: each for name, each in kept.items() if name not in PER_CALL}, **seen}

    async def warm(self, body: bytes, headers: Mapping[str, str] = {}) -> None:
        """Until an equal call goes the short way."""
        for _ in range(4):
            await self.ask(body, headers)
        before = self.long
        await self.ask(body, headers)
        assert self.long == before, "the short way was not gone"

    def totals(self) -> dict[str, Any]:
        """What is counted over all calls."""
        caches = self.keepers.caches
        assert caches is not None
        assert caches.exact is not None
        return {
            "cache": msgspec.to_builtins(caches.exact.counts),
            "guards": dict(self.keepers.security.totals),
            "metrics": {name: dict(getattr(self.keepers.metrics, name)) for name in ("cache", "errors", "guards")},
        }


@contextlib.asynccontextmanager
async def started(
    folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> AsyncIterator[tuple[Bench, KeyStore, str]]:
    """With a key of these settings; its id comes last."""
    full = parse_config(yaml.safe_dump({**config, "server": {"state_dir": str(folder)}}), {})
    keepers = Keepers.open(full)
    try:
        await keepers.start()
        runtime, _ = build(full, keepers, {})
        identity = keepers.identity
        assert isinstance(identity, Identity)
        key, secret = await identity._key_store.create(settings)
        yield Bench(keepers, runtime, secret), identity._key_store, key.id
        await runtime.aclose()
    finally:
        await keepers.aclose()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with started(tmp_path, CONFIG, {"models": ["*"], "owner": "acme", "tags": ["blue"]}) as (made, _, _):
        yield made


def body(text: str = "What is a monad?", **members: Any) -> bytes:
    return json.dumps({"model": "echo", "messages": [{"role": "user", "content": text}], **members}).encode()


KINDS: dict[str, tuple[bytes, dict[str, str]]] = {
    "plain": (body(), {}),
    "streamed": (body(stream=True), {}),
    "streamed with usage": (body(stream=True, stream_options={"include_usage": True}), {}),
    "clamped": (body(temperature=0.9, max_tokens=1000), {}),
    "with the cache's own member": (body(cache={"ttl": 60, "namespace": "n"}), {}),
    "with controls": (body(), {"x-lockgate-cache-namespace": "other", "cache-control": "max-age=600"}),
    "of a user and a session": (body(user="u1"), {"x-session-id": "s1"}),
    "with an id of its own": (body(), {"x-request-id": "mine"}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_both_ways_come_to_the_same(bench: Bench, kind: str) -> None:
    """Answer, headers, every fact of the record, and what each call adds to all counts. One after the other, so that windows
    stand one call further: their remains are compared with that.
    """
    sent, headers = KINDS[kind]
    await bench.warm(sent, headers)
    seen, totals = [], [bench.totals()]
    for at_once in (True, False, True):
        before = bench.long
        seen.append(await bench.ask(sent, headers, at_once=at_once))
        assert bench.long - before == (not at_once)
        totals.append(bench.totals())
    for number, each in enumerate(seen):
        each["record"]["requests"]["remaining"] += number
        each["windows"][0]["remaining"] += number
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["record"]["cache"] == "hit-exact"
    added = [difference(after, before) for before, after in pairwise(totals)]
    assert added[0] == added[1] == added[2] != {}


async def test_an_answer_read_from_the_store_comes_by_both_ways_alike(tmp_path: Path) -> None:
    """Where memory has no room for it; counted as one of the store."""
    config = {**CONFIG, "exact_cache": {"memory": 1}}
    async with started(tmp_path, config, {"models": ["*"]}) as (bench, _, _):
        await bench.warm(body())
        totals = [bench.totals()]
        seen = []
        for at_once in (True, False):
            seen.append((await bench.ask(body(), at_once=at_once))["body"])
            totals.append(bench.totals())
        added = [difference(after, before) for before, after in pairwise(totals)]
        assert added[0] == added[1]
        assert (added[0]["cache"], seen[0]) == ({"hits_store": 1}, seen[1])


def difference(after: Any, before: Any) -> Any:
    """What was added, wherever something was."""
    if not isinstance(after, dict):
        return after - before
    every = {
        name: difference(value, before.get(name, {} if isinstance(value, dict) else 0)) for name, value in after.items()
    }
    return {name: value for name, value in every.items() if value}


@pytest.mark.parametrize("at_once", [True, False], ids=["short", "long"])
async def test_a_limit_refuses_on_both_ways_alike(tmp_path: Path, at_once: bool) -> None:
    """The same call is the first that is refused, with the same words, and counts for nothing."""
    limits = {"client_limits": None, "caller_limits": {"requests": "8/minute", "tokens": "100000/minute"}}
    config = {name: value for name, value in {**CONFIG, **limits}.items() if value is not None}
    async with started(tmp_path, config, {"models": ["*"]}) as (bench, _, _):
        await bench.warm(body())
        seen = [await bench.ask(body(), at_once=at_once) for _ in range(5)]
        assert ["error" in each for each in seen] == [False, False, False, True, True]
        assert b"Rate limit reached: 8 requests in 60 s, 0 left" in seen[3]["error"]
        assert seen[3]["record"]["error"] == "rate_limit_exceeded"
        assert "cache" not in seen[3]["record"]


async def test_tokens_are_given_back_and_places_left_at_once(tmp_path: Path) -> None:
    """However many hits there are, they take none of what other calls need; but there must be room for one."""
    limits = {"caller_limits": {"tokens": "600/minute", "parallel": 1}}
    async with started(tmp_path, {**CONFIG, **limits}, {"models": ["*"]}) as (bench, _, _):
        await bench.warm(body(max_tokens=64))
        seen = [await bench.ask(body(max_tokens=64)) for _ in range(30)]
        assert {each["record"]["tokens"]["remaining"] for each in seen} == {seen[0]["record"]["tokens"]["remaining"]}
        assert seen[0]["record"]["tokens"]["remaining"] < 600
        await bench.ask(body("Something else " * 60))
        assert "error" in await bench.ask(body("And something else again " * 60))


async def test_a_revoked_key_is_refused_at_once(tmp_path: Path) -> None:
    async with started(tmp_path, CONFIG, {"models": ["*"]}) as (bench, keys, key_id):
        await bench.warm(body())
        await keys.revoke(key_id)
        assert isinstance(bench.keepers.identity, Identity)
        await bench.keepers.identity._directory.look()
        assert b"has been revoked" in (await bench.ask(body()))["error"]


async def test_another_key_never_goes_the_way_of_the_first(tmp_path: Path) -> None:
    """Not even with the same owner's answer at hand: its own limits and models count."""
    async with started(tmp_path, CONFIG, {"models": ["*"], "owner": "acme"}) as (bench, keys, _):
        await bench.warm(body())
        _, other = await keys.create({"models": ["nothing"], "owner": "acme"})
        bench.secret = other
        assert b"does not exist" in (await bench.ask(body()))["error"]


async def test_a_cleared_answer_is_asked_for_again(bench: Bench) -> None:
    await bench.warm(body())
    assert bench.keepers.caches is not None
    assert bench.keepers.caches.exact is not None
    await bench.keepers.caches.exact.clear(EVERYTHING)
    assert (await bench.ask(body()))["record"]["cache"] == "miss"
    assert (await bench.ask(body()))["record"]["cache"] == "hit-exact"


async def test_where_texts_are_kept_every_call_goes_the_long_way(tmp_path: Path) -> None:
    """They would be missing."""
    async with started(tmp_path, {**CONFIG, "record": {"bodies": "full"}}, {"models": ["*"]}) as (bench, _, _):
        for _ in range(5):
            await bench.ask(body())
        assert bench.long == bench.asked
