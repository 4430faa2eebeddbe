"""Families of refresh tokens in the database: each token works once, and one that comes again ends its family."""

import hashlib
import secrets
from collections.abc import Callable

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.changes import write_change
from proxy.state import Database

_RANDOM_BYTES = 32
_REMEMBERED = 86400
"""Seconds a revoked family is remembered in memory: longer than any access token lives."""


class Family(msgspec.Struct, frozen=True):
    """One login. `stamp` tells which password it was made with."""

    id: str
    user: str
    stamp: str


class Families:
    """Begins, continues and ends logins. `ttl` is how many seconds a refresh token lives.

    Every method raises DatabaseAwayError.
    """

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def begin(self, user: str, stamp: str, ttl: float) -> tuple[Family, str]:
        """A new family and its first refresh token."""
        now = self._now()
        family = Family(secrets.token_hex(16), user, stamp)
        async with self._database.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO token_families (id, user_name, stamp, created, expires) "
                    "VALUES (:id, :user, :stamp, :now, :expires)"
                ),
                {"id": family.id, "user": user, "stamp": stamp, "now": int(now), "expires": int(now + ttl)},
            )
            return family, await _issue(connection, family.id, now + ttl)

    async def rotate(self, token: str, ttl: float) -> tuple[Family, str] | None:
        """The token's family and its next token; None when the token is not good.

        One that was used before revokes the family: either its thief or its owner has the newer one.
        """
        now = self._now()
        digest = _digest(token)
        async with self._database.begin() as connection:
            used = await connection.execute(
                text(
                    "UPDATE refresh_tokens SET used = :now WHERE digest = :digest AND used IS NULL AND expires > :now "
                    "RETURNING family"
                ),
                {"now": int(now), "digest": digest},
            )
            family_id = used.scalar()
            if family_id is None:
                await self._punish(connection, digest, now)
                return None
            found = await connection.execute(
                text(
                    "UPDATE token_families SET expires = :expires WHERE id = :id AND revoked IS NULL "
                    "RETURNING id, user_name, stamp"
                ),
                {"id": family_id, "expires": int(now + ttl)},
            )
            row = found.first()
            return None if row is None else (Family(*row), await _issue(connection, family_id, now + ttl))

    async def revoke(self, family: str) -> None:
        """End a family; a second time does nothing."""
        async with self._database.begin() as connection:
            await _revoke(connection, family, self._now())

    async def revoke_token(self, token: str) -> None:
        """End the family of a refresh token; one that is not known does nothing."""
        async with self._database.begin() as connection:
            family = await _family_of(connection, _digest(token))
            if family is not None:
                await _revoke(connection, family, self._now())

    async def _punish(self, connection: AsyncConnection, digest: str, now: float) -> None:
        family = await _family_of(connection, digest)
        if family is not None:
            await _revoke(connection, family, now)


async def load_revoked(connection: AsyncConnection, now: float) -> dict[str, float]:
    """The families that were revoked within the last day, and when."""
    rows = await connection.execute(
        text("SELECT id, revoked FROM token_families WHERE revoked > :after"), {"after": int(now) - _REMEMBERED}
    )
    return {family: float(revoked) for family, revoked in rows}


async def revoke_all(connection: AsyncConnection, user: str, now: float) -> None:
    """End every login of a user."""
    rows = await connection.execute(
        text(
            "UPDATE token_families SET revoked = :now WHERE user_name = :user AND revoked IS NULL AND expires > :now "
            "RETURNING id"
        ),
        {"user": user, "now": int(now)},
    )
    for family in sorted(rows.scalars()):
        await write_change(connection, "family", family, now)


async def prune_families(connection: AsyncConnection, now: float) -> None:
    """Forget families whose last token has run out, and with them their tokens."""
    before = {"before": int(now) - _REMEMBERED}
    await connection.execute(text("DELETE FROM token_families WHERE expires < :before"), before)


async def _issue(connection: AsyncConnection, family: str, expires: float) -> str:
    token = secrets.token_urlsafe(_RANDOM_BYTES)
    await connection.execute(
        text("INSERT INTO refresh_tokens (digest, family, expires) VALUES (:digest, :family, :expires)"),
        {"digest": _digest(token), "family": family, "expires": int(expires)},
    )
    return token


async def _family_of(connection: AsyncConnection, digest: str) -> str | None:
    found: str | None = await connection.scalar(
        text("SELECT family FROM refresh_tokens WHERE digest = :digest"), {"digest": digest}
    )
    return found


async def _revoke(connection: AsyncConnection, family: str, now: float) -> None:
    done = await connection.execute(
        text("UPDATE token_families SET revoked = :now WHERE id = :id AND revoked IS NULL"),
        {"id": family, "now": int(now)},
    )
    if done.rowcount:
        await write_change(connection, "family", family, now)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
