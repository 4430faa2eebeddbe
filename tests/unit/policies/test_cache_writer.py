import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from policies.cache_writer import CacheWriter, Job
from proxy.entries import Entry, StoreUnavailable


class Puts:
    """A store that keeps what was put, page by page; `away` says how many puts fail first."""

    dims = 0

    def __init__(self, away: int = 0) -> None:
        self.pages: list[list[str]] = []
        self._away = away

    async def put(self, entries: Sequence[Entry]) -> None:
        await asyncio.sleep(0)
        if self._away:
            self._away -= 1
            raise StoreUnavailable("away")
        self.pages.append([each.id for each in entries])


def make(limit: int = 10_000, away: int = 0) -> tuple[CacheWriter, list[list[str]]]:
    store: Any = Puts(away)
    return CacheWriter("w", limit, store), store.pages


def job(*ids: str) -> Job:
    async def entries() -> list[Entry]:
        return [
            Entry(id=each, partition="p", route="r", fingerprint="f", body=b"", created=1, expires_at=2, meta={})
            for each in ids
        ]

    return entries


async def test_jobs_are_done_in_order_and_off_the_path() -> None:
    """`add` returns before anything is done; `emptied` once everything is put."""
    writer, pages = make()
    await writer.start()
    for number in range(5):
        writer.add(job(str(number)), 1)
    assert (pages, writer.done) == ([], 0)
    await writer.emptied()
    assert [each for page in pages for each in page] == ["0", "1", "2", "3", "4"]
    assert writer.done == 5
    await writer.aclose()


async def test_what_waits_is_put_together() -> None:
    """A hundred that wait are a few puts and not a hundred: each put may cost a turn of a busy loop."""
    writer, pages = make()
    for number in range(100):
        writer.add(job(str(number)), 1)
    await writer.start()
    await writer.emptied()
    assert [each for page in pages for each in page] == [str(number) for number in range(100)]
    assert len(pages) <= 4
    await writer.aclose()


async def test_what_does_not_fit_is_dropped_and_counted() -> None:
    """The bound is on what waits; when that is done there is room again."""
    writer, go = make(100)[0], asyncio.Event()
    await writer.start()

    async def work() -> tuple[Entry, ...]:
        await go.wait()
        return ()

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
    """An unavailable store is counted; a fault of ours is in the log with its traceback, and takes no other with it."""
    writer, pages = make()

    async def unavailable() -> tuple[Entry, ...]:
        raise StoreUnavailable("away")

    async def fault() -> tuple[Entry, ...]:
        raise ZeroDivisionError

    for each in (job("before"), unavailable, fault, job("after")):
        writer.add(each, 60)
    await writer.start()
    await writer.emptied()
    assert (writer.failed, writer.done) == (1, 2)
    assert [each for page in pages for each in page] == ["before", "after"]
    assert "ZeroDivisionError" in caplog.text
    await writer.aclose()


async def test_a_put_that_fails_is_counted_for_each_of_its_jobs() -> None:
    """And the next are put."""
    writer, pages = make(away=1)
    for number in range(3):
        writer.add(job(str(number)), 1)
    await writer.start()
    await writer.emptied()
    writer.add(job("next"), 1)
    await writer.emptied()
    assert (writer.failed, writer.done, pages) == (3, 1, [["next"]])
    await writer.aclose()


async def test_the_end_waits_for_what_is_there() -> None:
    """What was added before is done."""
    writer, pages = make()
    await writer.start()
    writer.add(job("1"), 1)
    await writer.aclose()
    assert pages == [["1"]]


async def test_one_that_never_started_ends() -> None:
    """A start that failed elsewhere closes it too."""
    await make()[0].aclose()
