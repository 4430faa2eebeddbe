"""What the two policies of limits share: from a store's answer to a record's window, and to an error."""

import math
from typing import Literal

from proxy.call import Record, Window
from proxy.claims import Claim, Grant, Standing
from proxy.errors import RateLimited, retry_headers


def note(record: Record, grant: Grant, requests: Claim | None, tokens: Claim | None = None) -> Standing | None:
    """Write down where the caller stands, who claimed requests, tokens or both; returns the standing of the tokens.

    A claim that could never be met names its whole window. Where nothing was counted nothing is written.
    """
    standings = grant.standings
    if not standings:
        return None
    if requests is not None:
        record.requests = window_of(requests, standings[0])
    if tokens is None:
        return None
    record.tokens = window_of(tokens, standings[-1])
    return standings[-1]


def window_of(claim: Claim, standing: Standing) -> Window:
    """Where a caller stands."""
    return Window(claim.amount, max(0, claim.amount - standing.used), standing.reset or float(claim.seconds))


def refusal(claim: Claim, standing: Standing, unit: Literal["requests", "tokens"]) -> RateLimited:
    """The error that says what ran out, and when to come back."""
    window = window_of(claim, standing)
    asked = f", this request asks for about {claim.cost}" if unit == "tokens" else ""
    return RateLimited(
        f"Rate limit reached: {claim.amount} {unit} in {claim.seconds} s, {window.remaining} left{asked}. "
        f"Try again in {math.ceil(window.reset)} s.",
        unit=unit,
        headers=retry_headers(window.reset),
    )
