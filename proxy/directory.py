"""What every instance knows of the database by heart: owners, users and ended logins; kept true by the log of changes."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.call import Budget
from proxy.changes import changes_since, current_version, prune_changes
from proxy.families import load_revoked, prune_families
from proxy.health import State
from proxy.state import Database, DatabaseAwayError
from proxy.tries import prune_tries
from proxy.user_store import User, load_owners, load_users

logger = logging.getLogger("lockgate")

_FRESH = 8.0
"""Seconds that what is known counts as true after a look at the log: with the look itself, less than ten."""
_PATIENCE = 3.0
"""Seconds for one look."""
_BETWEEN_PRUNES = 600.0
_UNREADABLE = (SQLAlchemyError, msgspec.ValidationError)
"""A database that answers, but not as ours does: nobody may look any less because of it."""

Forget = Callable[[str | None], None]
"""Drop what was made of one key's digest, or of anything (None)."""


class Directory:
    """Looks at the log every `every` seconds. With the database away what is known stays true for `grace` seconds.

    `now` is a monotonic clock, `wall` Unix time. Not started, it knows nothing. `forget` is told what has changed.
    """

    def __init__(
        self, database: Database, *, every: float, grace: float, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.owners: Mapping[str, Budget] = {}
        self.users: Mapping[str, User] = {}
        self.revoked: Mapping[str, float] = {}
        self.version = -1
        self.grace = grace
        self.every = every
        self._database = database
        self._now = now
        self._wall = wall
        self._forget: list[Forget] = []
        self._heard = float("-inf")
        self._away = False
        self._pruned = float("-inf")
        self._looking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def on_change(self, forget: Forget) -> None:
        """Call this when something has changed."""
        self._forget.append(forget)

    def is_current(self) -> bool:
        """Whether what is known may be acted on: looked up just now, or the database is away and not for long."""
        age = self._now() - self._heard
        return age <= (self.grace if self._away else _FRESH)

    def state(self) -> State:
        """`degraded` while the log cannot be read, `down` when what is known is too old to act on."""
        if not self.is_current():
            return "down"
        return "degraded" if self._away else "ok"

    async def start(self) -> None:
        """Read everything and keep looking. Raises DatabaseAwayError."""
        async with self._looking:
            await self._read_all()
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None

    async def look(self) -> None:
        """Take in what has changed since the last look. A database that is away is noted, not raised."""
        async with self._looking:
            began = self._now()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._take_in()
            except (DatabaseAwayError, TimeoutError):
                self._away = True
                return
            except _UNREADABLE as error:
                if not self._away:
                    logger.error("what changed in the database cannot be read: %s", type(error).__name__)  # noqa: TRY400 - the text may hold values
                self._away = True
                return
            self._heard, self._away = began, False

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.every)
            await self.look()
            if not self._away and self._now() - self._pruned > _BETWEEN_PRUNES:
                await self._prune()

    async def _take_in(self) -> None:
        async with self._database.connect() as connection:
            changes = await changes_since(connection, self.version)
            if changes is None:
                await self._load(connection)
                self._tell(None)
                return
            if not changes:
                return
            kinds = {change.kind for change in changes}
            owners = await load_owners(connection) if "owner" in kinds else self.owners
            users = await load_users(connection) if "user" in kinds else self.users
        ended = {change.subject: self._wall() for change in changes if change.kind == "family"}
        self.owners, self.users = owners, users
        if ended:
            self.revoked = {**self.revoked, **ended}
        self.version = changes[-1].version
        if kinds & {"owner", "user"}:
            self._tell(None)
        for change in changes:
            if change.kind == "key":
                self._tell(change.subject)

    async def _read_all(self) -> None:
        began = self._now()
        async with self._database.connect() as connection:
            await self._load(connection)
        self._heard, self._away = began, False

    async def _load(self, connection: AsyncConnection) -> None:
        version = await current_version(connection)  # first: what changes meanwhile is seen again at the next look
        owners, users = await load_owners(connection), await load_users(connection)
        revoked = await load_revoked(connection, self._wall())
        self.version, self.owners, self.users, self.revoked = version, owners, users, revoked

    async def _prune(self) -> None:
        """Forget what has run out, here and in the database."""
        self._pruned = self._now()
        try:
            async with self._looking, self._database.begin() as connection:
                await prune_changes(connection, self._wall())
                await prune_families(connection, self._wall())
                await prune_tries(connection, self._wall())
                self.revoked = await load_revoked(connection, self._wall())
        except (DatabaseAwayError, *_UNREADABLE):
            logger.warning("what has run out in the database waits to be removed")

    def _tell(self, digest: str | None) -> None:
        for forget in self._forget:
            forget(digest)
