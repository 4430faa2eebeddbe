"""Bad keys and passwords by address, so that nobody guesses for long. In memory, one instance's own."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

_WINDOW = 60.0
_REMEMBERED = 10_000
"""Addresses: the one that failed longest ago is forgotten first."""
_CUSTOMER = 64
"""A customer of a provider most often has a whole /64."""


class Failures:
    """At most `limit` failures a minute and address, IPv6 by /64. `now` is a monotonic clock in seconds."""

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self._now = now
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        if not self._windows:
            return 0.0
        began, failures = self._windows.get(_network(address), (0.0, 0))
        return max(0.0, began + _WINDOW - self._now()) if failures >= self.limit else 0.0

    def count(self, address: str) -> None:
        """Count one."""
        network, now = _network(address), self._now()
        began, failures = self._windows.pop(network, (now, 0))
        self._windows[network] = (began, failures + 1) if now < began + _WINDOW else (now, 1)
        if len(self._windows) > _REMEMBERED:
            self._windows.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, _CUSTOMER), strict=False))
