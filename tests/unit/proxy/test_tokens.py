"""Tokens: every known way to forge one fails, and a good one says who its caller is."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from support.calls import Clock
from support.identity import NOW, Authority, Instance, digest, instance

from proxy.authority import ClaimNames, IssuerConfig
from proxy.call import NANO, Budget
from proxy.errors import Unauthenticated
from proxy.grants import Grants
from proxy.jws import TokenError, read_token
from proxy.tokens import Signer
from proxy.user_store import User, owner_budget

ISSUER = "https://login.example.com"
ALICE = User("alice", "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA", Grants(owner="acme", models=("gpt-*",)))
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": "lockgate", "sub": "bob", "exp": int(NOW) + 300, "iat": int(NOW)}
AUTHORITY, STRANGER = Authority(), Authority()
"""Their keys are made once: RSA keys take time."""


@pytest.fixture
def authority() -> Authority:
    """An issuer that has done nothing yet."""
    return Authority(AUTHORITY.private)


@pytest.fixture
async def here(tmp_path: Path, authority: Authority) -> AsyncIterator[Instance]:
    """An instance that knows one issuer and one user."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as made:
        made.tokens.configure(made.signer, {"alice": ALICE})
        believe(made, authority)
        yield made


def believe(here: Instance, authority: Authority, **settings: Any) -> None:
    config = {"issuer": ISSUER, "audience": "lockgate", "jwks": f"{ISSUER}/jwks", "algorithms": ("RS256", "ES256")}
    here.issuers.configure([IssuerConfig(**{**config, **settings})], authority.fetch)


