"""The shared store on a real Redis: leases, pending corrections, and what happens while the server is away."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.redis import Redis, needs_redis, redis_server

from adapters.limits_redis import RedisLimits
from proxy.claims import Claim, Lease
from proxy.config import LimitsStore
from proxy.errors import Overloaded
from proxy.values import Duration

pytestmark = needs_redis
CLAIM = Claim("requests", 10, 60)


class Steps:
    """A `sleep` that lasts until the test says so; sleepers are known by how long they sleep."""

    def __init__(self) -> None:
        self._sleeping: list[tuple[float, asyncio.Event]] = []
        self._came = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        event = asyncio.Event()
        self._sleeping.append((seconds, event))
        self._came.set()
        await event.wait()

    async def wake(self, seconds: float) -> None:
        """End the sleep of those who sleep that long; waits for one."""
        while not any(each == seconds for each, _ in self._sleeping):
            self._came.clear()
            await self._came.wait()
        for each, event in self._sleeping:
            if each == seconds:
                event.set()
        self._sleeping = [(each, event) for each, event in self._sleeping if each != seconds]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Redis]:
    async with redis_server(tmp_path) as running:
        yield running


async def opened(server: Redis, steps: Steps | None = None, **settings: object) -> RedisLimits:
    config = LimitsStore(url=server.url, **{"timeout": Duration(2), **settings})  # type: ignore[arg-type]
    store = RedisLimits(config, steps or asyncio.sleep)
    await store.start()
    return store


async def until(store: RedisLimits, state: str) -> None:
    async with asyncio.timeout(10):
        while store.state() != state:  # noqa: ASYNC110 - the server's return is noticed by the store alone
            await asyncio.sleep(0.01)


async def test_two_stores_on_one_server_count_together(server: Redis) -> None:
    """Of forty claims at once, twenty each, exactly ten pass."""
    one, two = await opened(server), await opened(server)
    grants = await asyncio.gather(*(store.claim([CLAIM]) for store in (one, two) for _ in range(20)))
    assert sum(grant.refused is None for grant in grants) == 10
    await one.aclose()
    await two.aclose()


async def test_a_place_that_nobody_renews_runs_out_and_a_renewed_one_does_not(server: Redis) -> None:
    """A killed instance's calls do not count for ever."""
    steps = Steps()
    alive, client = await opened(server, steps), server.client()
    for holder in ("alive", "dead"):
        assert (await alive.claim([], Lease("p", 2, holder))).refused is None
    alive._held.pop(("p", "dead"))  # its instance was killed
    assert (await alive.claim([], Lease("p", 2, "late"))).refused is not None
    soon = time.time() * 1000 + 100  # the thirty seconds are over but for these
    await client.zadd("lockgate:p", {"alive": soon, "dead": soon})
    await steps.wake(10.0)
    async with asyncio.timeout(5):
        while (await alive.claim([], Lease("p", 2, "late"))).refused is not None:
            pass
    assert await client.zrange("lockgate:p", 0, -1) == ["alive", "late"]
    assert await client.zscore("lockgate:p", "alive") > soon + 20_000
    await client.aclose()
    await alive.aclose()


async def test_a_release_travels_with_the_next_claim(server: Redis) -> None:
    """One caller that makes one call after the other is never refused for its own last one."""
    steps = Steps()  # nothing is sent by itself
    store = await opened(server, steps)
    for number in range(20):
        lease = Lease("p", 1, str(number))
        grant = await store.claim([CLAIM if number < 10 else Claim("other", 99, 60)], lease)
        assert grant.refused is None
        store.correct(CLAIM, grant.standings[0], 0)
        store.release(lease)
    await store.aclose()


async def test_what_is_pending_is_sent_when_no_claim_comes_and_at_the_end(server: Redis) -> None:
    """By itself after a moment; at once when the store is closed."""
    steps, client = Steps(), server.client()
    store = await opened(server, steps)
    for number, end in enumerate((lambda: steps.wake(0.002), store.aclose)):
        standing = (await store.claim([Claim("k", 100, 60, 10)])).standings[0]
        store.correct(Claim("k", 100, 60, 10), standing, -4)
        assert await client.get("lockgate:k") == str(6 * number + 10)
        await end()
        async with asyncio.timeout(5):
            while await client.get("lockgate:k") != str(6 * number + 6):
                pass
    await client.aclose()


