"""What holds for every store, and what holds for the embedded one alone."""

import asyncio
import contextlib
import math
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.calls import Clock
from support.entries import at, entry_of
from support.qdrant_stand_in import qdrant_stand_in

from adapters.qdrant import Collection, EmbeddedQdrant
from adapters.qdrant_server import QdrantServer
from adapters.transport_aiohttp import AiohttpTransport
from policies.cache_store import Store
from proxy.config import Qdrant
from proxy.entries import EVERYTHING, Selection, StoreUnavailable
from proxy.values import Duration

GIGABYTES = 10**11


def collection(folder: Path, clock: Clock, dims: int = 0, **settings: object) -> Collection:
    """A collection that is open."""
    made = Collection(folder, dims, Qdrant(**settings), clock, lambda _folder: GIGABYTES)  # type: ignore[arg-type]
    made.open()
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock(1500.0)


@pytest.fixture(params=["embedded", "server"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[tuple[Store, Store]]:
    """A collection without vectors, and one with vectors of two; on the engine itself, and on a server's stand-in."""
    if request.param == "embedded":
        async with opened(EmbeddedQdrant(tmp_path, Qdrant(), clock, lambda _folder: GIGABYTES)) as both:
            yield both
        return
    async with qdrant_stand_in() as server:
        config = Qdrant(url=server.url, timeout=Duration(5), cool_down=Duration(0.1))
        transport = AiohttpTransport(ssl.create_default_context(), agent="test")
        async with opened(QdrantServer(config, transport, clock)) as both:
            yield both


@contextlib.asynccontextmanager
async def opened(service: EmbeddedQdrant | QdrantServer) -> AsyncIterator[tuple[Store, Store]]:
    """The two collections of a service that runs."""
    both = service.collection("exact", 0), service.collection("semantic", 2)
    await service.start()
    async with asyncio.timeout(60):
        while service.state() != "ok":  # noqa: ASYNC110 - a slow disk: its collections are made in the background then
            await asyncio.sleep(0.05)
    try:
        yield both
    finally:
        await service.aclose()


Stores = tuple[Store, Store]


async def test_what_was_put_comes_back_as_it_was(stores: Stores) -> None:
    """Body byte for byte, meta value for value; the last put counts."""
    store, _ = stores
    assert store.dims == 0
    odd = entry_of("a", body='{"text":"\\u0000 é\\n☃"}'.encode(), meta={"shape": "whole", "n": [1, 2.5, None, True]})
    await store.put([entry_of("a"), entry_of("b")])
    await store.put([odd])
    assert await store.get([odd.id, entry_of("b").id, entry_of("c").id]) == {
        odd.id: odd,
        entry_of("b").id: entry_of("b"),
    }
    assert await store.count() == 2


async def test_what_takes_no_waiting_is_the_same(stores: Stores) -> None:
    """A server says nothing at once."""
    store, _ = stores
    entry = entry_of("a", meta={"shape": "whole"})
    await store.put([entry])
    assert store.get_now(entry.id) == (entry if isinstance(store, Collection) else None)
    assert store.get_now(entry_of("b").id) is None


async def test_an_expired_entry_is_never_returned(stores: Stores, clock: Clock) -> None:
    """From `expires_at` on, by no way; before, by all."""
    plain, plane = stores
    await plain.put([entry_of("a")])
    await plane.put([entry_of("a", vector=at(0))])
    for now, there in ((1999.9, 1), (2000.0, 0)):
        clock.now = now
        assert len(await plain.get([entry_of("a").id])) == there
        assert (plain.get_now(entry_of("a").id) is not None) == (there and isinstance(plain, Collection))
        found = await plane.query(at(0), partition="p", fingerprint=entry_of("a").fingerprint, limit=5, floor=0.5)
        assert len(found) == there


async def test_a_query_sees_its_own_partition_and_fingerprint_only(stores: Stores) -> None:
    """Nearest first, none under the floor, none of another's."""
    _, store = stores
    mine = [entry_of(str(angle), fingerprint="f", vector=at(angle)) for angle in (0, 10, 20, 80)]
    others = [
        entry_of("other partition", partition="q", fingerprint="f", vector=at(0)),
        entry_of("other fingerprint", fingerprint="g", vector=at(0)),
    ]
    await store.put([*mine, *others])
    found = await store.query(at(1), partition="p", fingerprint="f", limit=2, floor=0.9)
    assert [each.entry.id for each in found] == [mine[0].id, mine[1].id]
    assert found[0].similarity == pytest.approx(math.cos(math.radians(1)), abs=1e-5)
    assert len(await store.query(at(1), partition="p", fingerprint="f", limit=9, floor=0.9)) == 3
    assert found[0].entry.body == mine[0].body


async def test_meta_can_be_amended(stores: Stores) -> None:
    """One member changes, the others stay; an entry that is not there stays away."""
    store, _ = stores
    await store.put([entry_of("a", meta={"kept": 1, "changed": 1})])
    await store.amend(entry_of("a").id, {"changed": [2]})
    await store.amend(entry_of("b").id, {"changed": 2})
    found = await store.get([entry_of("a").id, entry_of("b").id])
    assert {entry_id: each.meta for entry_id, each in found.items()} == {entry_of("a").id: {"kept": 1, "changed": [2]}}


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (EVERYTHING, set()),
        (Selection(partition="p"), {"c"}),
        (Selection(route="s"), {"a", "c"}),
        (Selection(partition="q", route="s"), {"a", "b", "c"}),
        (Selection(created_before=500), {"a", "b"}),
        (Selection(expired_at=2000), {"b"}),
        (Selection(fingerprint=entry_of("a").fingerprint), {"b", "c"}),
        (Selection(ids=(entry_of("a").id, entry_of("c").id)), {"b"}),
        (Selection(ids=()), {"a", "b", "c"}),
    ],
    ids=["everything", "partition", "route", "both", "age", "expiry", "fingerprint", "ids", "no ids"],
)
async def test_only_what_is_meant_is_removed(stores: Stores, selection: Selection, left: set[str]) -> None:
    """And counted alike."""
    store, _ = stores
    entries = {
        "a": entry_of("a"),
        "b": entry_of("b", route="s", expires_at=2001),
        "c": entry_of("c", partition="q", created=499),
    }
    await store.put(list(entries.values()))
    assert await store.count(selection) == 3 - len(left)
    assert await store.delete(selection) == 3 - len(left)
    found = await store.get([each.id for each in entries.values()])
    assert set(found) == {entries[name].id for name in left}


