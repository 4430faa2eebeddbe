"""The loop's timekeeping, on a loop whose clock the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from proxy.pulse import Pulse


class Loop:
    """As much of a loop as a timer needs."""

    def __init__(self) -> None:
        self.now = 50.0
        self.due: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        self.due = (when, callback)

    def fire(self, late: float = 0.0) -> None:
        assert self.due is not None
        when, callback = self.due
        self.now = when + late
        callback()


def started() -> tuple[Pulse, Loop]:
    pulse, loop = Pulse(), Loop()
    pulse._loop = cast("asyncio.AbstractEventLoop", loop)
    pulse._wait(pulse._loop)
    return pulse, loop


def test_the_worst_delay_is_told_for_ten_seconds() -> None:
    pulse, loop = started()
    loop.fire(late=0.03)
    loop.fire()
    assert round(pulse.worst, 3) == 0.03
    for _ in range(90):
        loop.fire()
    assert round(pulse.worst, 3) == 0.03
    for _ in range(20):
        loop.fire()
    assert pulse.worst < 0.001
    assert sum(pulse.lag.counts) == 112


def test_a_loop_that_was_held_for_a_second_is_degraded() -> None:
    pulse, loop = started()
    loop.fire(late=0.9)
    assert pulse.state() == "ok"
    loop.fire(late=1.2)
    assert pulse.state() == "degraded"


def test_what_held_the_loop_before_anybody_could_come_is_forgotten() -> None:
    """What was told of it, and the delay that goes on: else every start would look like trouble for ten seconds."""
    pulse, loop = started()
    loop.fire(late=4.0)
    loop.now += 3.0
    pulse.forget()
    assert pulse.state() == "ok"
    loop.fire(late=0.01)
    assert pulse.state() == "ok"
    assert round(pulse.worst, 3) == 0.01


async def test_who_waits_is_woken_every_second_and_at_the_end() -> None:
    """One that is cancelled takes nothing from the others."""
    pulse = Pulse()
    await pulse.start()
    first, second = (asyncio.create_task(pulse.beat()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 10)
    last = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0)
    await pulse.aclose()
    await last
    await pulse.beat()
    assert first.cancelled()
