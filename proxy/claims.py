"""What is asked of the store that counts calls and tokens, and what it says."""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A share of a window: `cost` of at most `amount` in `seconds`, which begin with the window's first claim.

    `back` of the cost is given back at once: it must only have been there. For `claim_now` alone.
    """

    key: str
    amount: int
    seconds: int
    cost: int = 1
    back: int = 0


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A place among at most `amount` that are held at the same time; `holder` names who holds it.

    Without one it is left at once: it must only have been free. For `claim_now` alone.
    """

    key: str
    amount: int
    holder: str


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a window stands: `reset` is the seconds until it is over, `until` the same on the store's own clock."""

    used: int
    reset: float
    until: float


class Grant(msgspec.Struct, frozen=True, gc=False):
    """The answer: a standing for each claim, in order, and what was refused (None: nothing).

    Without standings nothing was counted: the store is away, and configuration lets calls pass then.
    """

    standings: tuple[Standing, ...] = ()
    refused: Claim | Lease | None = None


class LimitStore(Protocol):
    """Windows and places that every instance with the same store shares."""

    def claim_now(self, claims: Sequence[Claim], lease: Lease | None = None) -> Grant | None:
        """Take all of it or nothing, where nobody else has to be asked; None where `claim` has to be awaited."""
        ...

    async def claim(self, claims: Sequence[Claim], lease: Lease | None = None) -> Grant:
        """Take all of it or nothing, in one step. Raises Overloaded where a store that is away refuses calls."""
        ...

    def correct(self, claim: Claim, standing: Standing, by: int) -> None:
        """Count so much more for a claim that was granted, or less when `by` is negative. Never raises.

        Less is given back to the window that granted it and to no other, and no window goes below 0; more counts in
        the window of the moment.
        """
        ...

    def release(self, lease: Lease) -> None:
        """Give a place back. Never raises; a place that is not held any more stays as it is."""
        ...
