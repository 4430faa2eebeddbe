"""Who a request belongs to, and who pays for guessing."""

from pathlib import Path

import pytest
from support.calls import Clock
from support.identity import ADMIN_KEY, NOW, instance

from policies.client_address import ClientAddress
from proxy.callers import Callers
from proxy.errors import GatewayError, RateLimited, Unauthenticated
from proxy.failures import Failures
from proxy.values import Secret

PROXY, GUESSER, USER = "10.0.0.1", "198.51.100.7", "203.0.113.9"


async def guess(callers: Callers, times: int, peer: str, **headers: str) -> None:
    """So many bad keys."""
    for number in range(times):
        with pytest.raises(Unauthenticated):
            await callers.find({"x-api-key": f"guess-{number}", **headers}, peer)


async def test_behind_a_trusted_proxy_the_client_pays_and_not_the_proxy() -> None:
    """Else one guesser would keep everybody out."""
    addresses = ClientAddress(["10.0.0.0/8"])
    callers = Callers(Secret(ADMIN_KEY), Failures(30, Clock()), address_of=addresses.of)
    await guess(callers, 30, PROXY, **{"x-forwarded-for": f"made-up, {GUESSER}"})
    with pytest.raises(RateLimited):
        await callers.find({"x-api-key": ADMIN_KEY, "x-forwarded-for": GUESSER}, PROXY)
    for good in (f"{GUESSER}, {USER}", USER):
        assert (await callers.find({"x-api-key": ADMIN_KEY, "x-forwarded-for": good}, PROXY)).is_admin


async def test_the_header_of_a_stranger_is_not_believed() -> None:
    """Whoever writes it could blame others, or never be stopped."""
    callers = Callers(Secret(ADMIN_KEY), Failures(30, Clock()), address_of=ClientAddress(["10.0.0.0/8"]).of)
    for number in range(30):
        await guess(callers, 1, GUESSER, **{"x-forwarded-for": f"203.0.113.{number}"})
    with pytest.raises(RateLimited):
        await callers.find({"x-api-key": ADMIN_KEY, "x-forwarded-for": "203.0.113.250"}, GUESSER)
    assert (await callers.find({"x-api-key": ADMIN_KEY}, "203.0.113.1")).is_admin


async def test_a_network_of_one_customer_is_one_address() -> None:
    """Of IPv6 a /64."""
    callers = Callers(Secret(ADMIN_KEY), Failures(30, Clock()), address_of=ClientAddress(()).of)
    for number in range(30):
        await guess(callers, 1, f"2001:db8:0:1::{number:x}")
    with pytest.raises(RateLimited):
        await callers.find({"x-api-key": ADMIN_KEY}, "2001:db8:0:1:ffff::1")
    assert (await callers.find({"x-api-key": ADMIN_KEY}, "2001:db8:0:2::1")).is_admin


async def test_addresses_are_forgotten_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that failed longest ago first."""
    monkeypatch.setattr("proxy.failures._REMEMBERED", 5)
    failures = Failures(1, Clock())
    for number in range(20):
        failures.count(f"192.0.2.{number}")
    assert list(failures._windows) == [f"192.0.2.{number}" for number in range(15, 20)]


async def test_keys_tokens_and_the_admin_key_are_told_apart_by_how_they_begin(tmp_path: Path) -> None:
    """Never is one looked up as another; the admin key may begin as it likes."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        _, secret = await here.create()
        only_keys = Callers(Secret(), here.failures, keys=here.keys)
        only_tokens = Callers(Secret(), here.failures, tokens=here.tokens)
        assert (await only_keys.find({"api-key": secret}, USER)).kind == "key"
        for callers, text in ((only_tokens, secret), (only_keys, "eyJhbGciOiJub25lIn0.e30."), (only_keys, ADMIN_KEY)):
            with pytest.raises(Unauthenticated):
                await callers.find({"api-key": text}, USER)
        for key in ("sk-lg-admin", "eyadmin", "sk-1234"):
            callers = Callers(Secret(key), here.failures, keys=here.keys, tokens=here.tokens)
            assert (await callers.find({"api-key": key}, USER)).is_admin
        assert not Callers(Secret(), here.failures).is_open


async def test_an_empty_admin_key_is_no_key() -> None:
    """It opens nothing, not to the empty key either."""
    callers = Callers(Secret(""), Failures(30, Clock(NOW)))
    for text in ("", " ", "x"):
        with pytest.raises(GatewayError):
            await callers.find({"x-api-key": text, "authorization": "Bearer "}, USER)
