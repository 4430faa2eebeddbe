"""The seam to where cache entries are kept: one collection of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy.entries import EVERYTHING, Entry, Scored, Selection


class Store(Protocol):
    """One collection of entries. Every method but `dims` and `get_now` raises StoreUnavailable, and none waits long.

    Expired entries are never returned.
    """

    @property
    def dims(self) -> int:
        """The length of its vectors; 0 for a collection without."""
        ...

    async def get(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Those of these entries that are there, by id."""
        ...

    def get_now(self, entry_id: str) -> Entry | None:
        """This entry, where reading it takes no waiting and succeeds; otherwise None, and `get` says more."""
        ...

    async def put(self, entries: Sequence[Entry]) -> None:
        """Store them, over those with the same ids. They may be seen a moment later only."""
        ...

    async def query(
        self, vector: Sequence[float], *, partition: str, fingerprint: str, limit: int, floor: float
    ) -> list[Scored]:
        """The nearest entries of this partition and fingerprint with at least this similarity, best first."""
        ...

    async def amend(self, entry_id: str, meta: Mapping[str, Any]) -> None:
        """Set these members of an entry's `meta`; the others stay. Does nothing when the entry is not there."""
        ...

    async def delete(self, selection: Selection) -> int:
        """Remove them; none is returned any more once this returns. How many there were."""
        ...

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """How many there are, expired ones that are not swept yet included."""
        ...