async def refused(here: Instance, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await here.find(token)
    assert here.tokens.remembered(digest(token)) is None
    assert caught.value.headers == {"www-authenticate": "Bearer"}
    return caught.value


def part(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs256(header: object, claims: object, key: bytes) -> str:
    """A token signed by hand, whatever its header says."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(key, signed.encode(), 'sha256'))}"


def own_claims(**changes: Any) -> dict[str, Any]:
    issued = Signer(b"a signing secret for these tests").issue(ALICE, "f" * 32, NOW, 3600)
    return {**read_token(issued).claims, **changes}


def rsa_signed(header: dict[str, Any], claims: object) -> str:
    """A token whose header and claims are any bytes at all, with a right RS256 signature of the published key."""
    signed = f"{part({'alg': 'RS256', 'kid': 'rsa', **header})}.{part(claims)}".encode()
    implementation: Any = jwt.algorithms.get_default_algorithms()["RS256"]
    return f"{signed.decode()}.{part(implementation.sign(signed, AUTHORITY.private['rsa']))}"


@pytest.mark.parametrize("kid", ["rsa", "ec"])
async def test_a_token_of_an_issuer_is_its_caller(here: Instance, authority: Authority, kid: str) -> None:
    """Owners are kept apart by issuer."""
    caller = await here.find(authority.sign(CLAIMS, kid))
    assert (caller.id, caller.owner, caller.kind) == ("login.example.com/bob", "login.example.com/bob", "token")
    assert caller.partition == "owner:login.example.com/bob"
    assert caller.may_use("gpt-4o")
    assert not caller.is_admin


async def test_a_token_of_our_own_is_its_user(here: Instance) -> None:
    caller = await here.find(here.signer.issue(ALICE, "f" * 32, NOW, 3600))
    assert (caller.id, caller.owner, caller.partition) == ("user:alice", "acme", "owner:acme")
    assert caller.may_use("gpt-4o")
    assert not caller.may_use("o3")


def forged(authority: Authority) -> dict[str, str]:
    """Each attack with its token."""
    public = authority.private["rsa"].public_key()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem, der = public.public_bytes(*form), public.public_bytes(serialization.Encoding.DER, form[1])
    good = authority.sign(CLAIMS)
    head, body, signature = good.split(".")
    twice = b'{"alg": "none", "alg": "RS256", "kid": "rsa"}'
    changed = {**CLAIMS, "sub": "admin"}
    hs = {"alg": "HS256", "kid": "rsa"}
    return {
        "none": f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(CLAIMS)}.",
        "None": f"{part({'alg': 'None', 'kid': 'rsa'})}.{part(CLAIMS)}.",
        "none with a signature": f"{part({'alg': 'none', 'kid': 'rsa'})}.{body}.{signature}",
        "no alg": f"{part({'kid': 'rsa'})}.{body}.{signature}",
        "alg is no text": f"{part({'alg': ['RS256'], 'kid': 'rsa'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "five parts": f"{good}.x.y",
        "another's body": f"{head}.{part(changed)}.{signature}",
        "the public key as an HMAC secret, PEM": hs256(hs, CLAIMS, pem),
        "the public key as an HMAC secret, DER": hs256(hs, CLAIMS, der),
        "the JWK as an HMAC secret": hs256(hs, CLAIMS, json.dumps(authority.jwk("rsa")).encode()),
        "an empty HMAC secret": hs256(hs, CLAIMS, b""),
        "another algorithm of the same key": jwt.encode(
            CLAIMS, authority.private["rsa"], "RS512", headers={"kid": "rsa"}
        ),
        "PS256 with the key for RS256": jwt.encode(CLAIMS, authority.private["rsa"], "PS256", headers={"kid": "rsa"}),
        "an algorithm that is not allowed": authority.sign(CLAIMS, "ed"),
        "EC key, RSA kid": jwt.encode(CLAIMS, authority.private["ec"], "ES256", headers={"kid": "rsa"}),
        "RSA key, EC kid": jwt.encode(CLAIMS, authority.private["rsa"], "RS256", headers={"kid": "ec"}),
        "unknown kid": jwt.encode(CLAIMS, authority.private["rsa"], "RS256", headers={"kid": "other"}),
        "no kid": jwt.encode(CLAIMS, authority.private["rsa"], "RS256"),
        "kid is a path": hs256({"alg": "HS256", "kid": "../../../dev/null"}, CLAIMS, b""),
        "kid is a statement": hs256({"alg": "HS256", "kid": "x' UNION SELECT 'key"}, CLAIMS, b"key"),
        "a stranger's key under a known kid": STRANGER.sign(CLAIMS),
        "an embedded jwk": STRANGER.sign(CLAIMS, jwk=STRANGER.jwk("rsa")),
        "a jku": STRANGER.sign(CLAIMS, jku="https://evil.example/jwks"),
        "an x5u": STRANGER.sign(CLAIMS, x5u="https://evil.example/chain"),
        "an unknown crit": rsa_signed({"crit": ["exp2"], "exp2": 1}, CLAIMS),
        "an empty crit": rsa_signed({"crit": []}, CLAIMS),
        "a crit that names a known header": rsa_signed({"crit": ["kid"]}, CLAIMS),
        "b64 false": rsa_signed({"b64": False, "crit": ["b64"]}, CLAIMS),
        "b64 true": rsa_signed({"b64": True}, CLAIMS),
        "another type": rsa_signed({"typ": "logout+jwt"}, CLAIMS),
        "a type that is no text": rsa_signed({"typ": 1}, CLAIMS),
        "a claim twice": rsa_signed({}, json.dumps(changed).replace("}", ', "sub": "bob"}').encode()),
        "a nested member twice": rsa_signed({}, json.dumps(CLAIMS).replace("}", ', "x": {"a": 1, "a": 2}}').encode()),
        "a header twice": f"{part(twice)}.{body}.{signature}",
        "claims are a list": rsa_signed({}, [CLAIMS]),
        "claims are no JSON": rsa_signed({}, b"{"),
        "claims are not UTF-8": rsa_signed({}, b'{"sub": "\xff"}'),
        "claims nest without end": rsa_signed({}, b'{"a":' + b"[" * 3000),
        "infinite exp": rsa_signed({}, json.dumps({**CLAIMS, "exp": float("inf")}).encode()),
        "NaN exp": rsa_signed({}, json.dumps({**CLAIMS, "exp": float("nan")}).encode()),
        "huge exp": rsa_signed({}, json.dumps(CLAIMS).replace(str(CLAIMS["exp"]), "1e999").encode()),
        "oversized": authority.sign({**CLAIMS, "x": "y" * 9000}),
        "padding": f"{head}.{body}.{signature}==",
        "standard base64": f"{head}.{body}.{signature.replace('-', '+').replace('_', '/')}+",
        "a malleable signature": _malleable(good),
        "spaces inside": f"{head}.{body[:9]}\u00a0{body[9:]}.{signature}",
        "an encrypted token": ".".join([part({"alg": "dir", "enc": "A256GCM"}), "", "x", "y", "z"]),
    }


def _malleable(token: str) -> str:
    """The same signature bytes, spelled with other unused bits at the end."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    return token[:-1] + alphabet[last ^ 1]


ATTACKS = forged(AUTHORITY)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_forged_token_opens_nothing(here: Instance, attack: str) -> None:
    """401 invalid_api_key, and nothing is remembered."""
    error = await refused(here, ATTACKS[attack])
    assert error.code == "invalid_api_key"
    assert ATTACKS[attack] not in error.message


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": int(NOW) - 31}, "token_expired"),
        ({"exp": None}, "invalid_api_key"),
        ({"exp": True}, "invalid_api_key"),
        ({"exp": str(int(NOW) + 300)}, "invalid_api_key"),
        ({"nbf": int(NOW) + 31}, "invalid_api_key"),
        ({"nbf": "soon"}, "invalid_api_key"),
        ({"iat": int(NOW) + 31}, "invalid_api_key"),
        ({"iss": "https://login.example.com/"}, "invalid_api_key"),
        ({"iss": "https://login.example"}, "invalid_api_key"),
        ({"iss": ["https://login.example.com"]}, "invalid_api_key"),
        ({"iss": None}, "invalid_api_key"),
        ({"iss": "lockgate", "family": "f", "stamp": "s"}, "invalid_api_key"),
        ({"aud": "other"}, "invalid_api_key"),
        ({"aud": ["other", "more"]}, "invalid_api_key"),
        ({"aud": "lockgate-admin"}, "invalid_api_key"),
        ({"aud": {"lockgate": 1}}, "invalid_api_key"),
        ({"aud": None}, "invalid_api_key"),
        ({"sub": None}, "invalid_api_key"),
        ({"sub": ""}, "invalid_api_key"),
        ({"sub": 7}, "invalid_api_key"),
        ({"sub": "x" * 200}, "invalid_api_key"),
        ({"sub": "a\nb"}, "invalid_api_key"),
        ({"sub": "half a character \ud800"}, "invalid_api_key"),
        ({"exp": 10**400}, "invalid_api_key"),
        ({"nbf": -(10**400)}, "invalid_api_key"),
    ],
)
async def test_wrong_claims_open_nothing(here: Instance, changes: dict[str, Any], code: str) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    assert (await refused(here, rsa_signed({}, claims))).code == code


