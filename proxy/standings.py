"""Which deployments rest, by names that an operator knows: the configured ones, and those that calls found behind `*`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from policies.cooldown import Cooldowns
from proxy.deployments import Deployment
from proxy.exposition import Sample
from proxy.metrics import OTHER
from proxy.router import Router

_NAMED = 20
"""Models that nobody configured and that get a label of their own, of each provider: clients can invent them."""
_LISTED = 100
_WALKED = 200
"""Models that nobody configured and that a scrape looks at: each takes microseconds, and a scrape may hold the loop for 2 ms."""


class Found(NamedTuple):
    """A deployment and how it is called."""

    id: str
    provider: str
    model: str


class Standings:
    """What is known of the deployments of the present router, told in two ways."""

    def __init__(self, router: Callable[[], Router], cooldowns: Cooldowns) -> None:
        self._router = router
        self._cooldowns = cooldowns
        self._named: dict[str, set[str]] = {}

    def described(self) -> list[dict[str, Any]]:
        """Every configured deployment; of those behind `*` at most a hundred: what rests first, then the latest known."""
        configured, patterns = self._configured()
        known = self._cooldowns.known()
        resting = [one for one, health in known.items() if health.until]
        others = [one for one, health in reversed(list(known.items())) if not health.until]
        behind = _behind((one for one in (*resting, *others) if one not in configured), patterns)
        return [
            {"name": f"{each.provider} {each.model}", **self._cooldowns.describe(each.id)}
            for each in (*configured.values(), *islice(behind, _LISTED))
        ]

    def samples(self) -> list[Sample]:
        """Every configured deployment, and what ever rested behind `*`: the first twenty of a provider, the rest as one. No
        more than two hundred of these are looked at, the ones first heard of.

        A label once given stays, so that no counter jumps.
        """
        configured, patterns = self._configured()
        known = self._cooldowns.known()
        rested = (one for one, health in known.items() if health.rests and one not in configured)
        figures: dict[tuple[str, str], tuple[int, int]] = {}
        for each in (*configured.values(), *_behind(islice(rested, _WALKED), patterns)):
            name = (each.provider, each.model if each.id in configured else self._label(each))
            resting, rests = figures.get(name, (0, 0))
            health = known.get(each.id)
            if health is not None and health.rests:
                resting, rests = resting or int(self._cooldowns.standing(each.id) == "cooling"), rests + health.rests
            figures[name] = (resting, rests)
        found = []
        for (provider, model), (resting, rests) in figures.items():
            labels = {"provider": provider, "model": model}
            found.append(Sample("lockgate_deployment_resting", "Whether a deployment rests.", resting, labels))
            found.append(Sample("lockgate_cooldowns_total", "Rests begun.", rests, labels, kind="counter"))
        return found

    def _configured(self) -> tuple[Mapping[str, Found], list[Deployment]]:
        """Each once, whichever routes name it, by id; and apart from them those that stand for many models."""
        router = self._router()
        patterns = [each for route in router.patterns for each in route.deployments if "*" in each.id]
        stars = {each.id for each in patterns}
        configured = {
            each.id: Found(each.id, each.provider_name, each.model)
            for route in (*router.exact.values(), *router.patterns)
            for each in route.deployments
            if each.id not in stars
        }
        return configured, patterns

    def _label(self, found: Found) -> str:
        named = self._named.setdefault(found.provider, set())
        if found.model not in named and len(named) < _NAMED:
            named.add(found.model)
        return found.model if found.model in named else OTHER


def _behind(ids: Iterable[str], patterns: Iterable[Deployment]) -> Iterator[Found]:
    """Those of the ids that one of the patterns can have made."""
    ends = [(each.id.partition("*")[0], each.id.rpartition("*")[2], each.provider_name) for each in patterns]
    for one in ids:
        for begin, end, provider in ends:
            if one.startswith(begin) and one.endswith(end):
                yield Found(one, provider, one.removeprefix(f"{provider}/"))
                break
