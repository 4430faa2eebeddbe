"""So many calls at a time, and a short line in front."""

import asyncio

import pytest

from proxy.errors import Overloaded
from proxy.places import Capacity, Places

ONE = Capacity(calls=1, queue=3, wait=5)


async def settle() -> None:
    """Let everyone who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_are_taken_and_given_back() -> None:
    """Twice given back is once; what holds none gives none."""
    places = Places()
    two = Capacity(calls=2)
    assert [places.take(name, two) for name in "abc"] == [True, True, False]
    places.leave("c")
    places.leave("a")
    places.leave("a")
    assert [places.take(name, two) for name in "de"] == [True, False]


async def test_who_came_first_goes_first_and_nobody_passes_the_line() -> None:
    """Not even one who comes when a place has just become free."""
    places, order = Places(), []

    async def one(name: str) -> None:
        if not places.take(name, ONE):
            await places.queue(name, ONE)
        order.append(name)

    await one("a")
    tasks = [asyncio.create_task(one(name)) for name in "bcd"]
    await settle()
    for leaving in "abc":
        places.leave(leaving)
        assert not places.take("late", ONE)
        await settle()
    await asyncio.gather(*tasks)
    assert order == list("abcd")
    places.leave("d")
    assert places.take("late", ONE)


async def test_a_full_line_and_a_long_wait_are_overload() -> None:
    """With a time to come back after."""
    places, hasty = Places(), Capacity(calls=1, queue=1, wait=0.02)
    assert places.take("a", hasty)
    waiting = asyncio.create_task(places.queue("b", hasty))
    await settle()
    with pytest.raises(Overloaded) as caught:
        await places.queue("c", hasty)
    assert caught.value.headers["retry-after"] == "1"
    with pytest.raises(Overloaded):
        await waiting
    places.leave("a")
    assert places.take("d", hasty)


async def test_without_a_line_nobody_waits() -> None:
    """`queue: 0`."""
    places, none = Places(), Capacity(calls=1)
    assert places.take("a", none)
    with pytest.raises(Overloaded):
        await places.queue("b", none)


async def test_a_leaver_leaves_the_line() -> None:
    """It counts in the line no more, and gets no place."""
    places, short = Places(), Capacity(calls=1, queue=1, wait=5)
    assert places.take("a", short)
    gone = asyncio.create_task(places.queue("b", short))
    await settle()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    stays = asyncio.create_task(places.queue("c", short))
    await settle()
    places.leave("a")
    await stays
    assert not places.take("d", short)


async def test_a_place_that_came_as_its_holder_left_goes_to_the_next() -> None:
    """Otherwise it would be lost for ever."""
    places = Places()
    assert places.take("a", ONE)
    gone = asyncio.create_task(places.queue("b", ONE))
    stays = asyncio.create_task(places.queue("c", ONE))
    await settle()
    places.leave("a")  # b's turn, which b has not noticed yet
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await stays
    places.leave("c")
    assert places.take("d", ONE)


async def test_a_smaller_capacity_holds_as_soon_as_places_are_given_back() -> None:
    """After a reload nobody is thrown out, and nobody let in over the new number."""
    places, three = Places(), Capacity(calls=3, queue=1, wait=5)
    for name in "abc":
        assert places.take(name, three)
    assert not places.take("d", ONE)
    waiting = asyncio.create_task(places.queue("d", ONE))
    await settle()
    for name in "ab":
        places.leave(name)
        await settle()
        assert not waiting.done()
    places.leave("c")
    await waiting