@pytest.mark.parametrize(
    "changes",
    [{"exp": int(NOW) - 29}, {"nbf": int(NOW) + 29}, {"aud": ["x", "lockgate"]}, {"jku": "https://evil.example"}, {}],
)
async def test_clocks_may_differ_by_the_leeway(here: Instance, changes: dict[str, Any]) -> None:
    """And what a token brings along besides is nobody's business."""
    await here.find(rsa_signed({"typ": "at+JWT"}, {**CLAIMS, **changes}))


async def test_instances_clocks_may_differ_and_no_login_is_longer_for_it(here: Instance) -> None:
    """Who logs in on one calls another a moment later, by whose clock it has not happened yet."""
    await here.find(here.signer.issue(ALICE, "f" * 32, NOW + 29, 3600))
    await refused(here, here.signer.issue(ALICE, "f" * 32, NOW + 31, 3600))
    assert (await refused(here, here.signer.issue(ALICE, "f" * 32, NOW - 3600, 3600))).code == "token_expired"


async def test_a_forged_token_of_our_own_opens_nothing(here: Instance, authority: Authority) -> None:
    """Another secret, another algorithm, the raw secret itself, an issuer's key in our name."""
    good = {"alg": "HS256", "typ": "at+jwt"}
    key = here.signer._key
    await here.find(hs256(good, own_claims(), key))
    for token in (
        hs256(good, own_claims(), b"a signing secret for these tests"),
        hs256(good, own_claims(), b""),
        hs256({**good, "alg": "none"}, own_claims(), key),
        hs256({**good, "alg": "HS512"}, own_claims(), key),
        hs256({**good, "alg": "RS256"}, own_claims(), key),
        authority.sign(own_claims()),
        hs256(good, own_claims(aud="other"), key),
        hs256(good, own_claims(sub="nobody"), key),
        hs256(good, own_claims(sub=["alice"]), key),
        hs256(good, own_claims(stamp="0" * 16), key),
        hs256(good, own_claims(family=None), key),
    ):
        assert (await refused(here, token)).code == "invalid_api_key"
    assert (await refused(here, hs256(good, own_claims(exp=int(NOW)), key))).code == "token_expired"


