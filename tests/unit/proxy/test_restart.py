"""What a reload leaves as it was, by name."""

import pytest

from proxy.config_file import parse_config
from proxy.restart import waiting

SMALL = "providers: {p: {kind: fake}}\nroutes: {r: {deployments: [{provider: p, model: m}]}}\n"


@pytest.mark.parametrize(
    ("began", "later", "named"),
    [
        ("", "server: {port: 9000, drain_delay: 1s}", ["server.port", "server.drain_delay"]),
        ("record: {traces: 0.5}", "record: {traces: 0.1, bodies: full}", ["record.traces"]),
        ("", "record: {mlflow: '', interval: 5s, max_size: 2GB}", ["record.mlflow", "record.interval", "record.max_size"]),
        ("", "record: {otlp: {url: 'http://c', headers: {k: v}}}", ["record.otlp"]),
        ("", "limits_store: redis://r\ndatabase: postgresql://h/d", ["database", "limits_store"]),
        ("", "budget: {lease: 5s}\nledger: {keep: 1d}", ["budget.lease", "ledger.keep"]),
        ("", "metrics: {token: x}\nqdrant: {url: 'http://q'}", ["metrics.token", "qdrant"]),
        ("", "exact_cache: {}", ["exact_cache"]),
        ("exact_cache: {}", "exact_cache: {memory: 1MB}", ["exact_cache.memory"]),
        ("semantic_cache: {}", "semantic_cache: {embedder: {kind: minilm}, reranker: {base_url: 'http://r', threshold: 0.9}}",
         ["semantic_cache.embedder", "semantic_cache.reranker"]),
    ],
)  # fmt: skip
def test_every_change_that_waits_for_a_restart_is_named(began: str, later: str, named: list[str]) -> None:
    """And it waits the other way round too, unless it is a cache, which can be left out at once."""
    before, after = parse_config(SMALL + began, {}), parse_config(SMALL + later, {})
    assert waiting(before, after) == named
    assert waiting(after, before) == [each for each in named if each != "exact_cache"]


@pytest.mark.parametrize(
    "later",
    [
        "record: {traces: 0.5, bodies: redacted}",
        "record: {traces: 0.5}\nlog: {access: true}\nbudget: {}\nlimits_store: {url: 'memory://'}",
        "record: {traces: 0.5}\nserver: {max_in_flight: 5}\nfailover: {}",
    ],
)
def test_what_a_reload_takes_up_is_not_named(later: str) -> None:
    """Nor what says the same in other words."""
    assert waiting(parse_config(SMALL + "record: {traces: 0.5}", {}), parse_config(SMALL + later, {})) == []
