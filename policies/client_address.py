"""Which client a request comes from, behind proxies too, and with whom it shares a limit."""

import ipaddress
from collections.abc import Sequence

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_REMEMBERED = 4096
_IPV6_PREFIX = 64
"""One customer of a provider most often has a whole /64, so that many addresses are one client."""


class ClientAddress:
    """Reads the client's address from the connection and, where that is a trusted proxy, from `X-Forwarded-For`.

    `trusted` are networks such as `10.0.0.0/8` or single addresses. Raises ValueError for one that is neither.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(each) for each in trusted]
        self._networks: dict[str, str] = {}

    def of(self, peer: str, forwarded_for: str | None) -> str:
        """The network that the client belongs to: its IPv4 address, or its IPv6 network of 64 bits.

        Proxies append to the header, so it is read from the right: the first hop that is not trusted is the client.
        What stands left of it is the client's own word. A peer without an address, such as a socket file, is "".
        """
        if not self._trusted or forwarded_for is None:
            return self._network(peer)
        address = _parsed(peer)
        for hop in reversed(forwarded_for.split(",")):
            if address is None or not self._trusts(address):
                break
            next_address = _parsed(_without_port(hop.strip()))
            if next_address is None:
                break
            address = next_address
        return "" if address is None else _network_of(address)

    def _network(self, peer: str) -> str:
        network = self._networks.get(peer)
        if network is None:
            address = _parsed(peer)
            network = "" if address is None else _network_of(address)
            if len(self._networks) >= _REMEMBERED:  # addresses come from clients: remember only so many
                self._networks.clear()
            self._networks[peer] = network
        return network

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted if network.version == address.version)


def is_network(text: str) -> bool:
    """Whether it names addresses, as `trusted` must."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _parsed(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network_of(address: _Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


def _without_port(hop: str) -> str:
    """`1.2.3.4:80` and `[::1]:80` are written too."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
