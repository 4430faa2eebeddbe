"""What a cache has in its hands for as long as the instance lives, and outside of any one configuration."""

from collections import OrderedDict
from typing import Any

import msgspec

from policies.cache_memory import Memory
from policies.cache_store import Store
from policies.cache_writer import CacheWriter
from proxy.call import Call, Caller
from proxy.entries import Selection, StoreUnavailable

_SERVED = 10_000


class Counts(msgspec.Struct):
    """What became of the calls that came to a cache, since the instance started."""

    hits_memory: int = 0
    hits_store: int = 0
    misses: int = 0
    bypassed: int = 0
    """Not eligible, or asked not to look."""
    unavailable: int = 0
    """The store did not answer."""
    stored: int = 0
    not_kept: int = 0
    """Answers that must not be stored."""
    reported: int = 0
    """Hits that a caller called wrong."""


class Hit(msgspec.Struct, frozen=True):
    """One answer that was served from a cache. `partition` is that of the caller."""

    tier: str
    partition: str
    caller: str
    entry: str
    about: Any = None
    """Whatever else the tier wants to know when a caller calls it wrong."""
    others: tuple[str, ...] = ()
    """The other entries that answered with it: a batch of embeddings has one for each input."""

    def belongs_to(self, caller: Caller) -> bool:
        """Whether it was served to this caller or to another of its partition."""
        return self.caller == caller.id or (self.partition == caller.partition and bool(self.partition))


class Served:
    """The last hits by call id, so that a caller can say which was wrong; and of the last calls whose answers are to be
    stored, where each cache will have them.
    """

    def __init__(self, keep: int = _SERVED) -> None:
        self._keep = keep
        self._hits: OrderedDict[str, Hit] = OrderedDict()
        self._twins: OrderedDict[tuple[str, str], str] = OrderedDict()

    def note(self, call_id: str, hit: Hit) -> None:
        """Remember one, and forget the oldest."""
        self._hits[call_id] = hit
        if len(self._hits) > self._keep:
            self._hits.popitem(last=False)

    def follow(self, leader: str, call: Call) -> None:
        """This call shares the reply of the leader's, by its id: what answered that one answered this one as well."""
        hit = self._hits.get(leader)
        if hit is not None:
            self.note(call.id, msgspec.structs.replace(hit, partition=call.caller.partition, caller=call.caller.id))

    def find(self, call_id: str) -> Hit | None:
        """The hit that answered this call, if it is still remembered."""
        return self._hits.get(call_id)

    def pair(self, call: Call, tier: str, entry: str) -> None:
        """This cache will store this call's answer as this entry."""
        self._twins[call.id, tier] = entry
        if len(self._twins) > self._keep:
            self._twins.popitem(last=False)

    def twin(self, call: Call, tier: str) -> str | None:
        """That entry, told once."""
        return self._twins.pop((call.id, tier), None)


class ExactKept(msgspec.Struct, frozen=True):
    """The exact cache's."""

    store: Store
    memory: Memory
    writer: CacheWriter
    served: Served
    counts: Counts

    async def stats(self) -> dict[str, Any]:
        """For the operator; `entries` is None while the store is unavailable."""
        try:
            entries: int | None = await self.store.count()
        except StoreUnavailable:
            entries = None
        return {
            **msgspec.structs.asdict(self.counts),
            "writes": {"done": self.writer.done, "failed": self.writer.failed, "dropped": self.writer.dropped},
            "memory": {"entries": len(self.memory), "bytes": self.memory.bytes},
            "entries": entries,
        }

    async def clear(self, selection: Selection) -> int:
        """Remove what is meant, from memory and store; how many the store had. Raises StoreUnavailable."""
        await self.writer.emptied()
        self.memory.remove(selection)
        try:
            return await self.store.delete(selection)
        finally:  # once more: until then the store still had them, and a lookup may have brought one back
            self.memory.remove(selection)

    async def twin(self, hit: Hit) -> str | None:
        """The entry of the semantic cache with the same answer, if there was one. Raises StoreUnavailable."""
        await self.writer.emptied()
        entry = (await self.store.get((hit.entry,))).get(hit.entry)
        return None if entry is None else entry.meta.get("twin")

    async def wrong(self, hit: Hit) -> None:
        """A caller says that this hit was wrong: all its entries go. Raises StoreUnavailable."""
        self.counts.reported += 1
        await self.clear(Selection(ids=(hit.entry, *hit.others)))
