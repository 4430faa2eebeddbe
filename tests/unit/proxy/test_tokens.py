"""Tokens: everything that must not pass, and what makes a good one stop."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from support.calls import Clock
from support.identity import NOW, SIGNING, Authority, Instance, digest, instance

from proxy.authority import ClaimNames, IssuerConfig
from proxy.call import NANO, Budget
from proxy.errors import Overloaded, Unauthenticated
from proxy.grants import Grants
from proxy.jws import TokenError, read_token
from proxy.tokens import Signer
from proxy.user_store import User, owner_budget

ISSUER = "https://login.example.com"
USER = User("alice", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$x", Grants(models=("*",), owner="acme"))
AUTHORITY = Authority()


def config(**changes: Any) -> IssuerConfig:
    settings: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": "lockgate",
        "jwks": f"{ISSUER}/jwks.json",
        "algorithms": ("RS256", "ES256", "EdDSA"),
    }
    return IssuerConfig(**(settings | changes))


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token; None leaves one out."""
    good = {"iss": ISSUER, "aud": "lockgate", "sub": "alice", "exp": int(NOW) + 600, "iat": int(NOW)}
    return {name: value for name, value in (good | changes).items() if value is not None}


def part(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(header: Any, payload: Any, secret: bytes | None = None) -> str:
    """A token by hand, with an HMAC of `secret` or with the authority's own RSA signature."""
    signed = f"{part(header)}.{part(payload)}"
    if secret is not None:
        return f"{signed}.{part(hmac.digest(secret, signed.encode(), 'sha256'))}"
    algorithm = jwt.PyJWS().get_algorithm_by_name("RS256")
    return f"{signed}.{part(algorithm.sign(signed.encode(), AUTHORITY.private['rsa']))}"


def public_pem() -> bytes:
    key = AUTHORITY.private["rsa"].public_key()
    pem: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem


HEADER = {"alg": "RS256", "kid": "rsa", "typ": "JWT"}
HS = {"alg": "HS256", "typ": "at+jwt"}
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def with_parts(token: str, *, header: Any = None, payload: Any = None, signature: str | None = None) -> str:
    """A good token with a part exchanged and the signature left as it was."""
    parts = token.split(".")
    parts[0] = parts[0] if header is None else part(header)
    parts[1] = parts[1] if payload is None else part(payload)
    parts[2] = parts[2] if signature is None else signature
    return ".".join(parts)


def attacks() -> dict[str, str]:
    """Everything by name; each would be a good token but for one thing."""
    good = AUTHORITY.sign(claims())
    jwk = AUTHORITY.jwk("rsa")
    mine = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key()))
    stranger: dict[str, Any] = {"key": STRANGER, "algorithm": "RS256"}
    doubled = json.dumps(claims())[:-1].encode() + b', "sub": "admin"}'
    own = {"iss": "lockgate", "aud": "lockgate", "sub": "alice", "exp": int(NOW) + 60, "family": "f", "stamp": "s"}
    return {
        "alg none": forge({"alg": "none", "kid": "rsa"}, claims(), b"").rpartition(".")[0] + ".",
        "alg None": forge({"alg": "None", "kid": "rsa"}, claims(), b""),
        "alg nOnE with the right signature": forge(HEADER | {"alg": "nOnE"}, claims()),
        "alg empty": forge(HEADER | {"alg": ""}, claims()),
        "alg missing": forge({"kid": "rsa"}, claims()),
        "alg a list": forge(HEADER | {"alg": ["RS256"]}, claims()),
        "alg not allowed here": jwt.encode(claims(), AUTHORITY.private["rsa"], "RS512", headers={"kid": "rsa"}),
        "alg PS256 by an RS256 key": jwt.encode(claims(), AUTHORITY.private["rsa"], "PS256", headers={"kid": "rsa"}),
        "alg of another key's family": with_parts(good, header=HEADER | {"alg": "ES256"}),
        "HS256 with the public key as secret": forge(HEADER | {"alg": "HS256"}, claims(), public_pem()),
        "HS256 with the modulus as secret": forge(HEADER | {"alg": "HS256"}, claims(), jwk["n"].encode()),
        "HS256 with the empty secret": forge(HEADER | {"alg": "HS256"}, claims(), b""),
        "ours with the public key as secret": forge(HS, own, public_pem()),
        "ours with the raw signing secret": forge(HS, own, SIGNING),
        "ours with the empty secret": forge(HS, own, b""),
        "ours signed by the issuer": forge(HEADER, own),
        "ours without signature": forge({"alg": "none"}, own, b"").rpartition(".")[0] + ".",
        "kid missing": forge({"alg": "RS256"}, claims()),
        "kid unknown": forge(HEADER | {"kid": "no"}, claims()),
        "kid of another key": forge(HEADER | {"kid": "ec"}, claims()),
        "kid a path": forge(HEADER | {"kid": "../../dev/null"}, claims()),
        "kid a number": forge(HEADER | {"kid": 1}, claims()),
        "signed by a stranger": jwt.encode(claims(), **stranger, headers={"kid": "rsa"}),
        "jwk embedded": jwt.encode(claims(), **stranger, headers={"kid": "rsa", "jwk": mine}),
        "jwk embedded under its own kid": jwt.encode(claims(), **stranger, headers={"kid": "x", "jwk": mine}),
        "jku": jwt.encode(claims(), **stranger, headers={"kid": "rsa", "jku": "http://127.0.0.1:1/jwks"}),
        "x5u": jwt.encode(claims(), **stranger, headers={"kid": "rsa", "x5u": "http://127.0.0.1:1/x"}),
        "x5c": jwt.encode(claims(), **stranger, headers={"kid": "rsa", "x5c": ["MIIB"]}),
        "payload exchanged": with_parts(good, payload=claims(sub="admin")),
        "signature of another token": with_parts(good, signature=AUTHORITY.sign(claims(sub="b")).split(".")[2]),
        "signature empty": with_parts(good, signature=""),
        "signature cut": good[:-4],
        "signature with loose last bits": good[:-1] + chr(ord(good[-1]) + 1),
        "signature of zeroes (ES256)": with_parts(AUTHORITY.sign(claims(), "ec"), signature=part(bytes(64))),
        "crit unknown": forge(HEADER | {"crit": ["x"], "x": 1}, claims()),
        "crit empty": forge(HEADER | {"crit": []}, claims()),
        "b64 false": forge(HEADER | {"b64": False, "crit": ["b64"]}, claims()),
        "b64 true": forge(HEADER | {"b64": True}, claims()),
        "another type": forge(HEADER | {"typ": "dpop+jwt"}, claims()),
        "an id token's logout": forge(HEADER | {"typ": "logout+jwt"}, claims()),
        "type a list": forge(HEADER | {"typ": ["JWT"]}, claims()),
        "claims twice": forge(HEADER, doubled),
        "alg twice": forge(b'{"alg": "none", "alg": "RS256", "kid": "rsa"}', claims()),
        "a number that is none": forge(HEADER, b'{"exp": NaN}'),
        "claims a list": forge(HEADER, [claims()]),
        "header a text": forge("RS256", claims()),
        "no JSON": forge(HEADER, b"\xff\xfe"),
        "too deep": forge(HEADER, b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"),
        "too long": AUTHORITY.sign(claims(more="x" * 8192)),
        "four parts": good + ".e30",
        "five parts, encrypted": ".".join([part({"alg": "dir", "enc": "A128GCM"}), "", "AA", "AA", "AA"]),
        "two parts": good.rpartition(".")[0],
        "padded": good + "=",
        "standard base64": good.replace("-", "+").replace("_", "/") + "+",
        "JSON serialisation": "eyJ" + json.dumps({"payload": good}),
        "iss another": AUTHORITY.sign(claims(iss="https://evil.example.com")),
        "iss with a slash more": AUTHORITY.sign(claims(iss=f"{ISSUER}/")),
        "iss missing": AUTHORITY.sign(claims(iss=None)),
        "iss a list": forge(HEADER, claims(iss=[ISSUER])),
        "aud another": AUTHORITY.sign(claims(aud="other")),
        "aud others": AUTHORITY.sign(claims(aud=["a", "b"])),
        "aud missing": AUTHORITY.sign(claims(aud=None)),
        "aud an object": AUTHORITY.sign(claims(aud={"lockgate": 1})),
        "aud longer": AUTHORITY.sign(claims(aud="lockgate2")),
        "exp missing": AUTHORITY.sign(claims(exp=None)),
        "exp a text": forge(HEADER, claims(exp="9999999999")),
        "exp a boolean": forge(HEADER, claims(exp=True)),
        "exp endless": forge(HEADER, json.dumps(claims(exp=1))[:-1].replace('"exp": 1', '"exp": 1e999').encode() + b"}"),
        "exp with 400 digits": forge(HEADER, claims(exp=10**400)),
        "not valid yet": AUTHORITY.sign(claims(nbf=int(NOW) + 31)),
        "issued in the future": AUTHORITY.sign(claims(iat=int(NOW) + 31)),
        "sub missing": AUTHORITY.sign(claims(sub=None)),
        "sub empty": forge(HEADER, claims(sub="")),
        "sub a number": forge(HEADER, claims(sub=7)),
        "sub with a line break": forge(HEADER, claims(sub="a\nb")),
        "sub half a character": forge(HEADER, claims(sub="\ud800")),
        "sub too long": forge(HEADER, claims(sub="x" * 151)),
    }  # fmt: skip


ATTACKS = attacks()


@pytest.mark.parametrize("name", ATTACKS)
async def test_what_is_not_a_good_token_is_refused(tmp_path: Path, name: str) -> None:
    """401 invalid_api_key, and the message repeats nothing of it; nor is it remembered."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config()], AUTHORITY.fetch)
        here.tokens.configure(here.signer, {"alice": USER})
        token = ATTACKS[name]
        with pytest.raises(Unauthenticated) as caught:
            await here.tokens.caller(token, digest(token))
        assert caught.value.code == "invalid_api_key"
        assert "alice" not in caught.value.message
        assert ISSUER not in caught.value.message
        assert here.tokens.recall(digest(token)) is None


async def test_the_good_token_of_every_key_passes(tmp_path: Path) -> None:
    """The attacks above are refused for what they are, and not because nothing passes."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config()], AUTHORITY.fetch)
        for kid in ("rsa", "ec", "ed"):
            caller = await here.find(AUTHORITY.sign(claims(aud=["x", "lockgate"]), kid))
            assert (caller.id, caller.owner) == ("login.example.com/alice", "login.example.com/alice")
            assert (caller.kind, caller.is_admin) == ("token", False)
        assert (await here.find(forge(HEADER, claims()))).id == "login.example.com/alice"
        embedded = AUTHORITY.sign(claims(), jwk={"kty": "RSA"}, jku="http://127.0.0.1:1/x", x5u="http://127.0.0.1:1/x")
        await here.find(embedded)  # what it brings along is not looked at, for better or worse


async def test_a_token_runs_out_to_the_second_and_the_leeway(tmp_path: Path) -> None:
    """Also one that is remembered; then it is `token_expired`, so that clients fetch a new one."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config(leeway=5.0)], AUTHORITY.fetch)
        token = AUTHORITY.sign(claims(exp=int(NOW) + 10))
        await here.find(token)
        here.clock.now = NOW + 14
        await here.find(token)
        here.clock.now = NOW + 15
        with pytest.raises(Unauthenticated) as caught:
            await here.find(token)
        assert caught.value.code == "token_expired"


async def test_expired_tokens_are_no_failures_of_their_address(tmp_path: Path) -> None:
    """A client that is late is no guesser; one that guesses is."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config()], AUTHORITY.fetch)
        late = AUTHORITY.sign(claims(exp=int(NOW) - 60))
        for _ in range(40):
            with pytest.raises(Unauthenticated, match="expired"):
                await here.find(late)
        assert here.failures.wait("192.0.2.1") == 0


async def test_one_issuers_token_is_not_anothers(tmp_path: Path) -> None:
    """Two issuers, each with keys of its own under the same ids."""
    other = Authority()
    both = {f"{ISSUER}/jwks.json": AUTHORITY, "https://other/jwks": other}

    async def fetch(url: str) -> bytes:
        return await both[url].fetch(url)

    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config(), config(issuer="https://other", jwks="https://other/jwks")], fetch)
        mine, theirs = AUTHORITY.sign(claims()), other.sign(claims(iss="https://other"))
        partitions = {(await here.find(token)).partition for token in (mine, theirs)}
        assert len(partitions) == 2, "the same subject of two issuers shares nothing"
        for forged in (other.sign(claims()), AUTHORITY.sign(claims(iss="https://other"))):
            with pytest.raises(Unauthenticated):
                await here.find(forged)


