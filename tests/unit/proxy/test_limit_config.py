"""What the keys of limits, bounds and money take, and what they refuse at start."""

from typing import Any

import pytest
import yaml

from proxy.config import Config
from proxy.config_file import ConfigError, parse_config

DEPLOYMENT = {"provider": "fake", "model": "echo"}


def parsed(deployment: dict[str, Any] | None = None, route: dict[str, Any] | None = None, **keys: Any) -> Config:
    one = {"deployments": [DEPLOYMENT | (deployment or {})], **(route or {})}
    tree = {"providers": {"fake": {"kind": "fake"}}, "routes": {"r": one}, **keys}
    return parse_config(yaml.safe_dump(tree), {})


def problems(**keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(**keys)
    return caught.value.problems


def test_everything_that_is_documented_is_taken() -> None:
    """Rates, bounds, renames, and the store in both spellings."""
    config = parsed(
        deployment={"rename": {"max_tokens": "max_completion_tokens", "developer": "system"}},
        route={"parameters": {"temperature": [0, 2], "clamp": True}},
        client_limits={"requests": "10/second", "trusted_proxies": ["10.0.0.0/8", "::1"]},
        caller_limits={"requests": "600/minute", "tokens": "5000/day", "parallel": 0},
        parameters={"max_tokens": [1, 4096]},
        limits_store="valkey://h/0",
        budget={"assume_output": 1, "lease": "1s"},
        prices={"models": {"m": {"input": 0}}, "routes": {"r": {"input": 0.5, "output": 150, "most_output": 4096}}},
        server={"max_in_flight": 5, "queue": 0, "queue_wait": "200ms"},
    )
    assert config.client_limits is not None
    assert config.caller_limits is not None
    assert (config.client_limits.requests.amount, config.client_limits.requests.seconds) == (10, 1)
    assert config.caller_limits.tokens == (5000, 86400)
    assert config.counting.url == "valkey://h/0"
    assert parsed(limits_store={"url": "redis://h", "on_failure": "closed"}).counting.on_failure == "closed"
    assert parsed().counting.url == "memory://"


def test_bounds_of_a_route_alone_make_the_policy_exist() -> None:
    """They would say so in vain otherwise."""
    assert parsed().bounding is None
    assert parsed(route={"parameters": {"n": [1, 1]}}).bounding is not None


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"client_limits": {"requests": "60"}}, "client_limits.requests: "),
        ({"client_limits": {"requests": "0/minute"}}, "client_limits.requests: "),
        ({"client_limits": {"applies_to": "some"}}, "client_limits.applies_to: "),
        ({"client_limits": {"trusted_proxies": ["proxy.local"]}}, "client_limits.trusted_proxies: "),
        ({"caller_limits": {"rpm": 5}}, "caller_limits.rpm: "),
        ({"caller_limits": {"parallel": -1}}, "caller_limits.parallel: "),
        ({"parameters": {"temprature": [0, 1]}}, "parameters.temprature: "),
        ({"parameters": {"temperature": [1]}}, "parameters.temperature: "),
        ({"parameters": {"temperature": [1, 0]}}, "parameters.temperature: "),
        ({"parameters": {"max_tokens": [1, float("inf")]}}, "parameters.max_tokens: "),
        ({"route": {"parameters": {"n": [2, 1]}}}, "routes.r.parameters.n: "),
        ({"deployment": {"rename": {"max_tokens": "budget"}}}, "routes.r.deployments[0].rename: "),
        ({"limits_store": "memcached://h"}, "limits_store.url: "),
        ({"limits_store": "redis"}, "limits_store.url: "),
        ({"limits_store": {"url": "redis://h", "on_failure": "maybe"}}, "limits_store.on_failure: "),
        ({"server": {"max_in_flight": 0}}, "server: "),
        ({"server": {"queue": -1}}, "server: "),
        ({"budget": {"assume_output": -5}}, "budget.assume_output: "),
        ({"budget": {"lease": "0s"}}, "budget.lease: "),
        ({"prices": {"models": {"m": {"input": -1}}}}, "prices.models.m.input: "),
        ({"prices": {"models": {"m": {"input": 1, "cached": float("nan")}}}}, "prices.models.m.cached: "),
        ({"prices": {"models": {"m": {"input": float("inf")}}}}, "prices.models.m.input: "),
        ({"prices": {"models": {"m": {"input": 1, "most_output": 0}}}}, "prices.models.m.most_output: "),
        ({"prices": {"routes": {"r": {"input": 1, "output": -2}}}}, "prices.routes.r.output: "),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_path(keys: dict[str, Any], path: str) -> None:
    """Loud at start, quiet on the path."""
    assert any(problem.startswith(path) for problem in problems(**keys)), problems(**keys)


def test_a_stores_url_is_not_repeated_in_an_error() -> None:
    """It may hold a password."""
    assert "hunter2" not in "".join(problems(limits_store="rediz://:hunter2@h"))