async def test_many_entries_are_put_and_removed_page_by_page(stores: Stores) -> None:
    """More than one page of each."""
    store, _ = stores
    entries = [entry_of(str(number)) for number in range(150)]
    await store.put(entries)
    assert len(await store.get([each.id for each in entries])) == 150
    assert await store.delete(Selection(route="r")) == 150
    assert await store.count() == 0


async def test_what_was_stored_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    """Closed and opened again: the same entries, and which of two is the later."""
    store = collection(tmp_path / "c", clock, max_entries=10)
    for number in range(3):
        await store.put([entry_of("a", body=b"%d" % number), entry_of(str(number))])
    store.close()
    again = collection(tmp_path / "c", clock, max_entries=10)
    found = await again.get([entry_of("a").id, entry_of("0").id])
    assert {each.body for each in found.values()} == {b"2", entry_of("0").body}
    again.close()


async def test_the_oldest_entries_are_evicted(tmp_path: Path, clock: Clock) -> None:
    """Never more than `max_entries`, never fewer than half of them once there were enough, always the newest."""
    store = collection(tmp_path / "c", clock, max_entries=20)
    for number in range(100):
        await store.put([entry_of(str(number))])
        assert await store.count() <= 20
        assert number < 10 or await store.count() >= 10
        assert await store.get([entry_of(str(number)).id])
        if number > 20:
            assert await store.get([entry_of(str(number - 9)).id])
    assert len([each for each in (tmp_path / "c").iterdir() if each.name.isdigit()]) < 10
    store.close()


def shards_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.isdigit())


async def test_shards_change_when_nobody_asks(tmp_path: Path, clock: Clock) -> None:
    """Opening and closing wait for a quiet moment, and at twice the share no longer; what is dropped is gone at once."""
    store = collection(tmp_path / "c", clock, max_entries=40)
    for number in range(6):
        await store.put([entry_of(str(number))])
    await store.tend()
    assert shards_in(tmp_path / "c") == ["000001"]
    clock.now += 1
    await store.tend()
    assert shards_in(tmp_path / "c") == ["000001", "000002"]
    for number in range(6, 50):
        await store.put([entry_of(str(number))])
    assert not await store.get([entry_of("0").id])
    assert "000001" not in shards_in(tmp_path / "c")
    waiting = len(store._retired)
    await store.tend()
    assert len(store._retired) == waiting > 0
    clock.now += 1
    await store.tend()
    assert len(store._retired) == waiting - 1
    assert not list((tmp_path / "c").glob("*.dropped"))
    store.close()


async def test_the_sweeper_removes_what_has_expired(tmp_path: Path, clock: Clock) -> None:
    """Once a minute, and nothing else."""
    store = collection(tmp_path / "c", clock)
    await store.put([entry_of("a", expires_at=1510), entry_of("b", expires_at=5000)])
    clock.now = 1561
    await store.tend()
    assert await store.count() == 1
    store.close()


