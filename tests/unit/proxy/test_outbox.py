import asyncio
import os
from pathlib import Path

import pytest
from support.calls import Clock

from proxy.call import Attempt, Record, Usage
from proxy.outbox import Batch, Outbox
from proxy.segments import Cursor, Tail, frame_of, path_of, starts_in

ROOMY = 1_000_000
FRAME = len(frame_of(Record(id="0" * 32, endpoint="chat", started=1.0)))


def record(number: int) -> Record:
    return Record(id=f"{number:032x}", endpoint="chat", started=1.0)


def numbers(batch: Batch) -> list[int]:
    return [int(each.id, 16) for _, each in batch]


def tail_of(folder: Path, position: int = 0) -> list[int]:
    tail = Tail(folder, position)
    found = []
    while batch := tail.read():
        found += [int(each.record.id, 16) for each in batch]
    tail.close()
    return found


def fill(outbox: Outbox, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        outbox.write(record(number))


async def test_a_reader_gets_every_record_in_order_and_whole(tmp_path: Path) -> None:
    """From disk what was there before it, from memory what comes after; texts come with the files."""
    outbox = Outbox(tmp_path, ROOMY)
    full = Record(
        id="f" * 32,
        endpoint="chat",
        started=2.5,
        attempts=[Attempt("p", "m", kind="ok")],
        usage=Usage(1, 2),
        cost=3,
        candidates=[("a", 0.5, "far")],
    )
    outbox.append(full, b"texts")
    reader = outbox.reader("ledger")
    assert [each for _, each in reader.take()] == [full]
    fill(outbox, 3)
    assert numbers(reader.take()) == [0, 1, 2]
    assert reader.take() == []
    stored = Tail(tmp_path, 0).read()
    assert (stored[0].record, stored[0].texts, stored[1].texts) == (full, b"texts", b"")
    await outbox.aclose()


async def test_what_was_committed_never_comes_again_and_what_was_not_does(tmp_path: Path) -> None:
    """After a restart a reader goes on from its cursor."""
    outbox = Outbox(tmp_path, ROOMY)
    fill(outbox, 10)
    reader = outbox.reader("ledger")
    batch = reader.take()
    reader.commit(batch[3][0])
    await outbox.aclose()
    again = Outbox(tmp_path, ROOMY)
    assert numbers(again.reader("ledger").take()) == [4, 5, 6, 7, 8, 9]
    assert numbers(again.reader("another").take()) == list(range(10))
    await again.aclose()


async def test_batches_wait_for_news_and_end_when_the_outbox_closes(tmp_path: Path) -> None:
    """A reader that iterates is woken by the next record, and gets what was written at the very end."""
    outbox = Outbox(tmp_path, ROOMY)
    reader = outbox.reader("ledger")
    seen: list[int] = []
    both = asyncio.Event()

    async def follow() -> None:
        async for batch in reader.batches(linger=0.0):
            seen.extend(numbers(batch))
            reader.commit(batch[-1][0])
            if len(seen) == 2:
                both.set()

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    fill(outbox, 2)
    await asyncio.wait_for(both.wait(), 5)
    assert reader.lag == 0
    fill(outbox, 1, first=2)
    await outbox.aclose()
    await asyncio.wait_for(task, 5)
    assert seen == [0, 1, 2]


async def test_what_comes_while_a_batch_is_dealt_with_waits_for_others_too(tmp_path: Path) -> None:
    """A fast reader under load gets large batches, not whatever came in between."""
    outbox = Outbox(tmp_path, ROOMY)
    batches = outbox.reader("ledger").batches(limit=10, linger=0.05)
    fill(outbox, 1)
    assert numbers(await anext(batches)) == [0]
    fill(outbox, 1, first=1)
    coming = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    assert not coming.done()
    fill(outbox, 1, first=2)
    assert numbers(await coming) == [1, 2]
    await outbox.aclose()


async def test_a_reader_that_is_behind_waits_for_nobody(tmp_path: Path) -> None:
    """Nor for a batch to be full where large texts on disk make it small."""
    outbox = Outbox(tmp_path, 10 * ROOMY)
    for number in range(6):
        outbox.append(record(number), b"x" * 100_000)
    batches = outbox.reader("ledger").batches(limit=10, linger=3600.0)
    read = [numbers(await asyncio.wait_for(anext(batches), 5)) for _ in range(3)]
    assert read == [[0, 1], [2, 3], [4, 5]]
    await outbox.aclose()


async def test_after_a_full_batch_the_next_waits_for_nobody(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, ROOMY)
    reader = outbox.reader("ledger")
    assert reader.take() == []
    fill(outbox, 25)
    batches = reader.batches(limit=10, linger=3600.0)
    read = [numbers(await asyncio.wait_for(anext(batches), 5)) for _ in range(3)]
    assert read == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    await outbox.aclose()


async def test_a_file_goes_when_every_reader_has_passed_it_and_not_before(tmp_path: Path) -> None:
    """Readers of other processes count by their cursors on disk."""
    outbox = Outbox(tmp_path, 16 * 10 * FRAME)
    mine = outbox.reader("ledger")
    outbox.follow("mlflow")
    fill(outbox, 35)
    assert len(starts_in(tmp_path)) == 4
    mine.commit(outbox.end)
    outbox.tidy()
    assert len(starts_in(tmp_path)) == 4
    Cursor(tmp_path, "mlflow").save(starts_in(tmp_path)[2])
    outbox.tidy()
    assert tail_of(tmp_path) == list(range(20, 35))
    assert (outbox.dropped, outbox.state(), outbox.lag("mlflow")) == (0, "ok", 15 * FRAME)
    await outbox.aclose()


async def test_without_readers_records_stay_up_to_the_cap(tmp_path: Path) -> None:
    """The newest; what nobody waited for is no loss."""
    outbox = Outbox(tmp_path, 16 * 10 * FRAME)
    fill(outbox, 1000)
    assert outbox.size <= 16 * 10 * FRAME
    assert tail_of(tmp_path)[-1] == 999
    assert len(tail_of(tmp_path)) >= 140
    assert (outbox.dropped, outbox.state()) == (0, "ok")
    await outbox.aclose()


async def test_over_the_cap_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    """Exactly those that a reader had not committed; it goes on with the oldest that are left."""
    outbox = Outbox(tmp_path, 16 * 10 * FRAME)
    outbox.follow("mlflow")
    fill(outbox, 1000)
    left = tail_of(tmp_path)
    assert outbox.dropped == 1000 - len(left)
    assert left == list(range(1000 - len(left), 1000))
    assert outbox.state() == "degraded"
    await outbox.aclose()
    tail = Tail(tmp_path, 0)
    tail.read()
    assert tail.skipped == outbox.dropped * FRAME


async def test_a_reader_in_memory_that_falls_behind_goes_on_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and nothing is missed or doubled where it changes over."""
    monkeypatch.setattr("proxy.outbox._IN_MEMORY", 10)
    outbox = Outbox(tmp_path, ROOMY)
    reader = outbox.reader("ledger")
    seen = numbers(reader.take())
    fill(outbox, 5)
    seen += numbers(reader.take(3))
    fill(outbox, 50, first=5)
    while batch := reader.take(7):
        seen += numbers(batch)
        if len(seen) == 24:
            fill(outbox, 2, first=55)
    assert seen == list(range(57))
    await outbox.aclose()


@pytest.mark.parametrize("cut", range(1, FRAME, 7))
async def test_a_torn_tail_is_cut_off_and_the_next_record_stands_in_its_place(tmp_path: Path, cut: int) -> None:
    """Wherever the process was killed in the middle of a write."""
    outbox = Outbox(tmp_path, ROOMY)
    fill(outbox, 3)
    await outbox.aclose()
    path = path_of(tmp_path, 0)
    os.truncate(path, path.stat().st_size - cut)
    again = Outbox(tmp_path, ROOMY)
    again.write(record(9))
    assert tail_of(tmp_path) == [0, 1, 9]
    await again.aclose()


@pytest.mark.parametrize("garbage", [b"\x00" * 4096, b"\xff" * 4096, b"\x05\x00\x00\x00\x00\x00\x00\x00abcd12345"])
async def test_garbage_at_the_end_is_no_record(tmp_path: Path, garbage: bytes) -> None:
    """Zeros of a lost page, lengths of nothing, a wrong checksum."""
    outbox = Outbox(tmp_path, ROOMY)
    fill(outbox, 2)
    await outbox.aclose()
    with path_of(tmp_path, 0).open("ab") as file:
        file.write(garbage)
    assert tail_of(tmp_path) == [0, 1]
    again = Outbox(tmp_path, ROOMY)
    again.write(record(2))
    assert tail_of(tmp_path) == [0, 1, 2]
    await again.aclose()


async def test_damage_in_the_middle_costs_the_rest_of_its_file_only(tmp_path: Path) -> None:
    """A flipped bit is found by the checksum; the next file is read from its beginning."""
    outbox = Outbox(tmp_path, 16 * 10 * FRAME)
    fill(outbox, 25)
    await outbox.aclose()
    with path_of(tmp_path, starts_in(tmp_path)[1]).open("r+b") as file:
        file.seek(5 * FRAME + 20)
        file.write(b"\xaa")
    tail = Tail(tmp_path, 0)
    seen = []
    while batch := tail.read():
        seen += [int(each.record.id, 16) for each in batch]
    assert seen == [*range(15), *range(20, 25)]
    assert tail.skipped == 5 * FRAME
    tail.close()


async def test_what_the_disk_refuses_is_counted_and_readers_in_memory_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short write is taken back: what follows, once there is room, is whole."""
    outbox = Outbox(tmp_path, ROOMY)
    reader = outbox.reader("ledger")
    assert reader.take() == []
    fill(outbox, 1)
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:30]))
    fill(outbox, 1, first=1)
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    fill(outbox, 1, first=2)
    monkeypatch.undo()
    fill(outbox, 1, first=3)
    assert numbers(reader.take()) == [0, 1, 2, 3]
    assert tail_of(tmp_path) == [0, 3]
    assert (outbox.lost, outbox.state()) == (2, "degraded")
    await outbox.aclose()


