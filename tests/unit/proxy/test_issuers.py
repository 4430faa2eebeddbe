"""The keys of other issuers: fetched over real HTTP, rotated, lost, swapped, and never asked for too often."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from support.calls import Clock
from support.identity import NOW, Authority, Instance, instance
from support.jwks import KeyServer, key_server

from adapters.documents import fetcher
from adapters.network import tls_context
from adapters.transport_aiohttp import AiohttpTransport
from proxy.authority import IssuerConfig
from proxy.errors import Overloaded, Unauthenticated
from proxy.issuers import Fetch, read_key_set

ISSUER = "https://login.example.com"


def config(url: str, **changes: Any) -> IssuerConfig:
    settings: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": "lockgate",
        "jwks": url,
        "algorithms": ("RS256", "ES256"),
        "keep": 600.0,
    }
    return IssuerConfig(**(settings | changes))


_numbers = itertools.count()


def token(authority: Authority, kid: str = "rsa", *, named: str | None = None) -> str:
    """A new one at each call, so that none is remembered; it may name another key than the one that signs it."""
    claims = {"iss": ISSUER, "aud": "lockgate", "sub": "a", "exp": int(NOW) + 10**6, "jti": next(_numbers)}
    headers = {"kid": kid if named is None else named}
    return jwt.encode(claims, authority.private[kid], authority.algorithms[kid], headers=headers)


@contextlib.asynccontextmanager
async def over_http() -> AsyncIterator[Fetch]:
    """What fetches keys in the product."""
    transport = AiohttpTransport(tls_context(None), agent="tests", proxies={})
    try:
        yield fetcher(transport)
    finally:
        await transport.aclose()


@contextlib.asynccontextmanager
async def world(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Instance, KeyServer]]:
    """An instance that believes one issuer, whose keys stand on a server."""
    clock = Clock(NOW)
    async with (
        key_server(Authority()) as server,
        over_http() as fetch,
        instance(f"sqlite:///{tmp_path}/a.db", clock) as here,
    ):
        here.issuers.configure([config(server.url, **changes)], fetch)
        yield here, server


async def refused(here: Instance, text: str) -> Unauthenticated:
    """Each from an address of its own."""
    with pytest.raises(Unauthenticated) as caught:
        await here.find(text, peer=f"192.0.2.{hash(text)}")
    return caught.value


async def test_a_rotated_key_is_fetched_when_its_first_token_comes(tmp_path: Path) -> None:
    """And many tokens at once fetch it once."""
    async with world(tmp_path) as (here, server):
        server.authority.published = ["rsa"]
        await here.find(token(server.authority))
        server.authority.published = ["rsa", "ec"]
        here.clock.now += 31
        await asyncio.gather(*(here.find(token(server.authority, "ec")) for _ in range(20)))
        assert server.asked == 2


async def test_unknown_keys_cause_one_fetch_in_thirty_seconds(tmp_path: Path) -> None:
    """Whoever makes tokens up does not make us ask."""
    async with world(tmp_path) as (here, server):
        await here.find(token(server.authority))
        here.clock.now += 31
        for guess in range(20):
            await refused(here, token(server.authority, named=f"guess-{guess}"))
        assert server.asked == 2
        await here.find(token(server.authority))
        here.clock.now += 30
        await refused(here, token(server.authority, named="guess"))
        assert server.asked == 3


@pytest.mark.parametrize("mode", ["error", "elsewhere", "large", "html", "empty"])
async def test_the_last_good_keys_serve_while_the_issuer_does_not(tmp_path: Path, mode: str) -> None:
    """For `keep`; then 503 and not 401; and it heals by itself, at most one fetch in five seconds."""
    async with world(tmp_path) as (here, server):
        await here.find(token(server.authority))
        server.mode = mode
        key_set = here.issuers._sets[server.url]
        here.clock.now += 599
        await key_set.refresh(here.issuers._fetch)  # type: ignore[arg-type]
        await here.find(token(server.authority))
        here.clock.now += 2
        asked = server.asked
        for _ in range(3):
            with pytest.raises(Overloaded) as caught:
                await here.find(token(server.authority))
            assert caught.value.headers["retry-after"] == "5"
        assert server.asked <= asked + 1
        server.mode = "good"
        here.clock.now += 5
        await here.find(token(server.authority))


async def test_an_issuer_that_is_gone_takes_nothing_with_it(tmp_path: Path) -> None:
    """No server at all: its tokens get 503, the admin key and virtual keys go on."""
    async with over_http() as fetch, instance(f"sqlite:///{tmp_path}/a.db") as here:
        authority = Authority()
        async with key_server(authority) as server:
            url = server.url
        here.issuers.configure([config(url)], fetch)
        _, secret = await here.create()
        with pytest.raises(Overloaded):
            await here.find(token(authority))
        assert (await here.find(secret)).kind == "key"
        assert (await here.find("the-admin-key-of-these-tests")).is_admin
        assert not here.issuers.are_fresh()


async def test_keys_are_fetched_at_start_and_at_a_reload(tmp_path: Path) -> None:
    """Beside the calls, so that the first token does not wait."""
    async with world(tmp_path) as (here, server):
        here.issuers.start()
        try:
            await server.asked_for(1)
            await here.find(token(server.authority))
            assert (server.asked, here.issuers.are_fresh()) == (1, True)
            here.issuers.configure([config(server.url, leeway=1.0)], here.issuers._fetch)  # type: ignore[arg-type]
            await server.asked_for(2)
        finally:
            await here.issuers.aclose()


async def test_swapped_keys_open_nothing_to_old_tokens_and_new_ones_to_nothing_else(tmp_path: Path) -> None:
    """The same key id with another key behind it: the old key's tokens stop, and no algorithm crosses over."""
    async with world(tmp_path) as (here, server):
        old = server.authority
        await here.find(token(old))
        server.authority = Authority()
        await here.issuers._sets[server.url].refresh(here.issuers._fetch)  # type: ignore[arg-type]
        await refused(here, token(old))
        await here.find(token(server.authority))
        swapped = [server.authority.jwk("ec") | {"kid": "rsa"}, server.authority.jwk("rsa") | {"kid": "ec"}]
        server.document = {"keys": swapped}
        await here.issuers._sets[server.url].refresh(here.issuers._fetch)  # type: ignore[arg-type]
        await refused(here, token(server.authority))
        await refused(here, token(server.authority, "ec"))


