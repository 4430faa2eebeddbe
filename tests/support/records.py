"""What a gateway has written down."""

from pathlib import Path
from typing import Any

import msgspec

from proxy.segments import Stored, Tail


def stored_in(state: Path) -> list[Stored]:
    """Every record in the outbox of this state folder, in order."""
    tail = Tail(state / "outbox", 0)
    found = []
    while batch := tail.read():
        found += batch
    tail.close()
    return found


def records_in(state: Path) -> list[dict[str, Any]]:
    """The same, each as `lockgate records` prints it."""
    return [msgspec.to_builtins(each.record) for each in stored_in(state)]
