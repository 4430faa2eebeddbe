"""What a guard says about a text, and the seam every guard stands behind."""

from collections.abc import Generator
from typing import Final, Literal, Protocol, TypeVar

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]
_Result = TypeVar("_Result")
Action = Literal["allow", "flag", "redact", "block", "not_scanned"]


GRAVITY: Final = ("", "off", "allow", "not_scanned", "flag", "redact", "block")
"""What the header of an answer can say of all guards together, from the least to the gravest."""
_RANKS: Final = {said: rank for rank, said in enumerate(GRAVITY)}


def graver(said: str, action: str) -> str:
    """The graver of two; what the header cannot say (a guard's own failure) counts as not scanned."""
    action = action if action in _RANKS else "not_scanned"
    return action if _RANKS[action] > _RANKS[said] else said


class Span(msgspec.Struct, frozen=True, order=True, gc=False):
    """Characters `start` to `end` of the scanned text, and what they are (a word for the placeholder, never the text)."""

    start: int
    end: int
    what: str


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """One guard's finding. `score` is 0 to 1. `reasons` (layers, rule ids, kinds) are for operators, never for clients.

    `scanned` counts the characters that were looked at; less than the text's length means that a limit cut in.
    """

    guard: str
    action: Action
    score: float = 0.0
    spans: tuple[Span, ...] = ()
    reasons: tuple[str, ...] = ()
    scanned: int = 0


Scan = Generator[None, None, Verdict]


class Guard(Protocol):
    """One check of text. Immutable, safe to share between tasks and threads."""

    @property
    def kind(self) -> str:
        """The word it has in the configuration."""

    @property
    def version(self) -> str:
        """Changes whenever the guard could judge a text differently: part of the keys of caches."""

    def scan(self, text: str, role: Role, /) -> Scan:
        """Scan in slices: the generator yields after at most a few milliseconds of work and returns the verdict."""


def finish(work: Generator[None, None, _Result]) -> _Result:
    """Run a scan, or other work in slices, to its end at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
