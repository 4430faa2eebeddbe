"""What caches keep: entries, which of them are meant, and how a store says that it cannot serve now."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class StoreUnavailable(Exception):
    """The store cannot answer now: it is away, slow, full or broken. The text is for our log.

    A cache that sees this lets the call go on without it.
    """


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One stored answer. Times are whole Unix seconds; an entry is not served from `expires_at` on."""

    id: str
    """32 hexadecimal digits; the same call has the same id."""
    partition: str
    """Who may read it, and nobody else."""
    route: str
    fingerprint: str
    """What must be equal for it to be served, in full; `id` is only short for it."""
    body: bytes
    """UTF-8."""
    created: int
    expires_at: int
    vector: Sequence[float] | None = None
    """Given when it is put; never read back."""
    meta: Mapping[str, Any] = {}
    """Whatever else the cache wants to know of it: JSON."""


class Scored(msgspec.Struct, frozen=True):
    """An entry and its cosine similarity to what was asked."""

    entry: Entry
    similarity: float


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are meant: those that have everything named here. One that names nothing means all of them."""

    ids: tuple[str, ...] | None = None
    partition: str | None = None
    route: str | None = None
    fingerprint: str | None = None
    created_before: int | None = None
    expired_at: int | None = None
    """Those that are not served any more at this time."""


EVERYTHING = Selection()
