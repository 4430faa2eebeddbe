"""Tokens of other issuers: their keys, kept up to date beside the calls, and what their claims mean here."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from proxy.authority import IssuerConfig
from proxy.call import Caller
from proxy.errors import Overloaded
from proxy.grants import Grants, Owners, caller_of
from proxy.jws import Token, TokenError, algorithm_named, check_claims

logger = logging.getLogger("lockgate")

Fetch = Callable[[str], Awaitable[bytes]]
"""The body at a URL; raises OSError for anything else than a small 200 in time."""

_FAMILIES: dict[tuple[object, object], frozenset[str]] = {
    ("RSA", None): frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
"""Which algorithms a key is good for, by `kty` and `crv`; symmetric keys for none."""
_SMALLEST_RSA = 2048
_MOST_KEYS = 100
_LONGEST_NAME = 150
_COOL_DOWN = 30.0
"""Seconds between two fetches that unknown key ids cause."""
_RETRY = 5.0
"""Seconds between two fetches while there are no keys at all."""


class VerificationKey(msgspec.Struct, frozen=True):
    """A public key of an issuer and the algorithms it is good for."""

    key: Any
    algorithms: frozenset[str]


class _ListedKey(msgspec.Struct, frozen=True):
    """What a key of a JWKS document says of itself (RFC 7517 §4)."""

    kty: str
    kid: str
    crv: str | None = None
    alg: str | None = None
    use: str = "sig"
    key_ops: list[str] | None = None


class KeySet:
    """The keys at one JWKS address. The last good ones are kept while it is away, for `keep` seconds.

    `now` is a monotonic clock.
    """

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self._url = url
        self._now = now
        self._keys: dict[str, VerificationKey] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    def age(self) -> float:
        """Seconds since the keys were fetched."""
        return self._now() - self._fetched

    async def find(self, key_id: str, fetch: Fetch, keep: float) -> VerificationKey | None:
        """The key of this id; fetched when it is not known, but not too often. Raises Overloaded without keys."""
        if key_id not in self._keys or self.age() > keep:
            async with self._fetching:
                is_old = self.age() > keep
                pause = _RETRY if is_old else _COOL_DOWN
                if (is_old or key_id not in self._keys) and self._now() - self._tried >= pause:
                    await self._refresh(fetch)
            if self.age() > keep:
                raise Overloaded("The issuer of this token does not answer: try again.", retry_after=_RETRY)
        return self._keys.get(key_id)

    async def refresh(self, fetch: Fetch) -> None:
        """Fetch the keys; a failure is logged and leaves the ones there are."""
        async with self._fetching:
            await self._refresh(fetch)

    async def _refresh(self, fetch: Fetch) -> None:
        self._tried = self._now()
        try:
            self._keys = read_key_set(await fetch(self._url))
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("the keys at %s could not be fetched: %s", self._url, str(error)[:200])
            return
        self._fetched = self._now()


def read_key_set(body: bytes) -> dict[str, VerificationKey]:
    """The usable keys of a JWKS document by key id. Raises ValueError when there is none.

    Left out: keys without id or with one that stands twice, for encryption, symmetric, private or too short ones.
    """
    document = msgspec.json.decode(body)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JWKS document")  # noqa: TRY004 - one kind of error for every document
    found: dict[str, VerificationKey] = {}
    twice: set[str] = set()
    for each in listed[:_MOST_KEYS]:
        key = _read_key(each) if isinstance(each, dict) else None
        if key is not None:
            twice |= {each["kid"]} & found.keys()
            found[each["kid"]] = key
    usable = {key_id: key for key_id, key in found.items() if key_id not in twice}
    if not usable:
        raise ValueError("no usable key")
    return usable


def _read_key(each: dict[str, Any]) -> VerificationKey | None:
    try:
        listed = msgspec.convert(each, _ListedKey)
    except msgspec.ValidationError:
        return None
    algorithms = _FAMILIES.get((listed.kty, listed.crv), frozenset())
    if listed.alg is not None:
        algorithms &= {listed.alg}
    is_for_signing = listed.use == "sig" and (listed.key_ops is None or "verify" in listed.key_ops)
    if not algorithms or not is_for_signing or "d" in each:
        return None
    try:
        key = jwt.PyJWK(each, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    if listed.kty == "RSA" and key.key_size < _SMALLEST_RSA:
        return None
    return VerificationKey(key, algorithms)


class Issuer:
    """Verifies the tokens of one issuer and says who their callers are."""

    def __init__(self, config: IssuerConfig, keys: KeySet) -> None:
        self._config = config
        self._keys = keys
        self._audiences = config.audiences
        self._required = ("sub", *config.required)
        self._algorithms = {str(name): algorithm_named(name) for name in config.algorithms}

    async def verify(self, token: Token, fetch: Fetch, now: float) -> float:
        """When the token runs out. `now` is Unix time. Raises TokenError; Overloaded when no keys are to be had."""
        algorithm = self._algorithms.get(token.algorithm)
        if algorithm is None:
            raise TokenError("its algorithm is not allowed")
        if token.key_id is None:
            raise TokenError("it names no key")
        key = await self._keys.find(token.key_id, fetch, self._config.keep)
        if key is None:
            raise TokenError("its key is not its issuer's")
        if token.algorithm not in key.algorithms or not token.is_signed_by(key.key, algorithm):
            raise TokenError("its signature is wrong")
        leeway = self._config.leeway
        expires = check_claims(
            token.claims,
            issuer=self._config.issuer,
            audiences=self._audiences,
            required=self._required,
            now=now,
            leeway=leeway,
            ahead=leeway,
        )
        return expires + leeway

    def caller(self, claims: Mapping[str, Any], owners: Owners) -> Caller:
        """Who holds a verified token with these claims. Owners are kept apart by issuer: `NAME/owner`.

        Raises TokenError when a claim that says something here says it in another form than we understand.
        """
        names, config = self._config.claims, self._config
        subject, owner = claims["sub"], claim(claims, names.owner)
        if not _is_name(subject) or not _is_name(owner):
            raise TokenError("its subject or its owner is no short text")
        models = words(claim(claims, names.models)) if names.models else config.models
        settings = {name: claim(claims, getattr(names, name)) for name in ("rpm", "tpm", "parallel")}
        settings |= {"owner": f"{config.short_name}/{owner}", "models": models}
        if names.role and config.admin_role in words(claim(claims, names.role)):
            settings["role"] = "admin"
        try:
            grants = msgspec.convert(settings, Grants)
        except msgspec.ValidationError:
            raise TokenError("its claims are not what its issuer's configuration says") from None
        return caller_of(grants, id=f"{config.short_name}/{subject}", kind="token", owners=owners)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a path of names with dots between them; None when it is not there."""
    if not name:
        return None
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def words(value: Any) -> list[str]:
    """A claim that lists words: as a list, or as text with spaces between them. Raises TokenError."""
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise TokenError("it lists something else than words")


