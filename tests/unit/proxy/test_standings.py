"""Who is told of what rests: also of models that no configuration names."""

from typing import Any, cast

import pytest
from support.calls import Clock

from policies.cooldown import CooldownConfig, Cooldowns
from proxy.deployments import Deployment, Provider, Route
from proxy.errors import UpstreamLimited
from proxy.exposition import Sample
from proxy.router import Router
from proxy.standings import Standings


def place(provider: str, model: str) -> Deployment:
    return Deployment(f"{provider}/{model}", provider, model, cast("Provider", None))


ROUTER = Router(
    [
        Route("chat", (place("p", "a"), place("p", "other"))),
        Route("p/*", (place("p", "*"),)),
        Route("p/*", (place("p", "*"),)),
        Route("tuned/*", (place("q", "ft:*:ours"), place("p", "a"))),
    ]
)


@pytest.fixture
def cooldowns() -> Cooldowns:
    return Cooldowns(CooldownConfig(), Clock())


@pytest.fixture
def standings(cooldowns: Cooldowns) -> Standings:
    return Standings(lambda: ROUTER, cooldowns)


def rest(cooldowns: Cooldowns, *ids: str) -> None:
    for each in ids:
        cooldowns.failed(each, UpstreamLimited("no", retry_after=60, exhausted=False))


def figures(samples: list[Sample], name: str) -> dict[tuple[str, str], Any]:
    found = [(each.labels["provider"], each.labels["model"], each.value) for each in samples if each.name == name]
    figures = {(provider, model): value for provider, model, value in found}
    assert len(figures) == len(found), "a scraper refuses what is told twice"
    return figures


def test_what_rests_behind_a_star_is_told_by_its_own_name(cooldowns: Cooldowns, standings: Standings) -> None:
    """And what stands for many models is not told to be open."""
    rest(cooldowns, "p/m2", "q/ft:x:ours", "gone/m")
    cooldowns.succeeded("p/good", 0.1)
    told = {each["name"]: each["standing"] for each in standings.described()}
    assert told == {
        "p a": "open", "p other": "open", "p m2": "cooling", "q ft:x:ours": "cooling", "p good": "open",
    }  # fmt: skip
    resting = figures(standings.samples(), "lockgate_deployment_resting")
    assert resting == {("p", "a"): 0, ("p", "other"): 0, ("p", "m2"): 1, ("q", "ft:x:ours"): 1}


def test_names_that_clients_invent_do_not_fill_the_metrics(cooldowns: Cooldowns, standings: Standings) -> None:
    """The first twenty of a provider keep their labels, the rest are one; a configured model may be called the same."""
    rest(cooldowns, "p/other", *(f"p/m{number}" for number in range(50)), "q/ft:x:ours")
    for _ in range(2):
        rests = figures(standings.samples(), "lockgate_cooldowns_total")
        assert [rests["p", f"m{number}"] for number in range(20)] == [1] * 20
        assert rests["p", "other"] == 31
        assert rests["q", "ft:x:ours"] == 1
        assert len(rests) == 23


def test_a_scrape_looks_at_no_more_than_it_has_time_for(cooldowns: Cooldowns, standings: Standings) -> None:
    """Thousands of invented models that rest would hold the loop for ten milliseconds and more; what is configured is told all the same."""
    rest(cooldowns, *(f"p/m{number}" for number in range(3000)), "p/a")
    rests = figures(standings.samples(), "lockgate_cooldowns_total")
    assert rests["p", "other"] == 180
    assert rests["p", "a"] == 1


def test_what_rests_comes_first_of_what_is_listed(cooldowns: Cooldowns, standings: Standings) -> None:
    """No more than a hundred that nobody configured, however many there are."""
    rest(cooldowns, "p/rests")
    for number in range(200):
        cooldowns.succeeded(f"p/m{number}", 0.1)
    names = [each["name"] for each in standings.described()]
    assert names[:4] == ["p a", "p other", "p rests", "p m199"]
    assert len(names) == 102
