"""Limits kept in memory: windows, places, and the `limits` library on top."""

from limits import RateLimitItemPerMinute
from limits.aio.strategies import FixedWindowRateLimiter
from support.calls import Clock

from adapters.limits_storage import LazyStorage
from proxy.claims import Claim, Lease

MINUTE = 60


def windows(store: LazyStorage) -> int:
    return sum(len(each) for each in store._lengths.values())


async def test_a_window_begins_with_its_first_claim_and_is_over_to_the_moment() -> None:
    """Its reset is exact, and after it everything is free again."""
    clock = Clock()
    store = LazyStorage(clock)
    claim = Claim("k", 2, MINUTE)
    assert [(await store.claim([claim])).refused for _ in range(3)] == [None, None, claim]
    clock.now += 59.5
    grant = await store.claim([claim])
    assert (grant.refused, grant.standings[0].used, grant.standings[0].reset) == (claim, 2, 0.5)
    clock.now += 0.5
    grant = await store.claim([claim])
    assert (grant.refused, grant.standings[0].used, grant.standings[0].reset) == (None, 1, 60)


async def test_what_is_over_is_forgotten_a_little_with_every_claim() -> None:
    """Ten thousand old windows cost no claim more than two of them, and are gone after half as many claims."""
    clock = Clock()
    store = LazyStorage(clock)
    for number in range(10_000):
        await store.claim([Claim(f"k{number}", 1, MINUTE)])
    assert windows(store) == 10_000
    clock.now += MINUTE
    await store.claim([Claim("new", 10_000, MINUTE)])
    assert windows(store) == 10_000 + 1 - 2
    for _ in range(5000):
        await store.claim([Claim("new", 10_000, MINUTE)])
    assert windows(store) == 1


async def test_windows_of_different_lengths_do_not_keep_each_other_alive() -> None:
    """A day's window in front delays no second's."""
    clock = Clock()
    store = LazyStorage(clock)
    await store.claim([Claim("day", 1, 86400)])
    for number in range(100):
        await store.claim([Claim(f"second{number}", 1, 1)])
    clock.now += 1
    for number in range(100):
        await store.claim([Claim(f"again{number}", 1, 1)])
    clock.now += 1
    await store.claim([Claim("last", 1, 1)])
    assert windows(store) <= 1 + 100 + 1


async def test_places_that_nobody_holds_leave_nothing_behind() -> None:
    """Memory does not grow with the names of callers that were here."""
    store = LazyStorage(Clock())
    for number in range(1000):
        lease = Lease(f"k{number}", 1, "x")
        await store.claim((), lease)
        store.release(lease)
    assert not store._places


async def test_the_librarys_strategies_run_on_it() -> None:
    """It is a storage of `limits` like any other."""
    clock, wall = Clock(), Clock(5000)
    store = LazyStorage(clock, wall)
    limiter, item = FixedWindowRateLimiter(store), RateLimitItemPerMinute(2)
    assert [await limiter.hit(item, "a") for _ in range(3)] == [True, True, False]
    assert await limiter.test(item, "b")
    stats = await limiter.get_window_stats(item, "a")
    assert (stats.reset_time, stats.remaining) == (5060, 0)
    clock.now += MINUTE
    assert await limiter.hit(item, "a")
    await limiter.clear(item, "a")
    assert (await limiter.get_window_stats(item, "a")).remaining == 2
    assert await store.check()
    await limiter.hit(item, "a")
    assert (await store.reset(), windows(store)) == (1, 0)
