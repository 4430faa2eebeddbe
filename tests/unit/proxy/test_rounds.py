"""Who is there for long is told of, once, and nobody else."""

import asyncio

from proxy.rounds import Rounds

AFTER = 0.02


class Told:
    """Notes what it is told of, and when."""

    def __init__(self) -> None:
        self.at: dict[str, list[float]] = {}
        self.rounds = Rounds[str](AFTER, AFTER / 2, self.tell)

    def tell(self, thing: str) -> None:
        self.at.setdefault(thing, []).append(asyncio.get_running_loop().time())

    async def until(self, thing: str) -> None:
        async with asyncio.timeout(10):
            while thing not in self.at:  # noqa: ASYNC110 - what is told of signals nobody
                await asyncio.sleep(0.005)


async def test_what_stays_is_told_of_once() -> None:
    """Not before its time, also when others come and go all the while."""
    told, loop = Told(), asyncio.get_running_loop()
    began = loop.time()
    told.rounds.add("patient", loop)
    for number in range(100):
        told.rounds.add(f"quick {number}", loop)
        await asyncio.sleep(0.001)
        told.rounds.remove(f"quick {number}")
    await told.until("patient")
    await asyncio.sleep(3 * AFTER)
    assert len(told.at["patient"]) == 1
    assert told.at["patient"][0] - began >= AFTER


async def test_what_is_removed_is_neither_told_of_nor_kept() -> None:
    """Nothing goes round when nothing is there, and it begins again with the next."""
    told, loop = Told(), asyncio.get_running_loop()
    for number in range(2):
        told.rounds.add("gone", loop)
        told.rounds.remove("gone")
        told.rounds.remove("gone")
        told.rounds.add(f"late {number}", loop)
        await told.until(f"late {number}")
        assert "gone" not in told.at
        assert (told.rounds._since, told.rounds._round) == ({}, None)


async def test_what_is_told_of_may_come_again_at_once() -> None:
    """In the very moment in which it is told of."""
    loop = asyncio.get_running_loop()
    seen: list[str] = []

    def tell(thing: str) -> None:
        seen.append(thing)
        if len(seen) < 3:
            rounds.add(thing, loop)

    rounds = Rounds[str](0.0, 0.001, tell)
    rounds.add("again", loop)
    async with asyncio.timeout(10):
        while len(seen) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    await asyncio.sleep(0.01)
    assert seen == ["again"] * 3
