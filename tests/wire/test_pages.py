"""The pages beside the API: health, and documentation that needs no internet."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.http import Connection
from support.live import Gateway, gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    config = {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"r": {"deployments": [{"provider": "fake", "model": "echo"}]}},
        "secrets": {"admin_key": "sk-admin"},
    }
    async with gateway(tmp_path_factory.mktemp("pages"), config) as gate:
        yield gate


async def test_the_documentation_needs_nothing_from_outside(live: Gateway) -> None:
    """The page names only paths of this server, and each of them is there."""
    async with Connection(live.url) as wire:
        page = (await wire.request("GET", "/docs")).body.decode()
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        for path in re.findall(r"(?:src|href)=\"(/[^\"]+)\"", page):
            assert (await wire.request("GET", path)).status == 200, path


async def test_the_document_describes_the_openai_routes(live: Gateway) -> None:
    """Every POST endpoint and the models."""
    async with Connection(live.url) as wire:
        paths = (await wire.request("GET", "/openapi.json")).json["paths"]
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/responses"):
        assert "post" in paths[path]
    assert {"/llm/generate", "/v1/models", "/v1/models/{model}", "/health/ready"} <= set(paths)


async def test_a_call_that_is_not_remembered_is_a_404(live: Gateway) -> None:
    """In shape, for the operator only."""
    async with Connection(live.url) as wire:
        answer = await wire.request("GET", "/admin/requests/none", x_api_key="sk-admin")
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ("onwer=acme", "onwer", "unknown_parameter"),
        ("from=2026-11-02&to=2026-11-01", "from", "invalid_value"),
    ],
)
async def test_usage_that_was_asked_wrongly_is_a_400(live: Gateway, asked: str, param: str, code: str) -> None:
    """Sums of everything, or of nothing, would look like an answer."""
    async with Connection(live.url) as wire:
        answer = await wire.request("GET", f"/admin/usage?{asked}", x_api_key="sk-admin")
        month = await wire.request("GET", "/admin/usage?to=2026-10-31&by=day&owner=acme", x_api_key="sk-admin")
    error = answer.json["error"]
    assert (answer.status, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert (month.status, month.json["from"], month.json["to"]) == (200, "2026-10-01", "2026-10-31")


@pytest.mark.parametrize("path", ["/health/live", "/healthz", "/health/ready", "/readyz"])
async def test_health_answers_under_both_names(live: Gateway, path: str) -> None:
    """Live and ready."""
    async with Connection(live.url) as wire:
        answer = await wire.request("GET", path)
    assert (answer.status, answer.json["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer nope"}, 401),
        ({"authorization": "bearer  sk-admin"}, 200),
        ({"x_api_key": "sk-admin"}, 200),
        ({"api_key": "sk-admin"}, 200),
        ({"authorization": "Bearer nope", "x_api_key": "sk-admin"}, 400),
    ],
)
async def test_the_operators_routes_open_to_the_admin_key_only(
    live: Gateway, headers: dict[str, str], status: int
) -> None:
    """In any of the three headers; keys that differ are refused."""
    async with Connection(live.url) as wire:
        answer = await wire.request("GET", "/admin/routes", b"", **headers)
    assert answer.status == status
    if status == 200:
        assert answer.json["routes"][0]["deployments"][0]["standing"] == "open"
    else:
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
