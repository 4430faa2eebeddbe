"""Identity for unit tests: the real parts on a real database, with clocks that tests move."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from support.calls import Clock

from proxy.authority import LoginConfig
from proxy.call import Caller
from proxy.callers import Callers
from proxy.directory import Directory
from proxy.failures import Failures
from proxy.families import Families
from proxy.issuers import Issuers
from proxy.key_store import KeyStore
from proxy.keys import Keys
from proxy.login import Login
from proxy.passwords import Passwords
from proxy.state import Database
from proxy.tokens import Signer, Tokens
from proxy.user_store import OwnerStore, UserStore
from proxy.values import Secret

NOW = 1_800_000_000.0
ADMIN_KEY = "the-admin-key-of-these-tests"
SIGNING = b"a signing secret for these tests"


class Instance:
    """One gateway's identity, without the gateway: what it knows, and what it would say of a key."""

    def __init__(self, url: str, clock: Clock, *, login: LoginConfig | None = None, grace: float = 900.0) -> None:
        self.clock = clock
        self.database = Database(url)
        self.directory = Directory(self.database, every=3600.0, grace=grace, now=clock, wall=clock)
        self.store = KeyStore(self.database, clock)
        self.users = UserStore(self.database, clock)
        self.owners = OwnerStore(self.database, clock)
        self.keys = Keys(self.store, self.directory, now=clock, wall=clock)
        self.issuers = Issuers(clock)
        self.tokens = Tokens(self.issuers, self.directory, clock)
        self.signer = Signer(SIGNING)
        self.tokens.configure(self.signer, {})
        self.passwords = Passwords()
        self.failures = Failures(30, clock)
        self.families = Families(self.database, clock)
        self.callers = Callers(Secret(ADMIN_KEY), self.failures, self.keys, self.tokens)
        self.login = Login(
            login or LoginConfig(),
            database=self.database,
            families=self.families,
            tokens=self.tokens,
            signer=self.signer,
            passwords=self.passwords,
            failures=self.failures,
            look=self.directory.look,
            wall=clock,
            sleep=clock.sleep,
        )

    async def find(self, secret: str, peer: str = "192.0.2.1") -> Caller:
        """Who presents this."""
        return await self.callers.find({"authorization": f"Bearer {secret}"}, peer)

    async def create(self, **settings: Any) -> tuple[str, str]:
        """The id and the secret of a new key."""
        key, secret = await self.store.create({"models": ["*"], **settings})
        await self.directory.look()
        return key.id, secret


@contextlib.asynccontextmanager
async def instance(url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Instance]:
    """One that is started; it looks at the log of changes only when it is told to."""
    made = Instance(url, clock or Clock(NOW), **settings)
    await made.database.start()
    await made.directory.start()
    try:
        yield made
    finally:
        await made.directory.aclose()
        await made.database.aclose()
        made.passwords.close()


class Authority:
    """An issuer of tokens elsewhere: keys of every kind, the JWKS of those that are published, and its outages."""

    def __init__(self, private: dict[str, Any] | None = None) -> None:
        self.private: dict[str, Any] = private or {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.algorithms = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
        self.published = [*self.private]
        self.extra: list[dict[str, Any]] = []
        self.away = False
        self.fetched = 0

    async def fetch(self, _url: str) -> bytes:
        """What stands at its JWKS address."""
        self.fetched += 1
        await asyncio.sleep(0)
        if self.away:
            raise OSError("away")
        return json.dumps({"keys": [*map(self.jwk, self.published), *self.extra]}).encode()

    def jwk(self, kid: str) -> dict[str, Any]:
        """One of its public keys."""
        algorithm = self.algorithms[kid]
        implementation: Any = get_default_algorithms()[algorithm]
        public = implementation.to_jwk(self.private[kid].public_key())
        return {**json.loads(public), "kid": kid, "use": "sig", "alg": algorithm}

    def sign(self, claims: dict[str, Any], kid: str = "rsa", **headers: Any) -> str:
        """A token of its own."""
        return jwt.encode(claims, self.private[kid], self.algorithms[kid], headers={"kid": kid, **headers})


def digest(secret: str) -> bytes:
    """What a key or token goes by."""
    return hashlib.sha256(secret.encode()).digest()
