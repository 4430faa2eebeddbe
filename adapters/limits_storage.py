"""Limits kept by this process: a storage for the `limits` library that forgets what is over without looking for it."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from limits.aio.storage.base import Storage

from proxy.claims import Claim, Grant, Lease, Standing

_SHED = 2
"""Windows that are over and are forgotten with each claim: more than a claim can add."""


_NEVER = float("inf")
_NOWHERE = Standing(0, 0.0, 0.0)


class _Window:
    __slots__ = ("until", "used")

    def __init__(self, until: float) -> None:
        self.used = 0
        self.until = until


class _Windows(OrderedDict[str, _Window]):
    """Those of one length, the oldest first. None of them is over before `due`."""

    due = _NEVER

    def shed(self, now: float) -> None:
        """Forget a few of the oldest that are over."""
        for _ in range(_SHED):
            oldest = next(iter(self.values()), None)
            self.due = _NEVER if oldest is None else oldest.until
            if self.due > now:
                break
            self.popitem(last=False)


class LazyStorage(Storage):
    """Counts in memory, each step in constant time: a window that is over is noticed when it is next asked for, and a
    few of the oldest are dropped on the way. The library's own looks through every key on every hit.

    Windows of one length end in the order in which they began, so the oldest stands first. `now` is monotonic
    seconds, `wall` Unix time. Besides the library's storage it is a LimitStore; a place that this process holds is
    given back when its call ends, so nothing runs out.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._now = now
        self._wall = wall
        self._lengths: dict[int, _Windows] = {}
        self._places: dict[str, set[str]] = {}

    async def claim(self, claims: Sequence[Claim], lease: Lease | None = None) -> Grant:
        """Take all of it or nothing."""
        return self.claim_now(claims, lease)

    def claim_now(self, claims: Sequence[Claim], lease: Lease | None = None) -> Grant:
        """Take all of it or nothing: here nobody has to be asked."""
        now = self._now()
        found: list[_Window | None] = []
        refused: Claim | Lease | None = None
        for claim in claims:
            window = self._find(claim.key, claim.seconds, now)
            found.append(window)
            if refused is None and (0 if window is None else window.used) + claim.cost > claim.amount:
                refused = claim
        if refused is None and lease is not None and len(self._places.get(lease.key, ())) >= lease.amount:
            refused = lease
        if refused is None and lease is not None and lease.holder:
            self._places.setdefault(lease.key, set()).add(lease.holder)
        standings: list[Standing] = []
        for claim, window in zip(claims, found, strict=True):
            if refused is None:
                window = window or self._begin(claim.key, claim.seconds, now)  # noqa: PLW2901 - the one it is now
                window.used += claim.cost - claim.back
            standings.append(_NOWHERE if window is None else Standing(window.used, window.until - now, window.until))
        return Grant(tuple(standings), refused)

    def correct(self, claim: Claim, standing: Standing, by: int) -> None:
        """Count so much more or less."""
        now = self._now()
        window = self._find(claim.key, claim.seconds, now)
        if window is not None and (by > 0 or window.until == standing.until):
            window.used = max(0, window.used + by)
        elif window is None and by > 0:
            self._begin(claim.key, claim.seconds, now).used = by

    def release(self, lease: Lease) -> None:
        """Give a place back."""
        holders = self._places.get(lease.key)
        if holders is not None:
            holders.discard(lease.holder)
            if not holders:
                del self._places[lease.key]

    def _find(self, key: str, seconds: int, now: float) -> _Window | None:
        """The window of this moment; the oldest that are over are dropped."""
        windows = self._lengths.get(seconds)
        if windows is None:
            return None
        if windows.due <= now:
            windows.shed(now)
        window = windows.get(key)
        if window is None or window.until > now:
            return window
        del windows[key]
        return None

    def _begin(self, key: str, seconds: int, now: float) -> _Window:
        windows = self._lengths.get(seconds)
        if windows is None:
            windows = self._lengths[seconds] = _Windows()
        window = windows[key] = _Window(now + seconds)
        windows.due = min(windows.due, window.until)
        return window

    # What follows is the library's own interface: its strategies run on this storage as on any other.

    @property
    def base_exceptions(self) -> type[Exception]:
        """What may go wrong: nothing does."""
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; the first of a window sets its end."""
        now = self._now()
        window = self._find(key, expiry, now) or self._begin(key, expiry, now)
        window.used += amount
        return window.used

    async def get(self, key: str) -> int:
        """What was counted in the window of this moment."""
        window = self._any(key)
        return 0 if window is None else window.used

    async def get_expiry(self, key: str) -> float:
        """The Unix time at which it is over."""
        window = self._any(key)
        return self._wall() + (0.0 if window is None else window.until - self._now())

    async def check(self) -> bool:
        """Memory is always there."""
        return True

    async def reset(self) -> int:
        """Forget every window; says how many."""
        count = sum(len(windows) for windows in self._lengths.values())
        self._lengths.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget one."""
        for windows in self._lengths.values():
            windows.pop(key, None)

    def _any(self, key: str) -> _Window | None:
        now = self._now()
        return next((window for each in self._lengths if (window := self._find(key, each, now)) is not None), None)