async def test_a_silent_server_costs_one_call_its_timeout_and_the_next_ones_nothing(server: Redis) -> None:
    """Until it answers a ping; then it counts again, with no restart of ours."""
    steps = Steps()
    store = await opened(server, steps, timeout=Duration(0.05))
    server.stall()
    began = time.perf_counter()
    assert (await store.claim([CLAIM])).standings == ()
    assert 0.04 < time.perf_counter() - began < 0.5
    began = time.perf_counter()
    for _ in range(1000):
        assert (await store.claim([CLAIM])).standings == ()
    assert time.perf_counter() - began < 0.05
    assert store.state() == "degraded"
    server.go_on()
    await steps.wake(1.0)
    await until(store, "ok")
    assert (await store.claim([CLAIM])).refused is None
    await store.aclose()


@pytest.mark.parametrize(("on_failure", "state"), [("open", "degraded"), ("closed", "down")])
async def test_a_stopped_server_lets_calls_pass_or_refuses_them_as_configured(
    server: Redis, on_failure: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says once which, without the URL."""
    steps = Steps()
    store = await opened(server, steps, on_failure=on_failure)
    lease = Lease("p", 1, "a")
    assert (await store.claim([CLAIM], lease)).refused is None
    await server.stop()
    for _ in range(3):
        if on_failure == "open":
            assert (await store.claim([CLAIM], Lease("p", 1, "b"))).standings == ()
        else:
            with pytest.raises(Overloaded):
                await store.claim([CLAIM], Lease("p", 1, "b"))
    assert (store.state(), caplog.text.count("is away")) == (state, 1)
    assert "redis://" not in caplog.text
    await server.start()
    await steps.wake(1.0)
    await until(store, "ok")
    await steps.wake(10.0)  # the renewal brings the place back that the restart lost
    async with asyncio.timeout(5):
        while (await store.claim([], Lease("p", 1, "b"))).refused is None:
            store.release(Lease("p", 1, "b"))
    store.release(lease)
    assert (await store.claim([CLAIM], Lease("p", 1, "c"))).refused is None
    await store.aclose()


async def test_a_gateway_starts_without_the_server_and_counts_when_it_comes(server: Redis) -> None:
    """Nobody has to start them in order."""
    await server.stop()
    steps = Steps()
    store = await opened(server, steps)
    assert store.state() == "degraded"
    await server.start()
    await steps.wake(1.0)
    await until(store, "ok")
    assert (await store.claim([CLAIM])).standings[0].used == 1
    await store.aclose()


async def test_a_place_taken_by_a_call_that_left_is_given_back(server: Redis) -> None:
    """A caller cancelled while the server was asked holds nothing."""
    store = await opened(server)
    server.stall()
    task = asyncio.create_task(store.claim([], Lease("p", 1, "a")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.go_on()
    async with asyncio.timeout(5):
        while (await store.claim([], Lease("p", 1, "b"))).refused is not None:
            pass
    await store.aclose()


async def test_a_place_whose_release_was_lost_on_its_way_is_given_back_later(server: Redis) -> None:
    """Not after the thirty seconds of its lease: the call that finds the server away carries what others gave back."""
    steps = Steps()
    store = await opened(server, steps)
    lease = Lease("p", 1, "a")
    assert (await store.claim([], lease)).refused is None
    await server.stop()
    store.release(lease)
    assert (await store.claim([CLAIM])).standings == ()
    await server.start()
    client = server.client()
    await client.zadd("lockgate:p", {"a": (time.time() + 30) * 1000})  # as a server that only was out of reach has it
    await steps.wake(1.0)
    await until(store, "ok")
    assert (await store.claim([], Lease("p", 1, "b"))).refused is None
    await client.aclose()
    await store.aclose()
