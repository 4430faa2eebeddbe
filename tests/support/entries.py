"""Cache entries for tests."""

import hashlib
import math

from proxy.entries import Entry


def entry_of(name: str, **members: object) -> Entry:
    """An entry whose id follows from its name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    given = {
        "id": digest[:32],
        "partition": "p",
        "route": "r",
        "fingerprint": digest,
        "body": f'{{"name":"{name}"}}'.encode(),
        "created": 1000,
        "expires_at": 2000,
        **members,
    }
    return Entry(**given)  # type: ignore[arg-type]


def at(degrees: float) -> list[float]:
    """A vector in the plane."""
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]
