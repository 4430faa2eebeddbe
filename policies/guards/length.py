"""A limit on the characters of one text."""

from typing import Literal

import msgspec

from policies.guards.verdict import Action, Role, Scan, Span, Verdict


class LengthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="length", tag_field="kind"):
    """Characters (code points) that a text may have."""

    max_chars: int
    action: Literal["block", "flag", "shadow"] = "block"


class Length:
    """The guard."""

    kind = "length"

    def __init__(self, config: LengthConfig) -> None:
        if config.max_chars < 1:
            raise ValueError("length: max_chars must be at least 1")
        self._config = config
        self.version = repr(config)

    def scan(self, text: str, _role: Role, /) -> Scan:
        """One comparison; the span is what is too much."""
        yield from ()
        limit = self._config.max_chars
        if len(text) <= limit:
            return Verdict(self.kind, "allow", scanned=len(text))
        action: Action = "block" if self._config.action == "block" else "flag"
        return Verdict(self.kind, action, 1.0, (Span(limit, len(text), "length"),), ("length",), len(text))