async def test_keys_of_one_issuer_do_not_sign_for_another(here: Instance, authority: Authority) -> None:
    """JWKS swapped: both are believed, each for itself."""

    async def fetch(url: str) -> bytes:
        return await (STRANGER if "other" in url else authority).fetch(url)

    here.issuers.configure(
        [
            IssuerConfig(issuer=ISSUER, audience="lockgate", jwks=f"{ISSUER}/jwks"),
            IssuerConfig(issuer="https://other.example", audience="lockgate", jwks="https://other.example/jwks"),
        ],
        fetch,
    )
    theirs = {**CLAIMS, "iss": "https://other.example"}
    assert (await here.find(STRANGER.sign(theirs))).id == "other.example/bob"
    await refused(here, STRANGER.sign(CLAIMS))
    await refused(here, authority.sign(theirs))


async def test_claims_say_what_a_caller_may_do(here: Instance, authority: Authority) -> None:
    """Owner, models, limits and role, also from nested claims and from claims with dots in their name."""
    await here.owners.set("corp/acme", owner_budget("corp/acme", NANO, "day"))
    await here.directory.look()
    names = ClaimNames(
        owner="https://x.example/org", models="llm.models", role="realm.roles", rpm="rpm", tpm="tpm", parallel="p"
    )
    believe(here, authority, name="corp", claims=names, admin_role="boss")
    claims = {
        **CLAIMS, "https://x.example/org": "acme", "llm": {"models": "gpt-4o text-*"},
        "realm": {"roles": ["staff", "boss"]}, "rpm": 5, "tpm": 6, "p": 7,
    }  # fmt: skip
    caller = await here.find(authority.sign(claims))
    assert (caller.id, caller.owner, caller.models) == ("corp/bob", "corp/acme", ("gpt-4o", "text-*"))
    assert (caller.requests, caller.tokens, caller.parallel, caller.is_admin) == (5, 6, 7, True)
    assert caller.budgets == (Budget("owner:corp/acme", NANO, "day"),)
    less = {**CLAIMS, "https://x.example/org": "acme", "realm": {"roles": "bossy"}}
    poor = await here.find(authority.sign(less))
    assert (poor.models, poor.is_admin) == ((), False)