async def test_a_shard_that_cannot_be_opened_is_set_aside(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fresh one takes its place, the log says where the old one is, and entries can be put."""
    store = collection(tmp_path / "c", clock)
    await store.put([entry_of("a")])
    store.close()
    for log in (tmp_path / "c" / "000001" / "wal").iterdir():
        log.write_bytes(b"no log")
    store = collection(tmp_path / "c", clock)
    assert "000001.broken" in caplog.text
    assert (tmp_path / "c" / "000001.broken").is_dir()
    assert await store.get([entry_of("a").id]) == {}
    await store.put([entry_of("b")])
    assert await store.count() == 1
    assert store.state() == "ok"
    store.close()


async def test_a_shard_that_fails_is_set_aside_and_the_rest_goes_on(tmp_path: Path, clock: Clock) -> None:
    """The call on which it failed is told; the next one finds a store, and it is well again once one was put."""
    store = collection(tmp_path / "c", clock)
    await store.put([entry_of("a")])
    store._shards[0].close()  # every call of the engine fails from here on
    assert store.get_now(entry_of("a").id) is None
    assert store.state() == "ok"  # left to the call that can tell
    with pytest.raises(StoreUnavailable):
        await store.get([entry_of("a").id])
    assert store.state() == "degraded"
    assert await store.get([entry_of("a").id]) == {}
    await store.put([entry_of("b")])
    assert await store.get([entry_of("b").id])
    assert store.state() == "ok"
    store.close()


async def test_a_broken_pattern_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    """The one from which new shards are copied: one failure, then the store is well again."""
    store = collection(tmp_path / "c", clock, max_entries=8)
    (tmp_path / "c" / "pattern" / "edge_config.json").write_text("no config")
    await store.put([entry_of("a"), entry_of("b")])
    with pytest.raises(StoreUnavailable):
        await store.put([entry_of("c")])
    await store.put([entry_of("d")])
    assert set(await store.get([entry_of(name).id for name in "abcd"])) == {entry_of(name).id for name in "abd"}
    assert store.state() == "ok"
    store.close()


async def test_nothing_is_put_on_a_full_disk(tmp_path: Path, clock: Clock) -> None:
    """What is there is served; once there is room again, entries are put again."""
    free = [10**9]
    store = Collection(tmp_path / "c", 0, Qdrant(), clock, lambda _folder: free[0])
    store.open()
    await store.put([entry_of("a")])
    free[0] = 10**6
    with pytest.raises(StoreUnavailable):
        await store.put([entry_of("b")])
    assert store.state() == "degraded"
    assert await store.get([entry_of("a").id])
    free[0] = 10**9
    await store.put([entry_of("b")])
    assert store.state() == "ok"
    store.close()


async def test_vectors_of_another_length_are_refused_at_start(tmp_path: Path, clock: Clock) -> None:
    """With the command that mends it; and never put."""
    store = collection(tmp_path / "semantic", clock, dims=2)
    with pytest.raises(ValueError, match="length 3"):
        await store.put([entry_of("a", vector=[1.0, 2.0, 3.0])])
    store.close()
    with pytest.raises(OSError, match="lockgate cache migrate semantic"):
        collection(tmp_path / "semantic", clock, dims=3)


ABORTS = """
import os, sys, time
from pathlib import Path
from adapters import qdrant
from proxy.config import Qdrant

whole = qdrant.Shard
qdrant.Shard = lambda folder, dims: os._exit(134) if folder.name == "000001" else whole(folder, dims)
made = qdrant.Collection(Path(sys.argv[1]), 0, Qdrant(), time.time, lambda _: 10**11)
made.open()
print(made.state(), made._trouble, sorted(each.name for each in made._folder.iterdir() if each.name[0] == "0"))
made.close()
"""


async def test_a_shard_that_ends_the_process_is_set_aside_at_the_third_start(tmp_path: Path, clock: Clock) -> None:
    """The engine aborts over some damage: no supervisor's restarts would get past it. Once may be a kill by chance."""
    first = collection(tmp_path, clock)
    await first.put([entry_of("one")])
    first.close()

    def start() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", ABORTS, str(tmp_path)], check=False, capture_output=True, text=True
        )

    ended = [await asyncio.to_thread(start) for _ in range(3)]
    assert [each.returncode for each in ended] == [134, 134, 0]
    assert ended[2].stdout == "ok  ['000001.broken', '000002']\n"


async def test_a_shard_that_was_opened_is_trusted_again(tmp_path: Path, clock: Clock) -> None:
    """The mark of a try is gone after it; a start that was killed once changes nothing."""
    first = collection(tmp_path, clock)
    await first.put([entry_of("one")])
    first.close()
    for _ in range(3):
        (tmp_path / "000001.opening").write_bytes(b".")
        again = collection(tmp_path, clock)
        assert await again.count() == 1
        again.close()
        assert not (tmp_path / "000001.opening").exists()
