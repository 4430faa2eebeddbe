"""Passwords: argon2id, in two threads of their own and never on the loop."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from proxy.errors import BadRequest, Overloaded

_THREADS = 2
_WAITING = 64
"""Passwords that may wait for a thread."""
_SHORTEST = 8
LONGEST = 1024
_COMMON = frozenset({"password", "password1", "12345678", "123456789", "changeme", "change-me", "lockgate", "admin123"})
_STAMP = 16

_T = TypeVar("_T")


class Passwords:
    """Hashes and verifies. RFC 9106's second recommendation (64 MiB, 3 passes, 4 lanes), which is argon2-cffi's default."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(type=argon2.Type.ID)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._waiting = 0
        self._decoys: dict[argon2.Parameters, str] = {}

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises BadRequest for a password that anybody would try, Overloaded."""
        check_password(password)
        return await self._run(self._hasher.hash, password)

    async def is_right(self, password: str, password_hash: str | None, others: Iterable[str]) -> bool:
        """Whether this is the password. Without a hash, for a name that is not there, the same work is done in vain.

        `others` are the hashes of those who are there: the work is that for most of them. Raises Overloaded.
        """
        common = Counter(map(argon2.extract_parameters, others)).most_common(1)
        parameters = common[0][0] if common else argon2.profiles.RFC_9106_LOW_MEMORY
        if parameters not in self._decoys:  # made whether or not the name is there
            self._decoys[parameters] = await self._run(argon2.PasswordHasher.from_parameters(parameters).hash, "")
        right = await self._run(self._verify, password, password_hash or self._decoys[parameters])
        return right and password_hash is not None

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., _T], *arguments: str) -> _T:
        if self._waiting >= _WAITING:
            raise Overloaded("Too many logins at a time: try again.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._waiting -= 1


def check_password(password: str) -> None:
    """Raises BadRequest for one that is too short, too long or among the first that anybody tries."""
    if not _SHORTEST <= len(password) <= LONGEST or password.lower() in _COMMON:
        raise BadRequest(
            f"Invalid 'password': from {_SHORTEST} to {LONGEST} characters, and none that everybody knows.",
            param="password",
        )


def what_is_wrong(password_hash: str) -> str | None:
    """Why a hash of the configuration cannot be used; None when it can."""
    try:
        parameters = argon2.extract_parameters(password_hash)
    except InvalidHashError:
        return "it is no argon2 hash; make one with `lockgate users hash`"
    if parameters.type is not argon2.Type.ID:
        return "it must be argon2id; make one with `lockgate users hash`"
    return None


def stamp_of(password_hash: str) -> str:
    """A mark of a password hash that says nothing about it: tokens carry it and die with the password."""
    return hashlib.sha256(b"lockgate stamp " + password_hash.encode()).hexdigest()[:_STAMP]
