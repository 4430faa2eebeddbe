"""So many requests of one address, before anyone asks who it is."""

import json

import pytest
from support.calls import Clock, make_call

from adapters.limits_storage import LazyStorage
from policies.client_limits import ClientLimits, ClientLimitsConfig
from proxy.call import Call, Record
from proxy.chain import Handler, chain
from proxy.claims import Claim, Grant, Lease, LimitStore
from proxy.endpoints import CHAT
from proxy.errors import Overloaded, RateLimited
from proxy.reply import Reply
from proxy.values import Rate

KEY = {"authorization": "Bearer sk-lg-abc"}


async def answers(_call: Call) -> Reply:
    return Reply.whole(b"{}")


def handler(clock: Clock, **settings: object) -> Handler:
    config = ClientLimitsConfig(requests=Rate((2, 60)), **settings)  # type: ignore[arg-type]
    return chain([ClientLimits(config, LazyStorage(clock))], answers)


def request(peer: str = "203.0.113.7", **headers: str) -> Call:
    return Call(
        id="0" * 32,
        endpoint=CHAT,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        record=Record(id="0" * 32, endpoint="chat", started=0.0),
        peer=peer,
        read_body=_unread,
    )


async def _unread(_limit: int) -> bytes:
    raise AssertionError("no body is read for a client that has not passed")


async def test_an_address_has_so_many_requests_and_is_told_where_it_stands() -> None:
    """Others are not touched, and a new window lets it in again."""
    clock = Clock()
    handle = handler(clock)
    for remaining in (1, 0):
        call = request()
        await handle(call)
        assert call.record.requests is not None
        assert (call.record.requests.limit, call.record.requests.remaining) == (2, remaining)
    clock.now += 45
    call = request()
    with pytest.raises(RateLimited) as caught:
        await handle(call)
    error = json.loads(caught.value.body())["error"]
    assert (error["type"], error["code"], caught.value.http_status) == ("requests", "rate_limit_exceeded", 429)
    assert caught.value.headers == {"retry-after": "15", "retry-after-ms": "15000"}
    assert call.record.requests is not None
    assert (call.record.requests.remaining, call.record.requests.reset) == (0, 15)
    await handle(request("203.0.113.8"))
    clock.now += 15
    await handle(request())


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-lg-a"},
        {"authorization": "bearer   sk-lg-a"},
        {"x_api_key": "sk-lg-a"},
        {"api_key": "sk-lg-a"},
        {"authorization": "Basic x", "api_key": "sk-lg-a"},
    ],
)
async def test_a_virtual_key_is_not_limited_by_address(headers: dict[str, str]) -> None:
    """Its own limits hold; many clients of one office share an address."""
    handle = handler(Clock())
    for _ in range(5):
        await handle(request(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer eyJhbGciOi"},
        {"authorization": "Bearer other", "x_api_key": "sk-lg-a"},  # the bearer token is the one that counts
        {"x_api_key": "other", "api_key": "sk-lg-a"},
        {"authorization": "Bearer x sk-lg-a"},
    ],
)
async def test_whoever_presents_no_virtual_key_is(headers: dict[str, str]) -> None:
    """No key, a token, or a virtual key where authentication would not look for it."""
    handle = handler(Clock())
    for _ in range(2):
        await handle(request(**headers))
    with pytest.raises(RateLimited):
        await handle(request(**headers))


async def test_all_are_where_it_applies_to_all() -> None:
    """`applies_to: all`."""
    handle = handler(Clock(), applies_to="all")
    await handle(request(**KEY))
    await handle(request())
    with pytest.raises(RateLimited):
        await handle(request(**KEY))


async def test_behind_a_trusted_proxy_each_client_has_its_own() -> None:
    """By X-Forwarded-For; two addresses of one IPv6 network are one client."""
    handle = handler(Clock(), trusted_proxies=("10.0.0.0/8",))
    for client in ("198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"):
        await handle(request("10.0.0.1", x_forwarded_for=client))
    await handle(request("10.0.0.1", x_forwarded_for="198.51.100.1"))
    for client in ("198.51.100.1", "2001:db8::3"):
        with pytest.raises(RateLimited):
            await handle(request("10.0.0.1", x_forwarded_for=client))


class Away:
    """A store that is away; `closed` refuses."""

    def __init__(self, *, closed: bool) -> None:
        self._closed = closed

    def claim_now(self, _claims: object, _lease: Lease | None = None) -> None: ...

    async def claim(self, _claims: object, _lease: Lease | None = None) -> Grant:
        if self._closed:
            raise Overloaded("no")
        return Grant()

    def correct(self, claim: Claim, standing: object, by: int) -> None:
        raise AssertionError("nothing was granted")

    def release(self, lease: Lease) -> None: ...


async def test_with_the_store_away_calls_pass_or_are_refused_as_configured() -> None:
    """Open: no header claims what nobody counted."""
    away: LimitStore = Away(closed=False)
    call = make_call()
    await chain([ClientLimits(ClientLimitsConfig(), away)], answers)(call)
    assert call.record.requests is None
    with pytest.raises(Overloaded):
        await chain([ClientLimits(ClientLimitsConfig(), Away(closed=True))], answers)(make_call())
