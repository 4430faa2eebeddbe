"""Who waits longer than most is noticed, once, and nobody else."""

import asyncio

from proxy.presence import Presence


class Asker:
    """A client that notes when it is told that it waits."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def wait_longer(self) -> None:
        self.told.append(asyncio.get_running_loop().time())


async def test_a_client_is_told_once_that_it_waits() -> None:
    """20 ms after it asked at the earliest, also when others come and go all the time."""
    presence, loop = Presence(), asyncio.get_running_loop()
    patient, began = Asker(), loop.time()
    presence.add(patient, loop)
    quick: list[Asker] = []
    async with asyncio.timeout(10):
        while len(quick) < 100 or not patient.told:
            quick.append(Asker())
            presence.add(quick[-1], loop)
            await asyncio.sleep(0.001)
            presence.remove(quick[-1])
    await asyncio.sleep(0.05)
    assert len(patient.told) == 1
    assert patient.told[0] - began >= 0.02


async def test_whoever_has_an_answer_is_not_told_and_not_kept() -> None:
    """Nothing goes round when nobody waits, and it begins again with the next."""
    presence, loop = Presence(), asyncio.get_running_loop()
    for _ in range(2):
        gone = Asker()
        presence.add(gone, loop)
        presence.remove(gone)
        presence.remove(gone)
        late = Asker()
        presence.add(late, loop)
        async with asyncio.timeout(10):
            while not late.told:  # noqa: ASYNC110 - a client that is told signals nobody
                await asyncio.sleep(0.005)
        assert gone.told == []
        async with asyncio.timeout(10):
            while presence._round is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert presence._since == {}
