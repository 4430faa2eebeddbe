"""What stands beside every answer, how long one may take, and whose a cached one is."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.http import CHAT, Answered, Connection, chat
from support.live import Gateway, gateway, upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = "sk-admin-of-the-answers"
SLOW = "echo+chunks=3+every=100ms"
PRICE = {"input": 1, "output": 2}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with upstream() as (_, base_url):
        config: dict[str, Any] = {
            "providers": {"up": {"kind": "openai", "base_url": base_url, "api_key": "sk-up"}},
            "routes": {
                "first": {
                    "deployments": [{"provider": "up", "model": "echo+status=500"}, {"provider": "up", "model": SLOW}]
                },
                "second": {"deployments": [{"provider": "up", "model": "echo+status=400"}], "fallbacks": ["first"]},
                "*": {"deployments": [{"provider": "up", "model": "*"}]},
            },
            "prices": {"models": {"up/*": PRICE}},
            "input_guards": [{"kind": "injection"}],
            "exact_cache": {},
            "failover": {"tries": 1},
            "timeouts": {"total": "700ms", "first_content": "600ms", "idle": "600ms"},
            "authenticate": {"keys": True},
            "caller_limits": {"requests": "1000/minute", "tokens": "1000000/minute"},
            "secrets": {"admin_key": ADMIN},
        }
        async with gateway(tmp_path_factory.mktemp("answers"), config) as gate:
            yield gate


async def ask(gate: Gateway, body: bytes, path: str = CHAT, key: str = ADMIN, method: str = "POST") -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request(method, path, body, authorization=f"Bearer {key}")


async def new_key(gate: Gateway, owner: str) -> str:
    made = await ask(gate, json.dumps({"name": owner, "owner": owner, "models": ["*"]}).encode(), "/admin/keys")
    return str(made.json["key"])


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_says_who_gave_it_and_what_it_took(live: Gateway, stream: bool) -> None:
    """Provider, model, attempts, fallbacks, cache, guard, time; what it cost, where that is known before the body."""
    answer = await ask(live, chat("first", f"count to {stream:d}", stream=stream))
    told = answer.headers
    assert answer.status == 200
    assert (told["x-lockgate-provider"], told["x-lockgate-model"]) == ("up", SLOW)
    assert (told["x-lockgate-attempts"], told["x-lockgate-fallbacks"]) == ("2", "0")
    assert (told["x-lockgate-cache"], told["x-lockgate-guard"]) == ("miss", "allow")
    assert 0 < float(told["x-lockgate-overhead-ms"]) < 500
    assert int(told["openai-processing-ms"]) >= 0
    assert int(told["x-ratelimit-remaining-requests"]) < int(told["x-ratelimit-limit-requests"]) == 1000
    if stream:
        assert "x-lockgate-cost-usd" not in told
    else:
        usage = answer.json["usage"]
        cost = (usage["prompt_tokens"] * PRICE["input"] + usage["completion_tokens"] * PRICE["output"]) / 1e6
        assert float(told["x-lockgate-cost-usd"]) == pytest.approx(cost) != 0


async def test_what_a_stream_cost_can_be_asked_for_by_its_id(live: Gateway) -> None:
    """Nobody knew it when its headers left."""
    answer = await ask(live, chat("*", "five words are said here", stream=True, stream_options={"include_usage": True}))
    last = json.loads(answer.body.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    record = (await ask(live, b"", f"/admin/requests/{answer.headers['x-request-id']}", method="GET")).json
    assert record["usage"] == {"prompt": last["usage"]["prompt_tokens"], "completion": 5}
    assert record["cost"] == (record["usage"]["prompt"] * PRICE["input"] + 5 * PRICE["output"]) * 1000


async def test_a_refusal_names_no_place_and_no_deployment(live: Gateway) -> None:
    """Neither in what a client reads nor in what it can look at."""
    for body in (chat("second"), chat("echo+status=401"), chat("echo+fault=reset"), chat("echo+fault=html")):
        answer = await ask(live, body)
        assert answer.status >= 400
        said = answer.body.decode() + str(answer.headers)
        for inside in ("127.0.0.1", "sk-up", "up/echo"):
            assert inside not in said


async def test_the_total_bounds_a_whole_answer_and_never_cuts_a_stream(live: Gateway) -> None:
    """A whole one is given up after it; a stream that says something now and then runs on to its end."""
    whole, stream = await asyncio.gather(
        ask(live, chat("echo+delay=3s", "late")),
        ask(live, chat("long=8+chunks=8+every=250ms", stream=True)),
    )
    assert (whole.status, whole.json["error"]["code"]) == (504, "upstream_timeout")
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert b"word7" in stream.body.replace(b'"},', b"")


async def test_a_caller_calls_its_own_hits_wrong_and_nobody_elses(live: Gateway) -> None:
    """To another owner the answer is not there; an administrator may for everybody."""
    mine, theirs = await new_key(live, "acme"), await new_key(live, "other")
    for who, status in ((theirs, 404), (mine, 200), (ADMIN, 200)):
        body = chat(text=f"whose is this, {status}, {who[-4:]}")
        await ask(live, body, key=mine)
        hit = await ask(live, body, key=mine)
        assert hit.headers["x-lockgate-cache"] == "hit-exact"
        told = json.dumps({"request_id": hit.headers["x-request-id"]}).encode()
        assert (await ask(live, told, "/system/cache/feedback", who)).status == status
        again = await ask(live, body, key=mine)
        assert again.headers["x-lockgate-cache"] == ("hit-exact" if status == 404 else "miss")


async def test_live_says_nothing_of_the_parts_and_ready_names_each(tmp_path: Path) -> None:
    """A server of the caches that is away leaves the instance ready, and restarts nothing."""
    config = {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"echo": {"deployments": [{"provider": "fake", "model": "echo"}]}},
        "exact_cache": {},
        "qdrant": {"url": "http://127.0.0.1:9"},
    }
    async with gateway(tmp_path, config) as gate:
        alive = await ask(gate, b"", "/health/live", method="GET")
        ready = await ask(gate, b"", "/health/ready", method="GET")
    assert (alive.status, alive.json) == (200, {"status": "ok"})
    assert (ready.status, ready.json["status"]) == (200, "ok")
    assert ready.json["parts"]["qdrant"] == "degraded"
    assert {"providers", "records", "ledger", "loop"} <= ready.json["parts"].keys()