async def test_a_short_write_that_cannot_be_taken_back_harms_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The torn frame ends its file; the next record begins another."""
    outbox = Outbox(tmp_path, ROOMY)
    fill(outbox, 2)
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:30]))
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    fill(outbox, 1, first=2)
    monkeypatch.undo()
    fill(outbox, 2, first=3)
    assert tail_of(tmp_path) == [0, 1, 3, 4]
    await outbox.aclose()


async def test_an_old_file_that_everyone_has_read_goes_though_nothing_new_comes(tmp_path: Path) -> None:
    """Texts of an idle gateway do not lie about for ever."""
    clock = Clock()
    outbox = Outbox(tmp_path, ROOMY, clock)
    reader = outbox.reader("ledger")
    fill(outbox, 3)
    reader.commit(reader.take()[-1][0])
    outbox.tidy()
    assert tail_of(tmp_path) == [0, 1, 2]
    clock.now += 3601
    outbox.tidy()
    assert tail_of(tmp_path) == []
    fill(outbox, 1, first=3)
    assert numbers(reader.take()) == [3]
    await outbox.aclose()


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    """0700 and 0600."""
    outbox = Outbox(tmp_path / "outbox", ROOMY)
    fill(outbox, 1)
    outbox.reader("ledger").commit(outbox.end)
    await outbox.aclose()
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "outbox").iterdir()} == {0o600}
