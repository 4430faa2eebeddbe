"""Virtual keys in the database. The secret itself is never there: its SHA-256 is."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, text

from proxy.changes import write_change
from proxy.errors import UnknownEntry
from proxy.grants import Grants, merge
from proxy.state import Database

PREFIX = "sk-lg-"
"""Virtual keys are told from tokens by it."""
_RANDOM_BYTES = 32
_MOST = 1000
_COLUMNS = "id, digest, last_four, settings, created, changed, revoked"


class VirtualKey(msgspec.Struct, frozen=True):
    """A virtual key as it is kept. Times are Unix seconds; a revoked key never works again."""

    id: str
    digest: str
    last_four: str
    grants: Grants
    created: int
    changed: int
    revoked: int | None = None


def digest_of(secret: str) -> bytes:
    """The SHA-256 by which a key is known."""
    return hashlib.sha256(secret.encode()).digest()


class KeyStore:
    """Makes, finds, changes and revokes keys. Every method raises DatabaseAwayError."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def create(self, settings: Mapping[str, Any]) -> tuple[VirtualKey, str]:
        """A new key and its secret, which is shown this once. Raises BadRequest."""
        now = self._now()
        grants = merge(Grants(), settings, now)
        secret = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        key = VirtualKey(
            id=secrets.token_hex(8),
            digest=digest_of(secret).hex(),
            last_four=secret[-4:],
            grants=grants,
            created=int(now),
            changed=int(now),
        )
        async with self._database.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO virtual_keys (id, digest, last_four, owner, settings, created, changed) "
                    "VALUES (:id, :digest, :last_four, :owner, :settings, :created, :changed)"
                ),
                {
                    "id": key.id,
                    "digest": key.digest,
                    "last_four": key.last_four,
                    "owner": grants.owner,
                    "settings": _encode(grants),
                    "created": key.created,
                    "changed": key.changed,
                },
            )
            await write_change(connection, "key", key.digest, now)
        return key, secret

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key with this digest, revoked ones too."""
        async with self._database.connect() as connection:
            rows = await connection.execute(
                text(f"SELECT {_COLUMNS} FROM virtual_keys WHERE digest = :digest"),  # noqa: S608 - our own words
                {"digest": digest.hex()},
            )
            row = rows.first()
        return None if row is None else _key(row)

    async def get(self, key_id: str) -> VirtualKey:
        """The key of this id, revoked ones too. Raises UnknownEntry."""
        async with self._database.connect() as connection:
            rows = await connection.execute(
                text(f"SELECT {_COLUMNS} FROM virtual_keys WHERE id = :id"),  # noqa: S608 - our own words
                {"id": key_id},
            )
            row = rows.first()
        if row is None:
            raise _unknown(key_id)
        return _key(row)

    async def list(
        self, *, owner: str | None = None, after: str = "", limit: int = _MOST, revoked: bool = False
    ) -> list[VirtualKey]:
        """Keys in order of id, those after `after`, at most `limit` and never more than 1000."""
        wanted = ["id > :after"]
        wanted += [] if revoked else ["revoked IS NULL"]
        wanted += [] if owner is None else ["owner = :owner"]
        query = f"SELECT {_COLUMNS} FROM virtual_keys WHERE {' AND '.join(wanted)} ORDER BY id LIMIT :limit"  # noqa: S608 - our own words
        values: dict[str, Any] = {"after": after, "limit": max(1, min(limit, _MOST))}
        values |= {} if owner is None else {"owner": owner}
        async with self._database.connect() as connection:
            return [_key(row) for row in await connection.execute(text(query), values)]

    async def update(self, key_id: str, changes: Mapping[str, Any]) -> VirtualKey:
        """The key with these members changed. Raises UnknownEntry, BadRequest."""
        now = self._now()
        async with self._database.begin() as connection:
            # the write comes first, so that two updates at once cannot both start from the same old settings
            rows = await connection.execute(
                text(
                    f"UPDATE virtual_keys SET changed = :now WHERE id = :id AND revoked IS NULL RETURNING {_COLUMNS}"  # noqa: S608 - our own words
                ),
                {"id": key_id, "now": int(now)},
            )
            row = rows.first()
            if row is None:
                raise _unknown(key_id)
            old = _key(row)
            grants = merge(old.grants, changes, now)
            await connection.execute(
                text("UPDATE virtual_keys SET owner = :owner, settings = :settings WHERE id = :id"),
                {"id": key_id, "owner": grants.owner, "settings": _encode(grants)},
            )
            await write_change(connection, "key", old.digest, now)
        return msgspec.structs.replace(old, grants=grants)

    async def revoke(self, key_id: str) -> VirtualKey:
        """End this key for good. Raises UnknownEntry, also for one that is revoked already."""
        now = self._now()
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "UPDATE virtual_keys SET changed = :now, revoked = :now "  # noqa: S608 - our own words
                    f"WHERE id = :id AND revoked IS NULL RETURNING {_COLUMNS}"
                ),
                {"id": key_id, "now": int(now)},
            )
            row = rows.first()
            if row is None:
                raise _unknown(key_id)
            key = _key(row)
            await write_change(connection, "key", key.digest, now)
        return key


def _encode(grants: Grants) -> str:
    return msgspec.json.encode(grants).decode()


def _key(row: Row[Any]) -> VirtualKey:
    key_id, digest, last_four, settings, created, changed, revoked = tuple(row)
    grants = msgspec.json.decode(settings, type=Grants)
    return VirtualKey(key_id, digest, last_four, grants, created, changed, revoked)


def _unknown(key_id: str) -> UnknownEntry:
    return UnknownEntry(f"No virtual key {key_id[:64]!r}.", param="id")
