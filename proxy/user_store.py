"""Users who log in, and owners with their budgets, in the database."""

from collections.abc import Callable, Container, Mapping
from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.call import Budget
from proxy.changes import write_change
from proxy.errors import AlreadyThere, UnknownEntry
from proxy.families import revoke_all
from proxy.grants import Grants, merge
from proxy.state import Database

NEW_USER = Grants(models=("*",))
"""What a user may do whose administrator says nothing."""


class User(msgspec.Struct, frozen=True):
    """Who may log in. Times are Unix seconds; users of the configuration have none."""

    name: str
    password_hash: str
    grants: Grants
    created: int = 0
    changed: int = 0


class UserStore:
    """Adds, changes and removes users. Every method raises DatabaseAwayError.

    `configured` gives the names that stand in the configuration, which comes first: another user of such a name could
    never log in.
    """

    def __init__(
        self, database: Database, now: Callable[[], float], configured: Callable[[], Container[str]] = frozenset
    ) -> None:
        self._database = database
        self._now = now
        self._configured = configured

    async def add(self, name: str, password_hash: str, settings: Mapping[str, Any]) -> User:
        """A new user. Raises AlreadyThere, BadRequest."""
        if name in self._configured():
            raise AlreadyThere(f"The user {name!r} stands in the configuration, and is changed there.", param="name")
        now = self._now()
        user = User(name, password_hash, merge(NEW_USER, settings, now), int(now), int(now))
        async with self._database.begin() as connection:
            done = await connection.execute(
                text(
                    "INSERT INTO users (name, password_hash, settings, created, changed) "
                    "VALUES (:name, :hash, :settings, :now, :now) ON CONFLICT (name) DO NOTHING"
                ),
                {"name": name, "hash": password_hash, "settings": _encode(user.grants), "now": int(now)},
            )
            if not done.rowcount:
                raise AlreadyThere(f"There is a user {name!r} already.", param="name")
            await write_change(connection, "user", name, now)
        return user

    async def update(self, name: str, changes: Mapping[str, Any], password_hash: str | None = None) -> User:
        """The user with these members changed. Raises UnknownEntry, BadRequest.

        A new password ends every login, and so does disabling: they do not begin anew when the user is enabled again.
        """
        now = self._now()
        async with self._database.begin() as connection:
            rows = await connection.execute(
                text(
                    "UPDATE users SET changed = :now WHERE name = :name "
                    "RETURNING name, password_hash, settings, created, changed"
                ),
                {"name": name, "now": int(now)},
            )
            row = rows.first()
            if row is None:
                raise _unknown_user(name)
            old = _user(row)
            user = msgspec.structs.replace(
                old,
                grants=merge(old.grants, changes, now),
                password_hash=old.password_hash if password_hash is None else password_hash,
            )
            await connection.execute(
                text("UPDATE users SET password_hash = :hash, settings = :settings WHERE name = :name"),
                {"name": name, "hash": user.password_hash, "settings": _encode(user.grants)},
            )
            if old.grants.enabled and not user.grants.enabled:
                await revoke_all(connection, name, now)
            await write_change(connection, "user", name, now)
        return user

    async def remove(self, name: str) -> None:
        """Remove a user, whose logins end with it. Raises UnknownEntry."""
        async with self._database.begin() as connection:
            done = await connection.execute(text("DELETE FROM users WHERE name = :name"), {"name": name})
            if not done.rowcount:
                raise _unknown_user(name)
            await write_change(connection, "user", name, self._now())

    async def list(self) -> list[User]:
        """Every user, by name."""
        async with self._database.connect() as connection:
            return sorted((await load_users(connection)).values(), key=lambda user: user.name)


class OwnerStore:
    """Sets and removes the budgets of owners. Every method raises DatabaseAwayError."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def set(self, name: str, budget: Budget) -> None:
        """What this owner may spend, all its keys and users together."""
        now = self._now()
        async with self._database.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO owners (name, budget, period, changed) VALUES (:name, :budget, :period, :now) "
                    "ON CONFLICT (name) DO UPDATE SET budget = :budget, period = :period, changed = :now"
                ),
                {"name": name, "budget": budget.amount, "period": budget.period, "now": int(now)},
            )
            await write_change(connection, "owner", name, now)

    async def remove(self, name: str) -> None:
        """Take an owner's budget away, so that it is not bounded any more. Raises UnknownEntry."""
        async with self._database.begin() as connection:
            done = await connection.execute(text("DELETE FROM owners WHERE name = :name"), {"name": name})
            if not done.rowcount:
                raise UnknownEntry(f"No owner {name[:200]!r} has a budget.", param="name")
            await write_change(connection, "owner", name, self._now())

    async def list(self) -> dict[str, Budget]:
        """Every owner with a budget."""
        async with self._database.connect() as connection:
            return await load_owners(connection)


def owner_budget(name: str, amount: int, period: str) -> Budget:
    """The budget of an owner; `amount` is nano-USD."""
    return msgspec.convert({"account": f"owner:{name}", "amount": amount, "period": period}, Budget)


async def load_users(connection: AsyncConnection) -> dict[str, User]:
    """Every user by name."""
    rows = await connection.execute(text("SELECT name, password_hash, settings, created, changed FROM users"))
    return {user.name: user for user in map(_user, rows)}


async def load_owners(connection: AsyncConnection) -> dict[str, Budget]:
    """The budget of every owner by name."""
    rows = await connection.execute(text("SELECT name, budget, period FROM owners ORDER BY name"))
    return {name: owner_budget(name, budget, period) for name, budget, period in rows}


def _encode(grants: Grants) -> str:
    return msgspec.json.encode(grants).decode()


def _user(row: Row[Any]) -> User:
    name, password_hash, settings, created, changed = tuple(row)
    return User(name, password_hash, msgspec.json.decode(settings, type=Grants), created, changed)


def _unknown_user(name: str) -> UnknownEntry:
    return UnknownEntry(f"No user {name[:200]!r}.", param="name")
