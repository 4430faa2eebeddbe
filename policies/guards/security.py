"""What guards report: the security log, one line an event, and the counts behind `/system/security-metrics`."""

import hashlib
import hmac
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.call import Call, Verdict

logger = logging.getLogger("lockgate.security")

_KEY_BYTES: Final = 32
_EXCERPT: Final = 2_000
"""Characters of a text that a line may hold where texts are asked for."""


Counted = tuple[str, str, str, str]
"""Guard, side, action and route."""


class Count(msgspec.Struct, frozen=True):
    """How often a guard gave a verdict, by what it is about."""

    guard: str
    side: str
    action: str
    route: str
    calls: int


class Security:
    """One an instance: it outlives reloads, so that counts never go back.

    Every guard counts once a call, with its gravest verdict; `shadow` is the action of one that was only recorded.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.totals: Counter[Counted] = Counter()
        """Actions: allow, flag, redact, block, shadow, not_scanned, error."""

    def count(self, verdict: Counted) -> None:
        """One more."""
        self.totals[verdict] += 1

    def counts(self) -> list[Count]:
        """All of them, sorted by what they are about."""
        return [Count(*key, calls) for key, calls in sorted(self.totals.items())]

    def summary(self) -> dict[str, Any]:
        """The answer of `/system/security-metrics`: totals by action, by guard and by route, and every count."""
        by: dict[str, Counter[str]] = {"action": Counter(), "guard": Counter(), "route": Counter()}
        for (guard, _, action, route), calls in self.totals.items():
            by["action"][action] += calls
            if action not in ("allow", "not_scanned"):
                by["guard"][guard] += calls
                by["route"][route] += calls
        return {
            "by_action": dict(by["action"]),
            "findings_by_guard": dict(by["guard"]),
            "findings_by_route": dict(by["route"]),
            "counts": [msgspec.to_builtins(count) for count in self.counts()],
        }

    def log(self, call: Call, verdict: Verdict, text: str, *, with_text: bool) -> None:
        """One line of JSON for one finding. `text` is what was judged."""
        if not logger.isEnabledFor(logging.WARNING):
            return
        line: dict[str, Any] = {
            "event": "guard",
            "call": call.id,
            "endpoint": call.endpoint.name,
            "caller": call.caller.id,
            "owner": call.caller.owner,
            "peer": call.peer,
            "route": call.route.name,
            "guard": verdict.guard,
            "side": verdict.side,
            "action": "shadow" if verdict.shadow else verdict.action,
            "where": verdict.where,
            "score": verdict.score,
            "reasons": verdict.reasons,
            "content_hmac": self.digest(text),
            "content_length": len(text),
        }
        if with_text:
            line["text"] = text[:_EXCERPT]
        logger.warning("%s", msgspec.json.encode(line).decode())

    def digest(self, text: str) -> str:
        """A keyed digest: equal texts can be told to be equal, and none can be guessed without the key."""
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def security_key(folder: Path | None) -> bytes:
    """The key of content digests: kept in the state folder, for this process alone without one. Raises OSError."""
    if folder is None:
        return os.urandom(_KEY_BYTES)
    path = folder / "security.key"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
    except FileExistsError:
        pass
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise OSError(f"{path} is damaged: remove it, and content digests begin anew")
    return key
