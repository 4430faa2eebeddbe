"""A limit on the characters of one text."""

from policies.guards.settings import LengthConfig
from policies.guards.verdict import Role, Scan, Span, Verdict


class Length:
    """The guard."""

    kind = "length"

    def __init__(self, config: LengthConfig) -> None:
        if config.max_chars < 1:
            raise ValueError("length: max_chars must be at least 1")
        self.limit = config.max_chars
        self.version = f"length {config.max_chars}"

    def scan(self, text: str, _role: Role, /) -> Scan:
        """One comparison; the span is what is too much."""
        yield from ()
        limit = self.limit
        if len(text) <= limit:
            return Verdict(self.kind, "allow", scanned=len(text))
        return Verdict(self.kind, "block", 1.0, (Span(limit, len(text), "length"),), ("length",), len(text))
