"""Who a request comes from, when proxies may stand between."""

import pytest

from policies.client_address import ClientAddress, is_network

PROXIES = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "1.1.1.1", "203.0.113.7"),  # not a proxy: its word counts for nothing
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.9", "198.51.100.9"),  # what the client itself put there stays unread
        ("10.0.0.1", "198.51.100.9, 10.2.3.4, 127.0.0.1", "198.51.100.9"),
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),  # all of them ours: the farthest
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9, nonsense, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9:4711", "198.51.100.9"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("fd00::1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.9", "198.51.100.9"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("fe80::1%eth0", None, "fe80::/64"),
        ("", None, ""),
        ("", "198.51.100.9", ""),
    ],
)
def test_the_first_hop_that_is_no_trusted_proxy_is_the_client(peer: str, forwarded: str | None, client: str) -> None:
    """Read from the right, because each proxy appends whom it heard from."""
    assert ClientAddress(PROXIES).of(peer, forwarded) == client


def test_without_trusted_proxies_the_header_is_never_read() -> None:
    """Otherwise anyone could be anyone."""
    assert ClientAddress([]).of("203.0.113.7", "1.1.1.1") == "203.0.113.7"


def test_addresses_are_remembered_within_bounds() -> None:
    """Clients cannot fill the memory with theirs."""
    addresses = ClientAddress([])
    for number in range(10_000):
        addresses.of(f"10.0.{number // 256}.{number % 256}", None)
    assert len(addresses._networks) <= 4096


@pytest.mark.parametrize(
    ("text", "valid"), [("10.0.0.0/8", True), ("::1", True), ("10.0.0.1/8", False), ("proxy.local", False), ("", False)]
)
def test_what_names_addresses(text: str, valid: bool) -> None:
    """A network with host bits is more likely a mistake."""
    assert is_network(text) is valid
