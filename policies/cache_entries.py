"""What every cache does with its entries: collect an answer as it passes, make an entry of it, note a hit."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from policies.cache_answers import Stored
from policies.cache_memory import Facts
from proxy.call import Call, Record
from proxy.entries import Entry

_CALL = 6000
"""Bytes of a call and its record beside its body, about."""
_UNVOUCHED = frozenset({"flag", "block", "not_scanned", "error"})


class Collected:
    """The items of a reply that passed, as long as they are not more than `limit` bytes in all."""

    def __init__(self, limit: int) -> None:
        self.items: list[bytes] = []
        self.size = 0
        self._limit = limit

    @property
    def too_large(self) -> bool:
        """Whether there were more, so that nothing was kept."""
        return self.size > self._limit

    async def over(self, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same items, collected on the way."""
        async for item in items:
            if self.size <= self._limit:
                self.size += len(item)
                if self.size <= self._limit:
                    self.items.append(item)
                else:
                    self.items.clear()
            yield item


def bytes_held(call: Call, collected: Collected) -> int:
    """The bytes that a call and its answer hold while they wait to be stored, about."""
    return collected.size + len(call.body) + _CALL


def entry_for(  # noqa: PLR0913 - facts of one entry, by name
    key: bytes, body: bytes, *, call: Call, partition: str, now: float, ttl: float, meta: Mapping[str, Any]
) -> Entry:
    """An entry for an answer to this call; `key` is its fingerprint. Its times are whole seconds, both cut down: it is
    never served for longer than `ttl`, but for up to a second less, and one of less than a second may never be.
    """
    return Entry(
        id=key[:16].hex(),
        partition=partition,
        route=call.route.name,
        fingerprint=key.hex(),
        body=body,
        created=int(now),
        expires_at=int(now + ttl),
        meta=meta,
    )


def told_of(stored: Stored) -> dict[str, Any]:
    """What an entry's meta says of an answer in its body."""
    return {"shape": stored.shape, "usage": stored.usage}


def stored_in(entry: Entry) -> Stored:
    """The answer in an entry's body."""
    usage = entry.meta.get("usage")
    return Stored(entry.meta.get("shape", "whole"), entry.body, usage if isinstance(usage, dict) else None)


def facts_of(entry: Entry) -> Facts:
    """What is to be known of it in memory."""
    return Facts(
        id=entry.id,
        partition=entry.partition,
        route=entry.route,
        created=entry.created,
        expires_at=entry.expires_at,
        cost=entry.meta.get("cost"),
    )


def is_vouched_for(record: Record) -> bool:
    """Whether every guard of the answer let it pass, or mended it: no other answer is stored."""
    return not any(
        verdict.side == "output" and not verdict.shadow and verdict.action in _UNVOUCHED for verdict in record.guards
    )
