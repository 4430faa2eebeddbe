"""How many may watch, counted as they ask."""

from collections.abc import AsyncIterator, Iterator

import pytest

from proxy.call import Record
from proxy.errors import Overloaded
from proxy.live import Live
from proxy.pulse import Pulse
from proxy.traffic import Traffic


class NoCalls:
    """What happened of late."""

    def latest(self) -> Iterator[Record]:
        return iter(())

    def find(self, _id: str) -> Record | None:
        return None


@pytest.fixture
def live() -> Live:
    """That of an instance that goes down: a stream ends after its first event."""
    return Live(
        traffic=Traffic(lambda: 1_000_000.0),
        recent=NoCalls(),
        pulse=Pulse(),
        state=dict,
        deployments=list,
        draining=lambda: True,
    )


def watched(live: Live, number: int) -> list[AsyncIterator[bytes]]:
    return [live.watch("1h") for _ in range(number)]


async def test_a_burst_of_watchers_is_counted_before_any_stream_begins(live: Live) -> None:
    """Twenty, not as many as ask before the first is sent anything."""
    streams = watched(live, 20)
    with pytest.raises(Overloaded):
        live.watch("1h")
    assert live.overview("1h")["state"]["watchers"] == len(streams)


async def test_a_place_comes_back_when_its_stream_ends_or_never_began(live: Live) -> None:
    """Also of a client that left in between, whose stream nobody reads."""
    streams = watched(live, 20)
    async for _ in streams[0]:
        pass
    anew = watched(live, 1)
    with pytest.raises(Overloaded):
        live.watch("1h")
    del streams[5:10]
    anew += watched(live, 5)
    with pytest.raises(Overloaded):
        live.watch("1h")