class Issuers:
    """All of them by the name that stands in `iss`; key sets outlive a new configuration."""

    def __init__(self, now: Callable[[], float], refresh: float = 600.0) -> None:
        self._now = now
        self._refresh = refresh
        self._sets: dict[str, KeySet] = {}
        self._issuers: dict[str, Issuer] = {}
        self._fetch: Fetch | None = None
        self._again = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def configure(self, configs: Collection[IssuerConfig], fetch: Fetch) -> None:
        """Believe these issuers from now on, and no others."""
        sets = {each.jwks: self._sets.get(each.jwks) or KeySet(each.jwks, self._now) for each in configs}
        self._issuers = {each.issuer: Issuer(each, sets[each.jwks]) for each in configs}
        self._sets, self._fetch = sets, fetch
        self._again.set()

    def find(self, name: object) -> Issuer | None:
        """The issuer of this name."""
        return self._issuers.get(name) if isinstance(name, str) else None

    async def verify(self, issuer: Issuer, token: Token, now: float) -> float:
        """When the token runs out. Raises TokenError, Overloaded."""
        if self._fetch is None:
            raise TokenError("its issuer is not known")
        return await issuer.verify(token, self._fetch, now)

    def start(self) -> None:
        """Fetch the keys at every new configuration and every ten minutes, beside the calls."""
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Fetch no more."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def are_fresh(self) -> bool:
        """Whether the keys of every issuer were fetched of late."""
        return all(each.age() < 2 * self._refresh for each in self._sets.values())

    async def _watch(self) -> None:
        while True:
            self._again.clear()
            if self._fetch is not None:
                fetch = self._fetch
                await asyncio.gather(*(each.refresh(fetch) for each in self._sets.values()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh):
                    await self._again.wait()
