"""Virtual keys as calls meet them: the ones in use are in memory, the others are looked up once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from proxy.call import Caller
from proxy.credentials import bad_key
from proxy.directory import Directory
from proxy.grants import caller_of
from proxy.key_store import KeyStore, VirtualKey

_KNOWN = 10_000
_UNKNOWN = 10_000
"""Keys held in memory; who guesses pushes out only other guesses."""
_GUESS = 10.0
"""Seconds that a key which is not there counts as such without another look."""


class _Entry(msgspec.Struct, frozen=True):
    """What is known of one digest: its caller, or why it has none."""

    caller: Caller | None
    expires: int | None = None
    why: str = ""


class Keys:
    """From the digest of a key to its caller.

    What was changed or revoked here holds at once, elsewhere within ten seconds. `now` is a monotonic clock, `wall` is
    Unix time.
    """

    def __init__(
        self, store: KeyStore, directory: Directory, *, now: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._directory = directory
        self._now = now
        self._wall = wall
        self._known: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Entry | None]] = {}
        directory.on_change(self._forget)

    def recall(self, digest: bytes) -> Caller | None:
        """The caller of a good key that is in memory; None says nothing."""
        entry = self._known.get(digest)
        if entry is None or entry.caller is None or not self._directory.is_current():
            return None
        if entry.expires is not None and entry.expires <= self._wall():
            return None
        self._known.move_to_end(digest)
        return entry.caller

    async def find(self, digest: bytes) -> Caller:
        """The caller of a key. Raises Unauthenticated; DatabaseAwayError when only the database could tell."""
        entry = self._known.get(digest)
        if entry is None or not self._directory.is_current():
            if self._unknown.get(digest, 0.0) > self._now():
                raise bad_key()
            entry = await self._ask(digest)
        if entry is None:
            raise bad_key()
        if entry.caller is None:
            raise bad_key(entry.why)
        if entry.expires is not None and entry.expires <= self._wall():
            raise bad_key("This API key has expired.")
        return entry.caller

    async def _ask(self, digest: bytes) -> _Entry | None:
        """Look a key up; who asks for the same one meanwhile waits for the same answer."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._look_up(digest))
            asking.add_done_callback(lambda task: self._asked(digest, task))
        return await asyncio.shield(asking)

    def _asked(self, digest: bytes, task: asyncio.Task[_Entry | None]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # all who waited may have left

    async def _look_up(self, digest: bytes) -> _Entry | None:
        version = self._directory.version
        key = await self._store.find(digest)
        entry = None if key is None else self._entry(key)
        if version == self._directory.version:  # else it may have changed since it was read
            self._remember(digest, entry)
        return entry

    def _entry(self, key: VirtualKey) -> _Entry:
        if key.revoked is not None:
            return _Entry(None, why="This API key has been revoked.")
        if not key.grants.enabled:
            return _Entry(None, why="This API key is disabled.")
        caller = caller_of(key.grants, id=f"key:{key.id}", kind="key", owners=self._directory.owners)
        return _Entry(caller, key.grants.expires)

    def _remember(self, digest: bytes, entry: _Entry | None) -> None:
        if entry is None:
            self._unknown[digest] = self._now() + _GUESS
            if len(self._unknown) > _UNKNOWN:
                self._unknown.popitem(last=False)
            return
        self._known[digest] = entry
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _forget(self, digest: str | None) -> None:
        if digest is None:
            self._known.clear()
            self._unknown.clear()
        else:
            self._known.pop(bytes.fromhex(digest), None)
            self._unknown.pop(bytes.fromhex(digest), None)
