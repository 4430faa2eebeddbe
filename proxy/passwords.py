"""Passwords: argon2id, in two threads of their own and never on the loop."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
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
_SAMPLE = 100
"""Hashes looked at to learn what most of them cost."""
_ANY = "$" + "A" * 22 + "$" + "A" * 43
"""Salt and digest of the usual lengths."""

_T = TypeVar("_T")


class Passwords:
    """Hashes and verifies. RFC 9106's second recommendation (64 MiB, 3 passes, 4 lanes), which is argon2-cffi's default."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(type=argon2.Type.ID)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._waiting = 0
        self._decoys: dict[str, str] = {}

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises BadRequest for a password that anybody would try, Overloaded."""
        check_password(password)
        return await self._run(self._hasher.hash, password)

    async def is_right(self, password: str, password_hash: str | None, others: Iterable[str]) -> bool:
        """Whether this is the password. Without a hash, for a name that is not there, the same work is done in vain.

        `others` are the hashes of those who are there: the work is that for most of them. Raises Overloaded.
        """
        common = Counter(map(_cost, islice(others, _SAMPLE))).most_common(1)
        cost = common[0][0] if common else ""
        if cost not in self._decoys:  # made whether or not the name is there
            hasher = (
                argon2.PasswordHasher.from_parameters(argon2.extract_parameters(cost + _ANY)) if cost else self._hasher
            )
            self._decoys[cost] = await self._run(hasher.hash, "")
        right = await self._run(self._verify, password, password_hash or self._decoys[cost])
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


def _cost(password_hash: str) -> str:
    """Kind, version and parameters of a hash: `$argon2id$v=19$m=65536,t=3,p=4`."""
    return "$".join(password_hash.split("$")[:4])


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
