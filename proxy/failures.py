"""Bad keys and passwords by address, so that nobody guesses for long. In memory, one instance's own."""

from collections import OrderedDict
from collections.abc import Callable

_WINDOW = 60.0
_REMEMBERED = 10_000
"""Addresses: the one that failed longest ago is forgotten first."""


class Failures:
    """At most `limit` failures a minute and address, as `Callers.client` names it. `now` is a monotonic clock in seconds."""

    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self._now = now
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        if not self._windows:
            return 0.0
        began, failures = self._windows.get(address, (0.0, 0))
        return max(0.0, began + _WINDOW - self._now()) if failures >= self.limit else 0.0

    def count(self, address: str) -> None:
        """Count one."""
        now = self._now()
        began, failures = self._windows.pop(address, (now, 0))
        self._windows[address] = (began, failures + 1) if now < began + _WINDOW else (now, 1)
        if len(self._windows) > _REMEMBERED:
            self._windows.popitem(last=False)