async def test_a_memory_of_one_token_opens_nothing_to_another(tmp_path: Path) -> None:
    """It goes by the whole token: the signature may not be exchanged either."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config()], AUTHORITY.fetch)
        good = AUTHORITY.sign(claims())
        await here.find(good)
        assert here.tokens.recall(digest(good)) is not None
        for other in (good[:-6] + "AAAAAA", with_parts(good, header=HEADER | {"alg": "none"}), good.upper()):
            with pytest.raises(Unauthenticated):
                await here.find(other)


async def test_a_key_that_its_issuer_withdraws_stops_within_a_minute_of_the_fetch(tmp_path: Path) -> None:
    """The memory of a verified token is no longer than that."""
    clock = Clock(NOW)
    authority = Authority()
    async with instance(f"sqlite:///{tmp_path}/a.db", clock) as here:
        here.issuers.configure([config()], authority.fetch)
        token = authority.sign(claims())
        await here.find(token)
        authority.published = ["ec"]
        await here.issuers._sets[f"{ISSUER}/jwks.json"].refresh(authority.fetch)
        clock.now += 60
        with pytest.raises(Unauthenticated):
            await here.find(token)


async def test_claims_say_who_and_what(tmp_path: Path) -> None:
    """Owner, models, limits and role, nested ones too; an owner's budget is found under its issuer's name."""
    names = ClaimNames(owner="org", models="llm", role="realm.roles", rpm="limits.rpm", tpm="tpm", parallel="parallel")
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config(name="corp", claims=names)], AUTHORITY.fetch)
        await here.owners.set("corp/acme", owner_budget("corp/acme", NANO, "day"))
        await here.directory.look()
        said = {
            "org": "acme", "llm": "gpt-4o text-*", "realm": {"roles": ["x", "lockgate-admin"]},
            "limits": {"rpm": 5}, "tpm": 6, "parallel": 7,
        }  # fmt: skip
        caller = await here.find(AUTHORITY.sign(claims(**said)))
        assert (caller.id, caller.owner, caller.partition) == ("corp/alice", "corp/acme", "owner:corp/acme")
        assert (caller.models, caller.is_admin) == (("gpt-4o", "text-*"), True)
        assert (caller.requests, caller.tokens, caller.parallel) == (5, 6, 7)
        assert caller.budgets == (Budget("owner:corp/acme", NANO, "day"),)
        plain = await here.find(AUTHORITY.sign(claims(org="acme")))
        assert (plain.models, plain.is_admin) == ((), False), "a claim that should say what it may use does not"
        for wrong in ({"tpm": "many"}, {"tpm": -1}, {"llm": {"a": 1}}, {"llm": [1]}, {"org": ""}, {"org": 1}):
            with pytest.raises(Unauthenticated):
                await here.find(AUTHORITY.sign(claims(**({"org": "acme"} | wrong))))


async def test_required_claims_must_say_something(tmp_path: Path) -> None:
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.issuers.configure([config(required=("tenant",))], AUTHORITY.fetch)
        await here.find(AUTHORITY.sign(claims(tenant="t")))
        empty: tuple[Any, ...] = (None, "", [])
        for value in empty:
            with pytest.raises(Unauthenticated, match="tenant"):
                await here.find(AUTHORITY.sign(claims(tenant=value)))


def own_token(here: Instance, family: str = "f1", ttl: float = 3600.0, user: User = USER) -> str:
    return here.signer.issue(user, family, here.clock(), ttl)


async def test_our_own_token_lives_as_long_as_its_login(tmp_path: Path) -> None:
    """Its family is not revoked, its user is there, enabled and has the same password; for its hour."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        here.tokens.configure(here.signer, {"alice": USER})
        token = own_token(here)
        assert (await here.find(token)).id == "user:alice"
        for family, user in (
            ("gone", USER),
            ("f1", User("bob", USER.password_hash, USER.grants)),
            ("f1", User("alice", "$another", USER.grants)),
        ):
            here.directory.revoked = {"gone": NOW}
            with pytest.raises(Unauthenticated, match="ended"):
                await here.find(own_token(here, family, user=user))
        here.clock.now += 3600
        await here.directory.look()
        with pytest.raises(Unauthenticated) as caught:
            await here.find(token)
        assert caught.value.code == "token_expired"


async def test_a_token_of_another_secret_is_no_token(tmp_path: Path) -> None:
    """A new signing secret ends every access token."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        token = own_token(here)
        here.tokens.configure(Signer(b"another"), {"alice": USER})
        with pytest.raises(Unauthenticated):
            await here.find(token)
        here.tokens.configure(None, {})
        with pytest.raises(Unauthenticated, match="issuer"):
            await here.find(token)


async def test_an_instance_that_cannot_tell_whether_a_login_has_ended_says_so(tmp_path: Path) -> None:
    """503 and not 401, also for a token that is remembered."""
    async with instance(f"sqlite:///{tmp_path}/a.db", grace=60.0) as here:
        here.tokens.configure(here.signer, {"alice": USER})
        token = own_token(here)
        await here.find(token)
        here.clock.now += 10
        with pytest.raises(Overloaded):
            await here.find(token)
        await here.directory.look()
        await here.find(token)


@given(
    st.text(max_size=80)
    | st.lists(st.binary(max_size=30), min_size=3, max_size=3).map(lambda raw: ".".join(map(part, raw)))
)
def test_reading_never_fails_otherwise(text: str) -> None:
    """Whatever it is that somebody sends."""
    with pytest.raises(TokenError):
        read_token(text)