async def test_an_issuer_that_leaves_the_configuration_is_not_believed_any_more(tmp_path: Path) -> None:
    """Its remembered tokens neither."""
    async with world(tmp_path) as (here, server):
        text = token(server.authority)
        await here.find(text)
        here.issuers.configure([], here.issuers._fetch)  # type: ignore[arg-type]
        here.tokens.configure(here.signer, {})
        await refused(here, text)


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    implementation: Any = jwt.PyJWS().get_algorithm_by_name(algorithm)
    return {**json.loads(implementation.to_jwk(key)), "kid": "k", **members}


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
GOOD = jwk(RSA.public_key(), "RS256")
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
KOBLITZ = ec.generate_private_key(ec.SECP256K1()).public_key()


@pytest.mark.parametrize(
    "bad",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"}, GOOD | {"use": "enc"}, GOOD | {"alg": "HS256"},
        GOOD | {"alg": "none"}, GOOD | {"key_ops": ["encrypt"]}, GOOD | {"key_ops": 5}, GOOD | {"kid": 5},
        GOOD | {"kid": None}, GOOD | {"kty": ["RSA"]}, GOOD | {"crv": {}}, GOOD | {"alg": []}, GOOD | {"n": 5},
        GOOD | {"n": ""}, GOOD | {"n": "!"}, GOOD | {"e": None}, GOOD | {"e": "AA"}, jwk(RSA, "RS256"),
        jwk(SHORT, "RS256"), jwk(KOBLITZ, "ES256K"), {"kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "AA"}, {"kty": "OKP", "crv": "X25519", "kid": "k", "x": "AA"},
        {}, {"kid": "k"},
    ],
)  # fmt: skip
def test_a_key_that_is_not_for_verifying_is_left_out(bad: dict[str, Any]) -> None:
    """And the others are taken."""
    other = GOOD | {"kid": "other"}
    assert list(read_key_set(json.dumps({"keys": [bad, other, "x", None, 5]}).encode())) == ["other"]
    with pytest.raises(ValueError, match="no usable key"):
        read_key_set(json.dumps({"keys": [bad]}).encode())


def test_a_key_id_that_stands_twice_names_no_key() -> None:
    """Else whoever can add one decides which."""
    document = {"keys": [GOOD, GOOD | {"kid": "b"}, jwk(RSA.public_key(), "RS256")]}
    assert list(read_key_set(json.dumps(document).encode())) == ["b"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from([*GOOD, "crv", "alg", "use", "key_ops", "x", "y", "d"])


@given(
    st.lists(st.builds(lambda changes: GOOD | changes, st.dictionaries(MEMBERS, JSON, max_size=3)), max_size=3) | JSON
)
def test_no_document_breaks_the_reader(keys: Any) -> None:
    """Usable keys, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert all(each.algorithms for each in read_key_set(json.dumps({"keys": keys}).encode()).values())
