from collections.abc import Iterator

import processes
import pytest

ROUTES = {
    "gpt-4o": {"deployments": [{"provider": "up", "model": "echo"}]},
    "gpt-4o-mini": {"deployments": [{"provider": "up", "model": "echo"}]},
    "echo": {"deployments": [{"provider": "up", "model": "echo"}]},
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
