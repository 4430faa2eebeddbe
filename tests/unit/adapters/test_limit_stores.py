"""What every store of limits promises: the same laws for memory and for a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from support.redis import needs_redis, redis_server

from adapters.limits_redis import RedisLimits
from adapters.limits_storage import LazyStorage
from proxy.claims import Claim, Lease, LimitStore, Standing
from proxy.config import LimitsStore
from proxy.values import Duration

REQUESTS, TOKENS = Claim("requests", 3, 60), Claim("tokens", 100, 60, 40)


class Store:
    """A store, and how to end the windows of a key without waiting for it."""

    def __init__(self, store: LimitStore, end: Callable[[str], Awaitable[None]]) -> None:
        self.claim, self.correct, self.release = store.claim, store.correct, store.release
        self.claim_now = store.claim_now
        self.end = end


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        memory = LazyStorage()
        yield Store(memory, memory.clear)
        return
    async with redis_server(tmp_path) as server:
        shared, client = RedisLimits(LimitsStore(url=server.url, timeout=Duration(5))), server.client()
        await shared.start()

        async def end(key: str) -> None:
            await client.delete(f"lockgate:{key}")

        yield Store(shared, end)
        await client.aclose()
        await shared.aclose()


async def test_a_refused_claim_takes_nothing(store: Store) -> None:
    """Not of its own window, not of another that still had room, no place."""
    lease = Lease("places", 9, "a")
    for used in (40, 80):
        grant = await store.claim([REQUESTS, TOKENS])
        assert (grant.refused, grant.standings[1].used) == (None, used)
    for _ in range(3):
        grant = await store.claim([REQUESTS, TOKENS], lease)
        assert grant.refused == TOKENS
        assert [each.used for each in grant.standings] == [2, 80]
    assert (await store.claim([], Lease("places", 1, "b"))).refused is None


async def test_what_is_claimed_at_once_counts_like_any_other(store: Store) -> None:
    """And nothing is taken by a store that cannot answer at once."""
    at_once = store.claim_now([REQUESTS, TOKENS])
    grant = await store.claim([REQUESTS, TOKENS])
    assert [each.used for each in grant.standings] == ([1, 40] if at_once is None else [2, 80])


async def test_a_smaller_claim_passes_where_a_larger_one_was_refused(store: Store) -> None:
    """What is left can be used to the last."""
    small = Claim("tokens", 100, 60, 20)
    await store.claim([TOKENS])
    await store.claim([TOKENS])
    assert (await store.claim([TOKENS])).refused == TOKENS
    grant = await store.claim([small])
    assert (grant.refused, grant.standings[0].used) == (None, 100)


async def test_a_window_names_its_end(store: Store) -> None:
    """The whole window at first, and never more; a key without a window has none."""
    assert (await store.claim([Claim("none", 0, 60)])).standings[0].reset == 0
    first = (await store.claim([REQUESTS])).standings[0]
    second = (await store.claim([REQUESTS])).standings[0]
    assert 59 < second.reset <= first.reset <= 60


async def test_places_are_counted_and_given_back(store: Store) -> None:
    """As many at a time as allowed; releasing twice, or what is not held, frees no more."""
    leases = [Lease("places", 2, name) for name in ("a", "b", "c")]
    for lease, refused in zip(leases, (None, None, leases[2]), strict=True):
        assert (await store.claim([], lease)).refused == refused
    store.release(leases[0])
    store.release(leases[0])
    store.release(leases[2])
    assert (await store.claim([], Lease("places", 2, "d"))).refused is None
    assert (await store.claim([], Lease("places", 2, "e"))).refused is not None


@pytest.mark.parametrize(("by", "used"), [(-30, 10), (25, 65), (-1000, 0)])
async def test_a_correction_counts_in_its_window(store: Store, by: int, used: int) -> None:
    """Less or more than was claimed, but never less than nothing."""
    standing = (await store.claim([TOKENS])).standings[0]
    store.correct(TOKENS, standing, by)
    assert (await store.claim([Claim("tokens", 1000, 60, 0)])).standings[0].used == used


async def test_nothing_is_given_back_to_a_window_that_did_not_grant_it(store: Store) -> None:
    """What an old window granted is over with it; what was used beyond it counts now."""
    old = (await store.claim([TOKENS])).standings[0]
    await store.end("tokens")
    store.correct(TOKENS, old, -40)
    new = (await store.claim([TOKENS])).standings[0]
    assert new.used == 40
    store.correct(TOKENS, Standing(40, old.reset, old.until - 1000), -40)  # windows of one key end a second apart
    assert (await store.claim([Claim("tokens", 1000, 60, 0)])).standings[0].used == 40
    store.correct(TOKENS, old, 7)
    assert (await store.claim([Claim("tokens", 1000, 60, 0)])).standings[0].used == 47


async def test_more_than_was_claimed_counts_even_when_the_window_is_over(store: Store) -> None:
    """A call that ends in another window than it began in."""
    old = (await store.claim([TOKENS])).standings[0]
    await store.end("tokens")
    store.correct(TOKENS, old, 33)
    assert (await store.claim([Claim("tokens", 1000, 60, 0)])).standings[0].used == 33


async def test_claims_at_the_same_time_share_exactly(store: Store) -> None:
    """A hundred at once, of which fifty fit."""
    claim = Claim("many", 50, 60)
    grants = await asyncio.gather(*(store.claim([claim]) for _ in range(100)))
    assert sum(grant.refused is None for grant in grants) == 50
