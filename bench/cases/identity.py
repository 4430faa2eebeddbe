"""Who is calling: what it costs to know that of a key or a token, in memory and anew."""

import hashlib
import json
import time

import jwt
from calls import a_call, request
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from micro import Cases, Timed

from policies.authenticate import Authenticate
from proxy.authority import IssuerConfig
from proxy.call import Call
from proxy.callers import Callers
from proxy.directory import Directory
from proxy.failures import Failures
from proxy.grants import Grants
from proxy.issuers import Issuers
from proxy.key_store import KeyStore, VirtualKey, digest_of
from proxy.keys import Keys
from proxy.reply import Reply
from proxy.state import Database
from proxy.tokens import Signer, Tokens
from proxy.user_store import User
from proxy.values import Secret

GRANTS = Grants(owner="acme", models=("gpt-4o", "text-*"), rpm=600, tags=("a", "b"))
KEY = "sk-lg-" + "k" * 43
REPLY = Reply.whole(b"{}")


class OneKey(KeyStore):
    """A store of one key."""

    async def find(self, digest: bytes) -> VirtualKey | None:
        """Find the one."""
        return VirtualKey("1", digest_of(KEY).hex(), "kkkk", GRANTS, 0, 0)


class Told(Directory):
    """A directory that is always current, by the same comparison as the real one."""

    def __init__(self) -> None:
        """Heard of the database just now, for a bench that runs for minutes."""
        super().__init__(Database("sqlite://"), every=2, grace=1e9, now=time.monotonic, wall=time.time)
        self._heard, self._away = time.monotonic(), True


async def innermost(_call: Call) -> Reply:
    """Nothing more."""
    return REPLY


class World:
    """One user, one issuer, one key; the loop runs while cases are built."""

    def __init__(self) -> None:
        """Make the keys and tokens."""
        directory = Told()
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = self.private.public_key()
        jwk = json.loads(RSAAlgorithm.to_jwk(self.public)) | {"kid": "k", "use": "sig", "alg": "RS256"}
        self._jwks = json.dumps({"keys": [jwk]}).encode()
        self.issuers = Issuers(time.monotonic)
        config = IssuerConfig(issuer="https://issuer.example", audience="lockgate", jwks="https://issuer.example/jwks")
        self.issuers.configure((config,), self._fetch)
        self.tokens = Tokens(self.issuers, directory, time.time)
        self.user = User("alice", "$argon2id$", GRANTS)
        self.signer = Signer(b"x" * 32)
        self.tokens.configure(self.signer, {"alice": self.user})
        keys = Keys(OneKey(directory._database, time.time), directory, now=time.monotonic, wall=time.time)  # noqa: SLF001 - the same one
        self.callers = Callers(Secret("admin-key"), Failures(30, time.monotonic), keys, self.tokens)
        self.policy = Authenticate(self.callers)
        self.ours = self.signer.issue(self.user, "f" * 32, time.time(), 3600)
        claims = {"iss": config.issuer, "aud": "lockgate", "sub": "alice", "exp": int(time.time()) + 3600}
        self.theirs = jwt.encode(claims, self.private, "RS256", headers={"kid": "k"})

    async def _fetch(self, _url: str) -> bytes:
        return self._jwks

    def presenting(self, secret: str) -> Call:
        """A call with this key or token, as OpenAI's clients send it."""
        return a_call(request(1000)).replace(headers={"authorization": f"Bearer {secret}", "host": "localhost"})


def register(cases: Cases) -> None:
    """Cached, then anew beside PyJWT's own decoding."""
    world = World()

    def authenticated(secret: str) -> Timed:
        call = world.presenting(secret)

        async def run() -> Reply:
            return await world.policy(call, innermost)

        return run

    cases.case("identity: a key in memory", goal_ns=8_000)(lambda: authenticated(KEY))
    cases.case("identity: our token in memory", goal_ns=12_000)(lambda: authenticated(world.ours))
    cases.case("identity: an issuer's token in memory", goal_ns=12_000)(lambda: authenticated(world.theirs))
    cases.case("identity: the admin key")(lambda: authenticated("admin-key"))
    _register_new(cases, world)


def _register_new(cases: Cases, world: World) -> None:
    def anew(token: str) -> Timed:
        digest = hashlib.sha256(token.encode()).digest()

        async def run() -> object:
            return await world.tokens.caller(token, digest)

        return run

    @cases.case("identity: PyJWT decodes our token (HS256), the control")
    def hs() -> Timed:
        key = world.signer._key  # noqa: SLF001 - the control verifies the same token
        return lambda: jwt.decode(world.ours, key, algorithms=["HS256"], audience="lockgate", issuer="lockgate")

    @cases.case("identity: PyJWT decodes an issuer's token (RS256), the control")
    def rs() -> Timed:
        issuer = "https://issuer.example"
        return lambda: jwt.decode(world.theirs, world.public, algorithms=["RS256"], audience="lockgate", issuer=issuer)

    cases.case("identity: our token anew")(lambda: anew(world.ours))
    cases.case("identity: an issuer's token anew")(lambda: anew(world.theirs))
