import asyncio

import pytest

from policies.cache_writer import CacheWriter
from proxy.entries import StoreUnavailable


async def test_jobs_are_done_in_order_and_off_the_path() -> None:
    """`add` returns before anything is done; `emptied` once everything is."""
    writer, done = CacheWriter("w", 100), list[int]()
    await writer.start()

    def job(number: int) -> None:
        async def work() -> None:
            await asyncio.sleep(0)
            done.append(number)

        writer.add(work, 1)

    for number in range(5):
        job(number)
    assert done == []
    await writer.emptied()
    assert done == [0, 1, 2, 3, 4]
    assert writer.done == 5
    await writer.aclose()


async def test_what_does_not_fit_is_dropped_and_counted() -> None:
    """The bound is on what waits; when that is done there is room again."""
    writer, go = CacheWriter("w", 100), asyncio.Event()
    await writer.start()

    async def work() -> None:
        await go.wait()

    for _ in range(3):
        writer.add(work, 60)
    assert writer.dropped == 2
    go.set()
    await writer.emptied()
    writer.add(work, 60)
    await writer.emptied()
    assert (writer.done, writer.dropped) == (2, 2)
    await writer.aclose()


async def test_a_job_that_fails_does_not_end_the_work(caplog: pytest.LogCaptureFixture) -> None:
    """An unavailable store is counted; a fault of ours is in the log with its traceback."""
    writer = CacheWriter("w", 100)
    await writer.start()

    async def unavailable() -> None:
        raise StoreUnavailable("away")

    async def fault() -> None:
        raise ZeroDivisionError

    async def good() -> None: ...

    for job in (unavailable, fault, good):
        writer.add(job, 60)
        await writer.emptied()
    assert (writer.failed, writer.done) == (1, 1)
    assert "ZeroDivisionError" in caplog.text
    await writer.aclose()


async def test_the_end_waits_for_what_is_there() -> None:
    """What was added before is done."""
    writer, done = CacheWriter("w", 100), list[int]()
    await writer.start()

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)

    writer.add(work, 1)
    await writer.aclose()
    assert done == [1]


async def test_one_that_never_started_ends() -> None:
    """A start that failed elsewhere closes it too."""
    await CacheWriter("w", 100).aclose()
