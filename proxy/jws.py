"""JSON web tokens, read once and strictly: what is verified is exactly what was read.

Signatures are PyJWT's business. Reading is ours, so that no second parser can see another token than the first:
repeated names, critical extensions, unencoded payloads and keys that a token brings along are refused or ignored.
"""

import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any

import jwt
import msgspec
from jwt.algorithms import Algorithm

_LONGEST = 8192
"""The most characters of a token."""
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_PARTS = 3
_LATEST = 1e15
"""Nothing has a time beyond this, in Unix seconds."""
_URL_SAFE = str.maketrans("-_", "+/")
_NOT_URL_SAFE = frozenset("+/=")


class TokenError(Exception):
    """A token is not good. The text tells its holder why, without repeating any of it."""


class TokenExpired(TokenError):
    """It was good."""


class Token(msgspec.Struct, frozen=True):
    """A token that has been read and believed in nothing yet."""

    algorithm: str
    key_id: str | None
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> object:
        """Who it says has issued it."""
        return self.claims.get("iss")

    def is_signed_by(self, key: Any, algorithm: Algorithm) -> bool:
        """Whether this key made its signature."""
        return bool(algorithm.verify(self.signed, key, self.signature))


def algorithm_named(name: str) -> Algorithm:
    """PyJWT's implementation of an algorithm."""
    return jwt.PyJWS().get_algorithm_by_name(name)


def read_token(text: str) -> Token:
    """Raises TokenError."""
    if len(text) > _LONGEST:
        raise TokenError("it is too long")
    parts = text.split(".")
    if len(parts) != _PARTS:
        raise TokenError("it is no signed JSON web token")
    header, claims = _object(parts[0]), _object(parts[1])
    if "crit" in header or "b64" in header:
        raise TokenError("it has extensions that are not understood here")
    kind = header.get("typ", "jwt")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenError("it is of another type than an access token")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
        raise TokenError("its header is malformed")
    signature = _bytes(parts[2])
    if binascii.b2a_base64(signature, newline=False).rstrip(b"=").decode().translate(_FROM_STANDARD) != parts[2]:
        raise TokenError("its signature is malformed")
    return Token(algorithm, key_id, claims, text.rpartition(".")[0].encode("latin-1"), signature)


def check_claims(  # noqa: PLR0913 - what is compared, by name
    claims: Mapping[str, Any],
    *,
    issuer: str,
    audiences: Collection[str],
    required: Collection[str] = (),
    now: float,
    leeway: float = 0.0,
    ahead: float = 0.0,
) -> float:
    """When the token runs out, in Unix seconds. `iss`, `aud` and `exp` must always be there.

    `leeway` is how many seconds late it may come, `ahead` by how many the issuer's clock may be before ours.
    Raises TokenExpired, TokenError.
    """
    if claims.get("iss") != issuer:
        raise TokenError("its issuer is another")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(each, str) and each in audiences for each in named):
        raise TokenError("its audience is another")
    for name in required:
        if claims.get(name) in (None, "", []):
            raise TokenError(f"it has no {name}")
    expires = _moment(claims, "exp")
    if expires is None:
        raise TokenError("it has no exp")
    if now >= expires + leeway:
        raise TokenExpired("it has expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + ahead:
            raise TokenError("it is not valid yet")
    return expires


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LATEST:
        raise TokenError(f"its {name} is no time")
    return float(value)


_FROM_STANDARD = str.maketrans("+/", "-_")


def _bytes(part: str) -> bytes:
    if not _NOT_URL_SAFE.isdisjoint(part):
        raise TokenError("it is not base64url")
    try:
        return binascii.a2b_base64(part.translate(_URL_SAFE) + "=" * (-len(part) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise TokenError("it is not base64url") from None


def _object(part: str) -> dict[str, Any]:
    try:
        decoded = _decoder.decode(_bytes(part).decode("utf-8"))
    except (ValueError, RecursionError):
        raise TokenError("it is no JSON") from None
    if not isinstance(decoded, dict):
        raise TokenError("it is no JSON object")
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenError("it says something twice")
    return found


def _refuse(_constant: str) -> None:
    raise TokenError("it has a number that is none")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
