"""What `/health/live` and `/health/ready` say."""

from collections.abc import Callable, Mapping
from typing import Literal

State = Literal["ok", "degraded", "down"]
Part = Callable[[], State]


class Health:
    """The instance's own view of its parts. `parts` are asked on every question and must not block.

    An instance is ready unless it is going down or a part is down; a degraded part leaves it ready.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.draining = False

    def report(self) -> tuple[bool, dict[str, str]]:
        """Whether it is ready, and the state of each part by name."""
        states: dict[str, str] = {name: part() for name, part in self.parts.items()}
        if self.draining:
            states["server"] = "draining"
        return not self.draining and "down" not in states.values(), states
