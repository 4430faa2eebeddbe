"""Limits, bounds and the short form as clients meet them, over HTTP."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, gateway

FAKE: dict[str, Any] = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {
        "echo": {"deployments": [{"provider": "fake", "model": "echo"}]},
        "bounded": {
            "deployments": [{"provider": "fake", "model": "echo"}],
            "parameters": {"max_tokens": [1, 10], "clamp": True},
        },
        "fake/*": {"deployments": [{"provider": "fake", "model": "*"}]},
    },
    "secrets": {"admin_key": "sk-admin"},
}


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Gateway]:
    limits = {"requests": "5/minute", "tokens": "10000/minute", "parallel": 2}
    config = FAKE | {"caller_limits": limits, "parameters": {"temperature": [0, 1]}}
    async with gateway(tmp_path, config) as gate:
        yield gate


async def test_every_answer_says_what_is_left_and_the_last_when_to_come_back(limited: Gateway) -> None:
    """Answers, streams, our own refusals, the model list; then 429 in OpenAI's shape."""
    async with Connection(limited.url) as wire:
        answers = [
            await wire.request("POST", CHAT, chat()),
            await wire.request("POST", CHAT, chat(stream=True)),
            await wire.request("POST", CHAT, chat(temperature=3)),
            await wire.request("GET", "/v1/models"),
            await wire.request("POST", "/llm/generate", b'{"model":"echo","prompt":"hi"}'),
            await wire.request("POST", CHAT, chat()),
        ]
    assert [each.status for each in answers] == [200, 200, 400, 200, 200, 429]
    assert [each.headers["x-ratelimit-remaining-requests"] for each in answers] == ["4", "3", "2", "1", "0", "0"]
    assert {each.headers["x-ratelimit-limit-requests"] for each in answers} == {"5"}
    assert answers[0].headers["x-ratelimit-remaining-tokens"] == "9998"  # its usage, not its estimate
    assert answers[3].headers["x-ratelimit-reset-requests"].endswith("s")
    refused = answers[-1]
    assert (refused.json["error"]["type"], refused.json["error"]["code"]) == ("requests", "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert int(refused.headers["retry-after-ms"]) <= int(refused.headers["retry-after"]) * 1000


async def test_a_caller_has_so_many_calls_at_a_time(tmp_path: Path) -> None:
    """Each counts from its coming to its last byte; a client that leaves frees its place."""
    body = chat("fake/echo+delay=30s", stream=True)
    config = FAKE | {"caller_limits": {"parallel": 2}}
    async with gateway(tmp_path, config) as gate, Connection(gate.url) as one, Connection(gate.url) as two:
        for wire in (one, two):
            await wire.send(head("POST", CHAT, body) + body)
        async with Connection(gate.url) as three, asyncio.timeout(20):
            while (answer := await three.request("GET", "/v1/models")).status != 429:
                pass
            assert "2 calls at the same time" in answer.json["error"]["message"]
            assert answer.headers["retry-after-ms"] == "1000"
            two.writer.close()
            while (await three.request("POST", CHAT, chat())).status != 200:
                pass


@pytest.mark.parametrize(
    ("model", "members", "param"),
    [("echo", {"temperature": 1.5}, "temperature"), ("echo", {"temperature": "hot"}, "temperature")],
)
async def test_what_is_out_of_bounds_is_refused(
    limited: Gateway, model: str, members: dict[str, Any], param: str
) -> None:
    """Before any provider is asked."""
    async with Connection(limited.url) as wire:
        answer = await wire.request("POST", CHAT, chat(model, **members))
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
    assert "x-lockgate-provider" not in answer.headers


async def test_what_a_policy_changed_stands_in_the_record(limited: Gateway) -> None:
    """The route clamps; the operator can see it."""
    async with Connection(limited.url) as wire:
        answer = await wire.request("POST", CHAT, chat("bounded", max_tokens=5000))
        assert answer.status == 200
        seen = await wire.request("GET", f"/admin/requests/{answer.headers['x-request-id']}", x_api_key="sk-admin")
    assert seen.json["changed"] == ["max_tokens"]
    assert seen.json["tokens"]["limit"] == 10000


async def test_the_documented_curl_command_of_the_short_form_works(limited: Gateway) -> None:
    """As it stands in docs/short_form.md, on another port."""
    page = (Path(__file__).parents[2] / "docs" / "short_form.md").read_text()
    command = page.partition("```sh\n")[2].partition("```")[0].replace("http://127.0.0.1:8000", limited.url)
    command = command.replace("gpt-4o-mini", "echo")
    done = await asyncio.to_thread(subprocess.run, command, shell=True, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["response"] == "Say hello."
    assert (answer["cached"], answer["cache_type"], answer["provider"]) == (False, None, "fake")
    assert answer["usage"]["total_tokens"] > 0


async def test_errors_of_the_short_form_have_openais_shape(limited: Gateway) -> None:
    """Its own and those of what it stands on."""
    async with Connection(limited.url) as wire:
        for body, status, param in (
            (b'{"model":"echo"}', 400, "prompt"),
            (b'{"model":"none","prompt":"x"}', 404, "model"),
            (b'{"model":"echo","prompt":"x","temperature":7}', 400, "temperature"),
        ):
            answer = await wire.request("POST", "/llm/generate", body)
            assert (answer.status, answer.json["error"]["param"]) == (status, param)
            assert set(answer.json["error"]) == {"message", "type", "param", "code"}
        assert (await wire.request("GET", "/llm/generate")).status == 405


async def test_an_address_without_a_key_is_limited_before_its_body_is_read(tmp_path: Path) -> None:
    """The refusal comes while the body is still to come; a virtual key passes."""
    config = FAKE | {"client_limits": {"requests": "1/minute", "trusted_proxies": ["127.0.0.1"]}}
    async with gateway(tmp_path, config) as gate, Connection(gate.url) as wire:
        assert (await wire.request("POST", CHAT, chat())).status == 200
        await wire.send(head("POST", CHAT, b"", content_length="1000000"))
        assert (await wire.answer()).status == 429
        async with Connection(gate.url) as other:
            key = {"authorization": "Bearer sk-lg-x"}
            assert (await other.request("POST", CHAT, chat(), **key)).status == 200
            assert (await other.request("POST", CHAT, chat(), x_forwarded_for="198.51.100.1")).status == 200
            assert (await other.request("POST", CHAT, chat(), x_forwarded_for="198.51.100.1")).status == 429


async def waits(wire: Connection, body: bytes) -> bool:
    """Whether the call gets no answer for the moment."""
    await wire.send(head("POST", CHAT, body) + body)
    try:
        answer = await asyncio.wait_for(wire.answer(), 0.2)
    except TimeoutError:
        return True
    assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    return False


async def test_the_line_in_front_of_the_gateway(tmp_path: Path) -> None:
    """One at a time: the second waits, the third finds the line full; a leaver makes room in it, an end lets one in."""
    config = FAKE | {"server": {"max_in_flight": 1, "queue": 1, "queue_wait": "20s"}}
    slow, quick = chat("fake/echo+delay=30s"), chat()
    async with gateway(tmp_path, config) as gate, Connection(gate.url) as first, Connection(gate.url) as fourth:
        assert await waits(first, slow)
        async with Connection(gate.url) as second, Connection(gate.url) as third:
            assert await waits(second, quick)
            assert not await waits(third, quick)
        async with asyncio.timeout(10):
            while not await waits(fourth, quick):
                pass  # until the second is seen to be gone
        first.writer.close()
        served = await fourth.answer()
        assert served.status == 200
        path = f"/admin/requests/{served.headers['x-request-id']}"
        record = await fourth.request("GET", path, x_api_key="sk-admin")
    assert record.json["queued"] >= 0.2


async def test_a_call_in_line_is_answered_when_the_gateway_ends(tmp_path: Path) -> None:
    """With a 503, like every call that is cut."""
    config = FAKE | {"server": {"max_in_flight": 1, "queue_wait": "60s", "drain_timeout": "0s"}}
    slow = chat("fake/echo+delay=30s")
    async with gateway(tmp_path, config) as gate, Connection(gate.url) as first, Connection(gate.url) as second:
        for wire in (first, second):
            assert await waits(wire, slow)
        gate.process.terminate()
        for wire in (first, second):
            assert (await wire.answer()).status == 503