@pytest.mark.parametrize("claims", [{"rpm": "many"}, {"rpm": 0}, {"rpm": -1}, {"m": [1]}, {"m": {"a": 1}}, {"org": 5}])
async def test_a_claim_that_is_not_understood_opens_nothing(
    here: Instance, authority: Authority, claims: dict[str, Any]
) -> None:
    """A limit that cannot be read is not no limit."""
    believe(here, authority, claims=ClaimNames(owner="org", models="m", rpm="rpm"))
    assert (await here.find(authority.sign({**CLAIMS, "org": "o", "m": []}))).models == ()
    await refused(here, authority.sign({**CLAIMS, "org": "o", "m": [], **claims}))


async def test_a_token_in_memory_ends_with_its_time(here: Instance, authority: Authority) -> None:
    """And is verified anew after a minute."""
    token, short = authority.sign(CLAIMS), authority.sign({**CLAIMS, "exp": int(NOW) + 10})
    await here.find(token)
    await here.find(short)
    here.clock.now += 39.5
    assert here.tokens.recall(digest(short)) is not None
    here.clock.now += 0.5
    assert here.tokens.recall(digest(short)) is None
    with pytest.raises(Unauthenticated, match="expired"):
        await here.find(short)
    assert here.tokens.recall(digest(token)) is not None
    here.clock.now += 20
    assert here.tokens.recall(digest(token)) is None
    await here.find(token)


@pytest.mark.parametrize("value", [None, "", []])
async def test_required_claims_must_say_something(here: Instance, authority: Authority, value: object) -> None:
    believe(here, authority, required=("tenant",))
    await here.find(authority.sign({**CLAIMS, "tenant": "t"}))
    await refused(here, authority.sign({**CLAIMS, "tenant": value}))


async def test_a_key_that_its_issuer_withdraws_stops_within_a_minute(here: Instance, authority: Authority) -> None:
    """The memory of a verified token is no longer than that."""
    token = authority.sign(CLAIMS)
    await here.find(token)
    authority.published = ["ec"]
    await here.issuers._sets[f"{ISSUER}/jwks"].refresh(authority.fetch)
    here.clock.now += 60
    with pytest.raises(Unauthenticated):
        await here.find(token)


async def test_an_issuer_that_leaves_the_configuration_is_not_believed_any_more(
    here: Instance, authority: Authority
) -> None:
    """Its remembered tokens neither."""
    token = authority.sign(CLAIMS)
    await here.find(token)
    here.issuers.configure([], authority.fetch)
    here.tokens.configure(here.signer, {})
    await refused(here, token)


async def test_one_changed_character_is_another_token(here: Instance, authority: Authority) -> None:
    """The memory goes by the whole of it: a good payload with a bad signature is not found there."""
    token = authority.sign(CLAIMS)
    await here.find(token)
    for index in (5, len(token) // 2, len(token) - 3):
        other = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        await refused(here, other)


async def test_a_user_who_changes_is_noticed_in_memory(here: Instance) -> None:
    """Fewer models, another password, no user any more."""
    clock: Clock = here.clock
    user = await here.users.add("carol", ALICE.password_hash, {})
    await here.directory.look()
    token = here.signer.issue(user, "f" * 32, clock.now, 3600)
    assert (await here.find(token)).may_use("gpt-4o")
    await here.users.update("carol", {"models": ["text-*"]})
    await here.directory.look()
    assert not (await here.find(token)).may_use("gpt-4o")
    await here.users.update("carol", {}, ALICE.password_hash + "x")
    await here.directory.look()
    await refused(here, token)
    await here.users.update("carol", {}, ALICE.password_hash)
    await here.directory.look()
    await here.find(token)
    await here.users.remove("carol")
    await here.directory.look()
    await refused(here, token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SOME = st.text(max_size=40) | JSON.map(part) | st.binary(max_size=40).map(part)


@given(st.lists(SOME, max_size=4))
def test_no_bytes_break_the_reader(parts: list[str]) -> None:
    """Anything at all is read, or refused as a token."""
    text = ".".join(parts)
    try:
        token = read_token(text)
    except TokenError:
        return
    assert token.signed.decode("latin-1") == text.rpartition(".")[0]
    assert hashlib.sha256(token.signature).digest()
