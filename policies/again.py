"""What a policy does about a call that is equal, to the last byte, to one that the exact cache answered."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from proxy.call import Call, Record


class Again(NamedTuple):
    """`holds` says whether what was found then is still so, and changes nothing but what counts as used last. `act` does what the policy otherwise does
    on the way in, writes into the record what it otherwise writes, and undoes what it undoes on the way out of an
    answer that costs nothing. It raises what the policy raises.
    """

    holds: Callable[[], bool] | None = None
    act: Callable[[Record], None] | None = None


NOTHING = Again()
"""Of a policy for which equal calls are equal, and which writes nothing down."""


@runtime_checkable
class Repeatable(Protocol):
    """A policy that need not see a call again to know what to do about it."""

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """This call as the policy passes it on, and what to do about others like it; None where each must pass through.

        Nothing is counted for it, and its record is thrown away.
        """
        ...
