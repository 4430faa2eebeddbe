"""Tokens as calls meet them: ours and those of other issuers. A good one is remembered for a minute at most."""

import base64
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from proxy.call import Caller
from proxy.directory import Directory
from proxy.errors import Overloaded, Unauthenticated
from proxy.grants import caller_of
from proxy.issuers import Issuers
from proxy.jws import Token, TokenError, TokenExpired, algorithm_named, check_claims, read_token
from proxy.passwords import stamp_of
from proxy.user_store import User

ISSUER = "lockgate"
"""Our own name in `iss` and `aud`."""
_ALGORITHM = "HS256"
_REMEMBERED = 10_000
_MEMORY = 60.0
_RETRY = 5.0
_AHEAD = 30.0
"""Seconds by which the clock of the instance that issued a token may be before ours."""


class Signer:
    """Issues and verifies our own tokens. The key is made from the secret for this one purpose, whatever its length."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"lockgate access tokens", "sha256")
        self._algorithm = algorithm_named(_ALGORITHM)
        self._header = _part({"alg": _ALGORITHM, "typ": "at+jwt", "kid": hashlib.sha256(self._key).hexdigest()[:8]})

    def issue(self, user: User, family: str, now: float, ttl: float) -> str:
        """An access token for a login."""
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": user.name,
            "iat": int(now),
            "exp": int(now + ttl),
            "jti": secrets.token_hex(8),
            "family": family,
            "stamp": stamp_of(user.password_hash),
        }
        signed = self._header + b"." + _part(claims)
        return (signed + b"." + _base64url(self._algorithm.sign(signed, self._key))).decode()

    def verify(self, token: Token, now: float) -> float:
        """When it runs out. Raises TokenError."""
        if token.algorithm != _ALGORITHM or not token.is_signed_by(self._key, self._algorithm):
            raise TokenError("its signature is wrong")
        required = ("sub", "family", "stamp")
        return check_claims(token.claims, issuer=ISSUER, audiences=(ISSUER,), required=required, now=now, ahead=_AHEAD)


class Known(msgspec.Struct, frozen=True):
    """A verified token: until when that may be believed, and which login it belongs to ("" for another issuer's)."""

    caller: Caller
    until: float
    expires: float
    family: str = ""


class Tokens:
    """From a token to its caller.

    A login that ends, or a user who changes, is noticed within ten seconds also where the token is remembered. The
    memory goes by the SHA-256 of the whole token. `wall` is Unix time. Without a signer nobody logs in here.
    """

    def __init__(self, issuers: Issuers, directory: Directory, wall: Callable[[], float]) -> None:
        self._issuers = issuers
        self._directory = directory
        self._wall = wall
        self._signer: Signer | None = None
        self._users: Mapping[str, User] = {}
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        directory.on_change(self._forget)

    def configure(self, signer: Signer | None, users: Mapping[str, User]) -> None:
        """Users of the configuration come before those of the database. Everything remembered is forgotten."""
        self._signer, self._users = signer, users
        self._known.clear()

    def user(self, name: str) -> User | None:
        """Who goes by this name; disabled users too."""
        return self._users.get(name) or self._directory.users.get(name)

    def users(self) -> Iterator[User]:
        """All of them."""
        return chain(self._users.values(), self._directory.users.values())

    def is_live(self, user: User | None, stamp: object) -> bool:
        """Whether a login of this user, made with the password of this stamp, still holds."""
        if user is None or not user.grants.enabled or stamp_of(user.password_hash) != stamp:
            return False
        return user.grants.expires is None or user.grants.expires > self._wall()

    def recall(self, digest: bytes) -> Caller | None:
        """The caller of a good token that is remembered; None says nothing."""
        known = self._known.get(digest)
        if known is None or known.until <= self._wall():
            return None
        if known.family and (known.family in self._directory.revoked or not self._directory.is_current()):
            return None
        return known.caller

    def remembered(self, digest: bytes) -> Known | None:
        """What is remembered of a token that was good a moment ago."""
        return self._known.get(digest)

    async def caller(self, text: str, digest: bytes) -> Caller:
        """Whose token this is, once it is verified. Raises Unauthenticated; Overloaded when it cannot be told now."""
        now = self._wall()
        try:
            known = await self._verify(read_token(text), now)
        except TokenExpired:
            raise Unauthenticated("The token has expired.", code="token_expired") from None
        except TokenError as error:
            raise Unauthenticated(f"The token is not valid: {error}.", code="invalid_api_key") from None
        self._known[digest] = known
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known.caller

    async def _verify(self, token: Token, now: float) -> Known:
        if token.issuer == ISSUER and self._signer is not None:
            return self._own(token, self._signer.verify(token, now), now)
        issuer = self._issuers.find(token.issuer)
        if issuer is None:
            raise TokenError("its issuer is not known")
        expires = await self._issuers.verify(issuer, token, now)
        return Known(issuer.caller(token.claims, self._directory.owners), min(expires, now + _MEMORY), expires)

    def _own(self, token: Token, expires: float, now: float) -> Known:
        if not self._directory.is_current():
            raise Overloaded("The gateway cannot tell at the moment whether this login has ended.", retry_after=_RETRY)
        name, family = token.claims["sub"], token.claims["family"]
        user = self.user(name) if isinstance(name, str) else None
        if user is None or not self.is_live(user, token.claims["stamp"]) or family in self._directory.revoked:
            raise TokenError("its login has ended")
        caller = caller_of(user.grants, id=f"user:{user.name}", kind="token", owners=self._directory.owners)
        return Known(caller, min(expires, now + _MEMORY), expires, family)

    def _forget(self, digest: str | None) -> None:
        if digest is None:
            self._known.clear()


def _part(content: Mapping[str, Any]) -> bytes:
    return _base64url(json.dumps(content, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
