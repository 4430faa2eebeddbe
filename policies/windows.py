"""What the two policies of limits share: from a store's answer to a record's window, and to an error."""

import math
from typing import Literal

from proxy.call import Window
from proxy.claims import Claim, Standing
from proxy.errors import RateLimited, retry_headers


def window_of(claim: Claim, standing: Standing) -> Window:
    """Where the caller stands. A claim that could never be met names its whole window."""
    reset = standing.reset or float(claim.seconds)
    return Window(claim.amount, max(0, claim.amount - standing.used), reset)


def refusal(claim: Claim, window: Window, unit: Literal["requests", "tokens"]) -> RateLimited:
    """The error that says what ran out, and when to come back."""
    asked = f", this request asks for about {claim.cost}" if unit == "tokens" else ""
    return RateLimited(
        f"Rate limit reached: {claim.amount} {unit} in {claim.seconds} s, {window.remaining} left{asked}. "
        f"Try again in {math.ceil(window.reset)} s.",
        unit=unit,
        headers=retry_headers(window.reset),
    )
