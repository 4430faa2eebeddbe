"""Two gateways on one Redis: limits hold across both, and calls go on when it is stopped, stalled and started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.http import CHAT, Answered, Connection, chat, head
from support.live import Gateway, gateway
from support.redis import Redis, needs_redis, redis_server

pytestmark = needs_redis
PLACES = "lockgate:parallel:anyone:anyone"


def config(server: Redis, on_failure: str = "open", **limits: Any) -> dict[str, Any]:
    return {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"fake/*": {"deployments": [{"provider": "fake", "model": "*"}]}},
        "caller_limits": limits,
        "limits_store": {"url": server.url, "on_failure": on_failure, "timeout": "500ms"},
    }


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    async with redis_server(folder) as running:
        yield running


class Pair:
    """Two instances that share a store."""

    def __init__(self, one: Gateway, two: Gateway) -> None:
        self.one, self.two = one, two

    async def spread(self, count: int, body: bytes) -> list[Answered]:
        """So many calls at once, half of them to each."""
        return await asyncio.gather(*(send((self.one, self.two)[number % 2], body) for number in range(count)))


async def send(gate: Gateway, body: bytes) -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request("POST", CHAT, body)


async def ready(gate: Gateway) -> str:
    async with Connection(gate.url) as wire:
        parts: dict[str, str] = (await wire.request("GET", "/health/ready")).json["parts"]
    return parts["limits_store"]


async def until(gate: Gateway, state: str) -> None:
    async with asyncio.timeout(15):
        while await ready(gate) != state:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


Start = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def start(tmp_path: Path, server: Redis) -> AsyncIterator[Start]:
    """Starts both instances with these limits; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def both(on_failure: str = "open", **limits: Any) -> Pair:
            gates = []
            for name in ("one", "two"):
                folder = tmp_path / name
                folder.mkdir()
                gates.append(await stack.enter_async_context(gateway(folder, config(server, on_failure, **limits))))
            return Pair(*gates)

        yield both


async def test_requests_are_exact_across_both(start: Start) -> None:
    """Of eighty at once, forty each, exactly thirty pass; every number is handed out once."""
    pair = await start(requests="30/minute")
    answers = await pair.spread(80, chat("fake/echo"))
    passed = [each for each in answers if each.status == 200]
    assert sorted(int(each.headers["x-ratelimit-remaining-requests"]) for each in passed) == list(range(30))
    assert {each.status for each in answers} == {200, 429}


async def test_tokens_are_reserved_and_corrected_across_both(start: Start) -> None:
    """What one instance's answers did not use the other's calls can; never more than the limit is reserved at once."""
    pair = await start(tokens="4000/minute")
    answers = await pair.spread(20, chat("fake/echo+delay=1s", max_tokens=1000))
    assert sum(each.status == 200 for each in answers) == 3  # 1000 and the prompt each
    assert {each.json["error"]["type"] for each in answers if each.status == 429} == {"tokens"}
    for gate in (pair.one, pair.two, pair.one):
        async with asyncio.timeout(10):  # corrections reach the other instance some milliseconds later
            while (answer := await send(gate, chat("fake/echo", max_tokens=3000))).status != 200:
                pass
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 3900


async def test_places_are_exact_across_both_and_come_back(start: Start) -> None:
    """Ten at once of which four may run; afterwards all four are free."""
    pair = await start(parallel=4)
    answers = await pair.spread(10, chat("fake/echo+delay=1s"))
    assert sorted(each.status for each in answers) == [200] * 4 + [429] * 6
    async with asyncio.timeout(10):
        while [each.status for each in await pair.spread(4, chat("fake/echo+delay=300ms"))] != [200] * 4:
            pass


async def test_a_killed_instances_places_are_held_by_nobody_else_and_run_out(start: Start, server: Redis) -> None:
    """The other instance does not renew them: they carry an end."""
    pair, client = await start(parallel=1), server.client()
    body = chat("fake/echo+delay=60s")
    async with Connection(pair.one.url) as wire:
        await wire.send(head("POST", CHAT, body) + body)
        async with asyncio.timeout(10):
            while not await client.exists(PLACES):
                pass
        pair.one.process.kill()
        await pair.one.process.wait()
    assert (await send(pair.two, chat("fake/echo"))).status == 429
    ((holder, end),) = await client.zrange(PLACES, 0, -1, withscores=True)
    seconds, _ = await client.time()
    assert 0 < end / 1000 - seconds <= 31
    await client.zadd(PLACES, {holder: seconds * 1000 - 1})
    assert (await send(pair.two, chat("fake/echo"))).status == 200
    await client.aclose()


@pytest.mark.parametrize(("on_failure", "status", "state"), [("open", 200, "degraded"), ("closed", 503, "down")])
async def test_a_store_that_is_stopped_is_missed_as_configured_and_found_again(
    start: Start, server: Redis, on_failure: str, status: int, state: str
) -> None:
    """Without a restart, and without a slow answer in between; a new window then, for it keeps nothing."""
    pair = await start(on_failure, requests="3/minute", parallel=9)
    assert sorted(each.status for each in await pair.spread(6, chat("fake/echo"))) == [200] * 3 + [429] * 3
    await server.stop()
    answers = await pair.spread(40, chat("fake/echo"))
    assert {each.status for each in answers} == {status}
    assert all("x-ratelimit-limit-requests" not in each.headers for each in answers)
    for gate in (pair.one, pair.two):
        assert await ready(gate) == state
    began = asyncio.get_running_loop().time()
    await pair.spread(20, chat("fake/echo"))
    assert asyncio.get_running_loop().time() - began < 2
    await server.start()
    for gate in (pair.one, pair.two):
        await until(gate, "ok")
    assert sorted(each.status for each in await pair.spread(6, chat("fake/echo"))) == [200] * 3 + [429] * 3


async def test_a_stalled_store_delays_only_the_calls_that_find_it_so(start: Start, server: Redis) -> None:
    """They wait for their timeout; those after them for nothing."""
    pair = await start(requests="1000/minute")
    await pair.spread(4, chat("fake/echo"))
    server.stall()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert {each.status for each in await pair.spread(10, chat("fake/echo"))} == {200}
    assert 0.4 < loop.time() - began < 3
    began = loop.time()
    assert {each.status for each in await pair.spread(10, chat("fake/echo"))} == {200}
    assert loop.time() - began < 0.4
    server.go_on()
    for gate in (pair.one, pair.two):
        await until(gate, "ok")
    answer = await send(pair.one, chat("fake/echo"))
    assert int(answer.headers["x-ratelimit-remaining-requests"]) >= 1000 - 4 - 10 - 1
