"""Answers in memory, ready to be sent: what stands in front of the store."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from policies.cache_answers import Stored, as_stream, as_whole
from proxy.call import Usage
from proxy.endpoints import Endpoint
from proxy.entries import Selection
from proxy.usage import read_usage

_OVERHEAD = 1000
"""Bytes of an answer beside its text, about."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an answer in memory beside its bytes. Times are Unix time."""

    id: str
    partition: str
    route: str
    created: float
    expires_at: float
    cost: int | None = None
    """What it cost when it was bought, in nano-USD."""

    def meant(self, selection: Selection) -> bool:
        """Whether a selection means it; what is in memory has no fingerprint to be asked for."""
        return (
            (selection.ids is None or self.id in selection.ids)
            and (selection.partition is None or selection.partition == self.partition)
            and (selection.route is None or selection.route == self.route)
            and (selection.created_before is None or self.created < selection.created_before)
        )


class Held(Protocol):
    """What can be kept in memory."""

    @property
    def facts(self) -> Facts:
        """Whose it is and how long it lasts."""
        ...

    @property
    def size(self) -> int:
        """The bytes it holds now, about."""
        ...


class Ready:
    """One answer in the shapes in which it was asked for so far."""

    __slots__ = ("_endpoint", "_streams", "facts", "fetched", "stored", "usage")

    def __init__(self, endpoint: Endpoint, stored: Stored, facts: Facts, *, fetched: bool = False) -> None:
        self.fetched = fetched
        """Whether it was read from the store for the hit that comes next."""
        self._endpoint = endpoint
        self._streams: dict[bool, bytes | None] = {}
        self.facts = facts
        self.stored = stored
        self.usage: Usage | None = read_usage(stored.usage)

    @property
    def size(self) -> int:
        """Bytes held."""
        held = len(self.stored.body) + _OVERHEAD
        return held + sum(map(len, filter(None, self._streams.values()))) if self._streams else held

    def whole(self) -> bytes | None:
        """The whole body, if the answer has that shape."""
        return as_whole(self.stored)

    def stream(self, *, usage: bool) -> bytes | None:
        """The events of the stream, one after the other, if the answer has that shape."""
        if usage not in self._streams:
            self._streams[usage] = as_stream(self._endpoint, self.stored, usage=usage)
        return self._streams[usage]


class _Place(msgspec.Struct):
    held: Held
    since: float
    size: int


class Memory:
    """The answers used last, up to `limit` bytes.

    With `fresh` an answer is forgotten that many seconds after it came: what another instance clears from a shared
    store is then gone here as well. `now` is Unix time.
    """

    def __init__(self, limit: int, now: Callable[[], float], fresh: float | None = None) -> None:
        self._limit = limit
        self._now = now
        self._fresh = fresh
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.bytes = 0
        self.cleared = 0
        """How often entries were removed."""

    def __len__(self) -> int:
        return len(self._places)

    def get(self, entry_id: str) -> Held | None:
        """The answer, unless it has expired."""
        place = self._places.get(entry_id)
        if place is None:
            return None
        now = self._now()
        if place.held.facts.expires_at <= now or (self._fresh is not None and now - place.since > self._fresh):
            self._forget(entry_id)
            return None
        self._places.move_to_end(entry_id)
        return place.held

    def put(self, held: Held, *, cleared: int | None = None) -> None:
        """Remember an answer, over one with the same id, and forget those unused longest.

        What was fetched from a store is put with what `cleared` was before that began: it may have been meant by a
        removal since, and is then not remembered.
        """
        if cleared is not None and cleared != self.cleared:
            return
        if held.facts.id in self._places:
            self._forget(held.facts.id)
        size = held.size
        if size > self._limit:
            return
        self._places[held.facts.id] = _Place(held, self._now(), size)
        self.bytes += size
        self._make_room()

    def grown(self, held: Held) -> None:
        """Count again what an answer holds, after it was made ready in another shape."""
        place = self._places.get(held.facts.id)
        if place is not None and place.held is held:
            self.bytes += held.size - place.size
            place.size = held.size
            self._make_room()

    def resize(self, limit: int) -> None:
        """Set another limit."""
        self._limit = limit
        self._make_room()

    def remove(self, selection: Selection) -> int:
        """Forget what is meant; how many that were."""
        self.cleared += 1
        gone = [entry_id for entry_id, place in self._places.items() if place.held.facts.meant(selection)]
        for entry_id in gone:
            self._forget(entry_id)
        return len(gone)

    def _make_room(self) -> None:
        while self.bytes > self._limit and self._places:
            self._forget(next(iter(self._places)))

    def _forget(self, entry_id: str) -> None:
        place = self._places.pop(entry_id, None)
        if place is not None:
            self.bytes -= place.size
