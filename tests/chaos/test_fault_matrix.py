"""Every way an upstream can fail, over real sockets, against the table of `fault_cases`."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from fault_cases import FAULTS, NO_HOST, REFUSED, UNTRUSTED, UP, Fault, expected, page
from support.certificates import self_signed, server_context
from support.live import gateway, upstream

TEXT = "one two three four five six seven eight"
CELLS = [(fault, stream, fallback) for fault in FAULTS for stream in (False, True) for fallback in (False, True)]


class Seen(msgspec.Struct):
    """What became of one call, as its client saw it."""

    status: int = 0
    code: str | None = None
    event: str | None = None
    text: str = ""
    raised: str = "nothing"
    headers: dict[str, str] = {}
    seconds: float = 0.0
    record: dict[str, Any] = {}


def _name(fault: Fault, *, stream: bool, fallback: bool) -> str:
    return f"{fault.name}{' stream' if stream else ''}{' fallback' if fallback else ''}"


def _config(base_url: str, untrusted: str, closed: int) -> dict[str, Any]:
    providers = {
        UP: {"kind": "openai", "base_url": base_url, "api_key": "sk-up"},
        REFUSED: {"kind": "openai", "base_url": f"http://127.0.0.1:{closed}/v1"},
        UNTRUSTED: {"kind": "openai", "base_url": untrusted},
        NO_HOST: {"kind": "openai", "base_url": "http://no-such-host.invalid/v1"},
    }
    routes: dict[str, Any] = {"good": {"deployments": [{"provider": UP, "model": "echo"}]}}
    for number, (fault, stream, fallback) in enumerate(CELLS):
        # a model of its own for each cell, so that no cell's cooldown touches another
        model = f"{fault.script}+text=cell_{number}"
        routes[_name(fault, stream=stream, fallback=fallback)] = {
            "deployments": [{"provider": fault.provider, "model": model}],
            "fallbacks": ["good"] if fallback else [],
        }
    return {
        "providers": providers,
        "routes": routes,
        "timeouts": {"connect": "1s", "first_content": "900ms", "idle": "500ms", "total": "900ms"},
        "failover": {"tries": 2, "backoff": "20ms", "deadline": "8s"},
        "secrets": {"admin_key": "sk-admin"},
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Every cell's call, made at once."""
    return asyncio.run(_run(tmp_path_factory.mktemp("matrix")))


async def _run(folder: Path) -> dict[str, Seen]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and never listening: connections to it are refused
        async with (
            upstream() as (_, base_url),
            upstream(server_context(self_signed(folder))) as (_, untrusted),
            gateway(folder, _config(base_url, untrusted, unused.getsockname()[1])) as live,
            openai.AsyncOpenAI(base_url=live.openai, api_key="sk", max_retries=0, timeout=30) as client,
        ):
            limit = asyncio.Semaphore(24)

            async def one(cell: tuple[Fault, bool, bool]) -> tuple[str, Seen]:
                name = _name(cell[0], stream=cell[1], fallback=cell[2])
                async with limit:
                    found = await _call(client, name, stream=cell[1])
                found.record = await _record(client, found.headers.get("x-request-id", ""), live.url)
                return name, found

            return dict(await asyncio.gather(*(one(cell) for cell in CELLS)))


async def _call(client: openai.AsyncOpenAI, model: str, *, stream: bool) -> Seen:
    found = Seen()
    began = time.monotonic()
    messages: Any = [{"role": "user", "content": TEXT}]
    try:
        if stream:
            raw = await client.chat.completions.with_raw_response.create(model=model, messages=messages, stream=True)
            found.status, found.headers = raw.status_code, dict(raw.headers)
            async for chunk in raw.parse():
                found.text += chunk.choices[0].delta.content or ""
        else:
            answer = await client.chat.completions.with_raw_response.create(model=model, messages=messages)
            found.status, found.headers = answer.status_code, dict(answer.headers)
            found.text = answer.parse().choices[0].message.content or ""
    except openai.APIStatusError as error:
        found.raised, found.status = type(error).__name__, error.status_code
        found.headers, found.code = dict(error.response.headers), error.code
    except openai.APIError as error:
        found.raised, found.event = type(error).__name__, error.code
    found.seconds = time.monotonic() - began
    return found


async def _record(client: openai.AsyncOpenAI, call_id: str, url: str) -> dict[str, Any]:
    """The record as the operator reads it; a client may see its answer a moment before the record is sealed."""
    for _ in range(50):
        answer = await client._client.get(f"{url}/admin/requests/{call_id}", headers={"x-api-key": "sk-admin"})
        if answer.status_code == 200:
            record: dict[str, Any] = answer.json()
            return record
        await asyncio.sleep(0.02)
    return {}


@pytest.mark.parametrize(
    ("fault", "stream", "fallback"), CELLS, ids=[_name(f, stream=s, fallback=b).replace(" ", "-") for f, s, b in CELLS]
)
def test_a_fault_is_told_as_the_matrix_says(seen: dict[str, Seen], fault: Fault, stream: bool, fallback: bool) -> None:
    """Status or event, attempts in order, outcome, time bound and what the SDK raises are the table's."""
    found = seen[_name(fault, stream=stream, fallback=fallback)]
    promise = expected(fault, stream=stream, fallback=fallback)
    attempts = found.record.get("attempts", [])
    assert (found.status, found.raised) == (promise.status, promise.sdk)
    assert found.event == promise.event
    if promise.code is not None:
        assert found.code == promise.code
    assert [attempt["kind"] for attempt in attempts] == list(promise.kinds)
    assert found.headers["x-lockgate-attempts"] == str(promise.attempts)
    assert found.record["outcome"] == promise.outcome
    assert found.seconds < fault.seconds
    if promise.sdk == "nothing":
        assert found.text == TEXT if len(attempts) > 1 else found.text
    if promise.event is not None:
        assert not found.text.endswith("eight"), "a cut stream must not look finished"


def test_a_failed_call_asks_the_client_not_to_retry_what_we_retried(seen: dict[str, Seen]) -> None:
    """`x-should-retry: false` stands on every failure of ours."""
    failed = [found for found in seen.values() if found.status in (429, 502, 504)]
    assert len(failed) > 20
    assert {found.headers.get("x-should-retry") for found in failed} == {"false"}


def test_no_credential_of_ours_and_no_place_is_told_to_the_client(seen: dict[str, Seen]) -> None:
    """Neither key nor address of a provider stands in any header."""
    for found in seen.values():
        told = " ".join(found.headers.values())
        assert "sk-up" not in told
        assert "no-such-host" not in told


def test_the_published_matrix_is_the_tested_one() -> None:
    """docs/fault-matrix.md is made from the table."""
    root = Path(__file__).parents[2]
    assert (root / "docs" / "fault-matrix.md").read_text() == page()
