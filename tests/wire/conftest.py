from collections.abc import Callable, Iterator
from typing import Any

import environments
import msgspec
import processes
import pytest

Facts = Callable[[str], Any]

ROUTES = {
    "gpt-4o": {"deployments": [{"provider": "up", "model": "echo"}]},
    "gpt-4o-mini": {"deployments": [{"provider": "up", "model": "echo+chunks=4"}]},
    "tools": {"deployments": [{"provider": "up", "model": "tools"}]},
    "text-embedding-3-small": {"deployments": [{"provider": "up", "model": "echo+dims=64"}]},
    "omni-moderation-latest": {"deployments": [{"provider": "up", "model": "echo"}]},
    "fake/*": {"deployments": [{"provider": "up", "model": "*"}]},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of an environment also makes it, so these tests get more time than others."""
    for item in items:
        if item.path.parent.name == "wire":
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Server]:
    with processes.fake(tmp_path_factory.mktemp("upstream")) as server:
        yield server


@pytest.fixture(scope="session")
def gateway(upstream: processes.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.Server]:
    with processes.gateway(tmp_path_factory.mktemp("gateway"), upstream, ROUTES) as server:
        yield server


@pytest.fixture(scope="session")
def client_env(gateway: processes.Server, upstream: processes.Server) -> dict[str, str]:
    """What a client program finds in its environment; UPSTREAM_BASE_URL is the same API without the gateway."""
    return {"OPENAI_BASE_URL": gateway.openai, "OPENAI_API_KEY": "sk-client", "UPSTREAM_BASE_URL": upstream.openai}


@pytest.fixture(scope="session")
def environment() -> Callable[[str], environments.Environment]:
    """Makes an environment by name."""
    return environments.make


def reader(printed: str) -> Facts:
    """Read what `sections.report` or its JavaScript twin printed: facts by section name; a failed one raises."""
    outcome = msgspec.json.decode(printed.splitlines()[-1])

    def facts(section: str) -> Any:
        if "failed" in outcome[section]:
            pytest.fail(f"section {section} of the client program:\n{outcome[section]['failed']}", pytrace=False)
        return outcome[section]["facts"]

    return facts


@pytest.fixture(scope="session")
def read_report() -> Callable[[str], Facts]:
    return reader
