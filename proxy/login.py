"""Logins: a name and a password become an access token for an hour and a refresh token that works once."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from proxy.authority import LoginConfig
from proxy.errors import BadRequest, RateLimited, Unauthenticated, retry_headers
from proxy.failures import Failures
from proxy.families import Families, Family
from proxy.passwords import LONGEST, Passwords, stamp_of
from proxy.state import Database
from proxy.tokens import Signer, Tokens
from proxy.tries import count_try, uncount_try
from proxy.user_store import User

_LONGEST_NAME = 256
_SLOWEST = 5.0
_STEP = 0.25
"""A name that is tried too often is answered later by this much a try, up to the slowest."""


class Issued(msgspec.Struct, frozen=True):
    """What a login gives; `expires_in` is the access token's, in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105 - the kind of token, as RFC 6750 calls it


class Login:
    """Logs in, refreshes and logs out.

    A wrong name and a wrong password cannot be told apart, neither by the answer nor by its time. Tries are counted
    in the database, so that they hold over all instances: past `config.tries` a minute for a name from an address
    they are refused, and past `config.slow_after` for a name from anywhere they are slowed, never refused. `look` makes
    an ended login hold here at once.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        config: LoginConfig,
        *,
        database: Database,
        families: Families,
        tokens: Tokens,
        signer: Signer,
        passwords: Passwords,
        failures: Failures,
        look: Callable[[], Awaitable[None]],
        wall: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._database = database
        self._families = families
        self._tokens = tokens
        self._signer = signer
        self._passwords = passwords
        self._failures = failures
        self._look = look
        self._wall = wall
        self._sleep = sleep

    async def login(self, name: str, password: str, address: str) -> Issued:
        """Raises Unauthenticated, RateLimited, BadRequest, Overloaded."""
        if len(name) > _LONGEST_NAME or len(password) > LONGEST:
            raise BadRequest("The username or the password is too long.")
        pair = await self._count(name, address)
        user = self._tokens.user(name)
        hashes = (each.password_hash for each in self._tokens.users())
        right = await self._passwords.is_right(password, user.password_hash if user is not None else None, hashes)
        if user is None or not right or not self._tokens.is_live(user, stamp_of(user.password_hash)):
            self._failures.count(address)
            raise Unauthenticated("Incorrect username or password.", code="invalid_credentials")
        async with self._database.begin() as connection:
            await uncount_try(connection, pair)
        family, refresh = await self._families.begin(user.name, stamp_of(user.password_hash), self._config.refresh_ttl)
        return self._issue(user, family, refresh)

    async def refresh(self, token: str, address: str) -> Issued:
        """New tokens for a refresh token, which has then been used. Raises Unauthenticated, RateLimited, Overloaded."""
        self._refuse_the_persistent(address)
        rotated = await self._families.rotate(token, self._config.refresh_ttl)
        if rotated is not None:
            family, refresh = rotated
            user = self._tokens.user(family.user)
            if user is not None and self._tokens.is_live(user, family.stamp):
                return self._issue(user, family, refresh)
            await self._families.revoke(family.id)
        await self._look()
        self._failures.count(address)
        raise Unauthenticated("The refresh token is not valid: log in again.", code="invalid_refresh_token")

    async def logout(self, family: str | None, refresh_token: str | None) -> None:
        """End the login that these belong to; what is not known is over already. Raises Overloaded."""
        if family:
            await self._families.revoke(family)
        if refresh_token:
            await self._families.revoke_token(refresh_token)
        await self._look()

    async def _count(self, name: str, address: str) -> str:
        """Count a try, and refuse or slow it; returns its bucket. Raises RateLimited, Overloaded."""
        self._refuse_the_persistent(address)
        pair, alone = _bucket(name, address), _bucket(name)
        async with self._database.begin() as connection:
            tries, wait = await count_try(connection, pair, self._wall())
            if tries <= self._config.tries:
                of_name, _ = await count_try(connection, alone, self._wall())
        if tries > self._config.tries:
            raise _too_often(wait)
        excess = of_name - self._config.slow_after
        if excess > 0:
            await self._sleep(min(_SLOWEST, _STEP * excess))
        return pair

    def _refuse_the_persistent(self, address: str) -> None:
        wait = self._failures.wait(address)
        if wait:
            raise _too_often(wait)

    def _issue(self, user: User, family: Family, refresh: str) -> Issued:
        ttl = self._config.access_ttl
        access = self._signer.issue(user, family.id, self._wall(), ttl)
        return Issued(access_token=access, refresh_token=refresh, expires_in=int(ttl))


def _bucket(*parts: str) -> str:
    """Names and addresses are kept as digests: the table is no list of who was tried."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _too_often(wait: float) -> RateLimited:
    return RateLimited("Too many tries: try again later.", unit="requests", headers=retry_headers(wait))
