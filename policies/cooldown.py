"""Which deployments rest, for how long, and how fast the others are."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from proxy.errors import UpstreamDenied, UpstreamError, UpstreamLimited
from proxy.values import Duration, duration

Standing = Literal["open", "probe", "cooling"]

_REMEMBERED = 4096
_SMOOTHING = 0.2


class CooldownConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a deployment rests.

    `limited`: after a 429 that names no time. `denied`: after a 401, 402, 403 or a spent quota. `failing`: when at
    least `failure_share` of the answers of the last `window`, and at least `minimum` of them, were failures.
    """

    limited: Duration = duration("5s")
    denied: Duration = duration("60s")
    failing: Duration = duration("30s")
    failure_share: float = 0.5
    minimum: int = 5
    window: Duration = duration("60s")
    longest: Duration = duration("3600s")


class Health(msgspec.Struct):
    """What is known of one deployment. Times are readings of the clock; latencies are seconds to the commit point."""

    until: float = 0.0
    reason: str = ""
    probing: bool = False
    rests: int = 0
    """How many times it began to rest."""
    latency: float | None = None
    """Smoothed: each new one counts a fifth."""
    recent: deque[tuple[float, bool]] = msgspec.field(default_factory=lambda: deque(maxlen=100))
    """When each of the last answers came, and whether it was good."""


class Cooldowns:
    """The health of every deployment of this instance, by deployment id. `now` is a monotonic clock in seconds."""

    def __init__(self, config: CooldownConfig, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._health: OrderedDict[str, Health] = OrderedDict()

    def configure(self, config: CooldownConfig) -> None:
        """Go by other settings from here on; what is known stays known."""
        self._config = config

    def health(self, deployment: str) -> Health:
        """What is known of it."""
        health = self._health.get(deployment)
        if health is None:
            if len(self._health) >= _REMEMBERED:  # ids hold clients' model names where a route is a pattern
                self._health.popitem(last=False)
            health = self._health[deployment] = Health()
        return health

    def known(self) -> Mapping[str, Health]:
        """What is known of each, also of those that no configuration names; the one first heard of comes first."""
        return self._health

    def standing(self, deployment: str) -> Standing:
        """`open`; `cooling` while it rests or is probed by another call; `probe` when its rest is over."""
        health = self.health(deployment)
        if not health.until:
            return "open"
        if health.probing or self._now() < health.until:
            return "cooling"
        return "probe"

    def remaining(self, deployment: str) -> float:
        """Seconds until it may be tried again."""
        return max(0.0, self.health(deployment).until - self._now())

    def describe(self, deployment: str) -> dict[str, Any]:
        """Its standing for the operator: seconds of rest left and why, latency, and its last answers."""
        health = self._health.get(deployment, Health())
        return {
            "standing": self.standing(deployment) if health.until else "open",
            "resting_for": round(max(0.0, health.until - self._now()), 3) if health.until else 0.0,
            "reason": health.reason,
            "rests": health.rests,
            "latency": health.latency,
            "recent_good": sum(good for _, good in health.recent),
            "recent_failed": sum(not good for _, good in health.recent),
        }

    def begin(self, deployment: str) -> None:
        """A call is about to try it: the only one, if it rests."""
        health = self.health(deployment)
        if health.until:
            health.probing = True

    def give_up(self, deployment: str) -> None:
        """The try ended without a verdict: the client left, or the request itself was at fault."""
        self.health(deployment).probing = False

    def succeeded(self, deployment: str, seconds: float) -> None:
        """It answered: its rest is over."""
        health = self.health(deployment)
        health.recent.append((self._now(), True))
        if health.until:
            health.until, health.reason, health.probing = 0.0, "", False
            health.recent.clear()
        health.latency = seconds if health.latency is None else health.latency + _SMOOTHING * (seconds - health.latency)

    def failed(self, deployment: str, error: UpstreamError) -> None:
        """It failed: it rests at once when it says so or refuses our key, else when it fails too often."""
        health = self.health(deployment)
        was_resting, health.probing = bool(health.until), False
        config = self._config
        if isinstance(error, UpstreamDenied) or (isinstance(error, UpstreamLimited) and error.exhausted):
            self._rest(health, config.denied, error.kind)
        elif isinstance(error, UpstreamLimited):
            self._rest(health, error.retry_after if error.retry_after is not None else config.limited, error.kind)
        else:
            now = self._now()
            health.recent.append((now, False))
            answers = [good for at, good in health.recent if now - at <= config.window]
            failing = len(answers) >= config.minimum and answers.count(False) >= config.failure_share * len(answers)
            if was_resting or failing:
                self._rest(health, max(config.failing, error.retry_after or 0.0), error.kind)

    def _rest(self, health: Health, seconds: float, reason: str) -> None:
        if not health.until:
            health.rests += 1
        health.until = max(health.until, self._now() + min(seconds, self._config.longest))
        health.reason = reason
