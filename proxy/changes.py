"""The log by which every instance learns what another one, or the command line, changed in the database."""

from typing import Literal

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Kind = Literal["key", "owner", "user", "family"]
_KEPT = 86400
"""Seconds a change is kept: who has not looked for so long reads everything anew."""


class Change(msgspec.Struct, frozen=True):
    """One change: `subject` is the digest of a key, the name of an owner or a user, the id of a token family."""

    version: int
    kind: Kind
    subject: str


async def write_change(connection: AsyncConnection, kind: Kind, subject: str, now: float) -> None:
    """Log a change in the transaction that makes it."""
    version = await connection.scalar(
        text("UPDATE identity_version SET value = value + 1 WHERE id = 1 RETURNING value")
    )
    await connection.execute(
        text("INSERT INTO identity_changes (version, kind, subject, at) VALUES (:version, :kind, :subject, :at)"),
        {"version": version, "kind": kind, "subject": subject, "at": int(now)},
    )


async def current_version(connection: AsyncConnection) -> int:
    """The version of the last change."""
    return int(await connection.scalar(text("SELECT value FROM identity_version WHERE id = 1")) or 0)


async def changes_since(connection: AsyncConnection, seen: int) -> list[Change] | None:
    """What changed after version `seen`, in order; None when the log does not reach back so far."""
    version = await current_version(connection)
    if version == seen:
        return []
    rows = await connection.execute(
        text("SELECT version, kind, subject FROM identity_changes WHERE version > :seen ORDER BY version"),
        {"seen": seen},
    )
    changes = [Change(*row) for row in rows]
    return changes if version > seen and changes and changes[0].version == seen + 1 else None


async def prune_changes(connection: AsyncConnection, now: float) -> None:
    """Forget what is older than a day."""
    await connection.execute(text("DELETE FROM identity_changes WHERE at < :before"), {"before": int(now) - _KEPT})
