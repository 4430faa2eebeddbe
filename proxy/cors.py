"""Cross-origin access for browser clients: off unless configured."""

from collections.abc import Sequence

_EXPOSED = (
    b"x-request-id, retry-after, retry-after-ms, x-should-retry, openai-processing-ms, "
    b"x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens, "
    b"x-lockgate-cache, x-lockgate-provider, x-lockgate-guard"
)


class Cors:
    """Which origins a browser may call from; `*` is any."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """The headers for an answer to this origin, errors and streams included."""
        if origin is None or not (origin in self._origins or "*" in self._origins):
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin, Access-Control-Request-Headers"),
        ]
