"""Tries at a login, counted in the database: exact over every instance, and not forgotten at a restart."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

WINDOW = 60
"""Seconds after its first try until a bucket is empty again."""


async def count_try(connection: AsyncConnection, bucket: str, now: float) -> tuple[int, float]:
    """Count one try; returns how many there are in this window, and the seconds until it ends."""
    rows = await connection.execute(
        text(
            "INSERT INTO login_tries (bucket, began, tries) VALUES (:bucket, :now, 1) "
            "ON CONFLICT (bucket) DO UPDATE SET "
            "tries = CASE WHEN login_tries.began <= :over THEN 1 ELSE login_tries.tries + 1 END, "
            "began = CASE WHEN login_tries.began <= :over THEN :now ELSE login_tries.began END "
            "RETURNING tries, began"
        ),
        {"bucket": bucket, "now": int(now), "over": int(now) - WINDOW},
    )
    tries, began = rows.one()
    return int(tries), max(1.0, began + WINDOW - now)


async def uncount_try(connection: AsyncConnection, bucket: str) -> None:
    """Take one try back."""
    await connection.execute(
        text("UPDATE login_tries SET tries = tries - 1 WHERE bucket = :bucket AND tries > 0"), {"bucket": bucket}
    )


async def prune_tries(connection: AsyncConnection, now: float) -> None:
    """Forget windows that are over."""
    await connection.execute(text("DELETE FROM login_tries WHERE began <= :over"), {"over": int(now) - WINDOW})
