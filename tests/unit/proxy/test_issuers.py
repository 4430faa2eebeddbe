"""The keys of other issuers: rotation, outages, floods of unknown key ids, and what is no key at all."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm
from support.calls import Clock
from support.identity import Authority

from proxy.authority import IssuerConfig
from proxy.errors import Overloaded
from proxy.issuers import Issuers, KeySet, read_key_set

KEEP = 3600.0
PRIVATE = Authority().private


@pytest.fixture
def authority() -> Authority:
    return Authority(PRIVATE)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> KeySet:
    return KeySet("https://login.example.com/jwks", clock)


async def test_keys_are_fetched_once_for_many(keys: KeySet, authority: Authority) -> None:
    found = await asyncio.gather(*(keys.find("rsa", authority.fetch, KEEP) for _ in range(50)))
    assert all(found)
    assert authority.fetched == 1


async def test_a_rotated_key_is_found_and_an_old_one_goes(keys: KeySet, authority: Authority, clock: Clock) -> None:
    """The new one at its first use, the old one with the next fetch."""
    authority.published = ["rsa"]
    assert await keys.find("rsa", authority.fetch, KEEP)
    authority.published = ["ec"]
    clock.now += 31
    assert await keys.find("ec", authority.fetch, KEEP)
    assert await keys.find("rsa", authority.fetch, KEEP) is None


async def test_unknown_key_ids_fetch_once_in_thirty_seconds(keys: KeySet, authority: Authority, clock: Clock) -> None:
    """However many there are: who sends tokens must not make us flood an issuer."""
    await keys.find("rsa", authority.fetch, KEEP)
    for _ in range(3):
        clock.now += 31
        for guess in range(20):
            assert await keys.find(f"guess-{guess}", authority.fetch, KEEP) is None
    assert authority.fetched == 4


async def test_the_last_good_keys_serve_while_the_issuer_is_away(
    keys: KeySet, authority: Authority, clock: Clock
) -> None:
    """For `keep`, and not a second longer; then 503, and as soon as it is back all is well."""
    await keys.find("rsa", authority.fetch, KEEP)
    authority.away = True
    clock.now += KEEP
    await keys.refresh(authority.fetch)
    assert await keys.find("rsa", authority.fetch, KEEP)
    clock.now += 5
    with pytest.raises(Overloaded) as caught:
        await keys.find("rsa", authority.fetch, KEEP)
    assert caught.value.http_status == 503
    authority.away = False
    clock.now += 5
    assert await keys.find("rsa", authority.fetch, KEEP)


async def test_an_issuer_that_was_never_there_is_asked_again_soon(
    keys: KeySet, authority: Authority, clock: Clock
) -> None:
    """Every five seconds at the most."""
    authority.away = True
    for _ in range(10):
        with pytest.raises(Overloaded):
            await keys.find("rsa", authority.fetch, KEEP)
    assert authority.fetched == 1
    authority.away = False
    clock.now += 5
    assert await keys.find("rsa", authority.fetch, KEEP)


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [1, null, "x", {}]}', b"\xff"]
)
async def test_what_is_no_key_set_leaves_the_last_good_one(keys: KeySet, authority: Authority, body: bytes) -> None:
    await keys.refresh(authority.fetch)

    async def broken(_url: str) -> bytes:
        return body

    await keys.refresh(broken)
    assert await keys.find("rsa", authority.fetch, KEEP)


def usable(*listed: dict[str, Any]) -> set[str]:
    """Ids that are usable beside one that is."""
    good = Authority(PRIVATE).jwk("ed")
    return {*read_key_set(json.dumps({"keys": [good, *listed]}).encode())} - {"ed"}


def changed(of: str = "rsa", /, **members: Any) -> dict[str, Any]:
    jwk = {**Authority(PRIVATE).jwk(of), **members}
    return {name: value for name, value in jwk.items() if value is not None}


def test_only_public_signing_keys_of_good_length_count() -> None:
    small = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()))
    private = json.loads(RSAAlgorithm.to_jwk(PRIVATE["rsa"]))
    assert usable(changed()) == {"rsa"}
    assert usable(changed(alg=None, use=None)) == {"rsa"}
    for bad in (
        {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa", "alg": "RS256"},
        {**small, "kid": "rsa"},
        {**private, "kid": "rsa"},
        changed(kid=None),
        changed(use="enc"),
        changed(key_ops=["encrypt"]),
        changed(alg="HS256"),
        changed(alg="ES256"),
        changed(alg=["RS256"]),
        changed(n="!"),
        changed(n=5),
        changed("ec", crv="P-384", alg=None),
        changed("ec", crv="secp256k1", alg=None),
        changed("ec", kty="RSA", alg=None),
    ):
        assert usable(bad) == set(), bad


def test_a_key_is_good_for_one_family_only() -> None:
    """And for one algorithm where it names one."""
    keys = read_key_set(json.dumps({"keys": [changed(), changed("ec", alg=None)]}).encode())
    assert keys["rsa"].algorithms == {"RS256"}
    assert keys["ec"].algorithms == {"ES256"}
    some = read_key_set(json.dumps({"keys": [changed(alg=None)]}).encode())
    assert some["rsa"].algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def test_an_id_that_stands_twice_is_no_id() -> None:
    assert usable(changed(), {**changed("ec"), "kid": "rsa"}) == set()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["kty", "kid", "use", "alg", "n", "e", "crv", "key_ops", "x", "y", "d"])
KEYS = st.dictionaries(MEMBERS, JSON, max_size=3).map(lambda changes: Authority(PRIVATE).jwk("rsa") | changes)


@given(st.lists(KEYS, max_size=3) | JSON)
@example([{**Authority(PRIVATE).jwk("rsa"), "kty": ["RSA"]}])
@example([{**Authority(PRIVATE).jwk("rsa"), "key_ops": 5}])
def test_no_document_breaks_the_reader(keys: Any) -> None:
    """Usable keys, or a ValueError: an issuer's mistake stops neither the calls nor the fetching."""
    with contextlib.suppress(ValueError):
        assert all(each.algorithms for each in read_key_set(json.dumps({"keys": keys}).encode()).values())


async def turns() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_keys_are_fetched_beside_the_calls_and_outlive_a_reload(authority: Authority, clock: Clock) -> None:
    """A reload while the issuer is away keeps the last good set."""
    issuers = Issuers(clock)
    config = IssuerConfig(issuer="https://login.example.com", audience="a", jwks="https://login.example.com/jwks")
    issuers.configure([config], authority.fetch)
    issuers.start()
    await turns()
    assert issuers.are_fresh()
    authority.away = True
    issuers.configure([config], authority.fetch)
    await turns()
    assert authority.fetched == 2
    assert issuers.are_fresh()
    issuer = issuers.find("https://login.example.com")
    assert issuer is not None
    assert await issuer._keys.find("rsa", authority.fetch, KEEP)
    await issuers.aclose()
