"""What an operator can see of a running gateway, and who else cannot."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.http import Answered, Connection
from support.live import Gateway, gateway
from support.prometheus import Point, read

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG: dict[str, Any] = {
    "providers": {"fake": {"kind": "fake"}, "dead": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
    "routes": {
        "chat": {"deployments": [{"provider": "fake", "model": "echo"}]},
        "second": {"deployments": [{"provider": "dead", "model": "x"}, {"provider": "fake", "model": "echo"}]},
        "fails": {"deployments": [{"provider": "fake", "model": "echo-500"}]},
        "limited/*": {"deployments": [{"provider": "fake", "model": "*"}]},
    },
    "failover": {"tries": 1, "cooldown": {"minimum": 1000}},
    "log": {"format": "json", "access": True},
}
READING = ["/metrics", "/admin/requests", "/admin/overview", "/admin/live", "/admin/routes"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(folder: Path) -> AsyncIterator[Gateway]:
    """A gateway of this machine alone, without any key."""
    async with gateway(folder, CONFIG) as gate:
        yield gate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One with an admin key and a scrape token."""
    keys = {"secrets": {"admin_key": "sk-admin"}, "metrics": {"token": "scrape-me"}}
    async with gateway(tmp_path_factory.mktemp("keyed"), CONFIG | keys) as gate:
        yield gate


async def chat(gate: Gateway, model: str, **more: Any) -> Answered:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}).encode()
    async with Connection(gate.url) as wire:
        return await wire.request("POST", "/v1/chat/completions", body)


async def see(gate: Gateway, path: str, **headers: str) -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request("GET", path, b"", **headers)


async def metrics(gate: Gateway) -> dict[str, list[Point]]:
    answer = await see(gate, "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return read(answer.body.decode())


def total(families: dict[str, list[Point]], name: str, **labels: str) -> float:
    return sum(point.value for point in families[name] if labels.items() <= point.labels.items())


async def test_a_model_that_rests_behind_a_star_is_seen_to_rest(local: Gateway) -> None:
    """In the overview and in the metrics, by its own name; what stands for many models never rests itself."""
    model = "echo+status=429+retry-after=600"
    assert (await chat(local, f"limited/{model}")).status == 429
    tables = (await see(local, "/admin/overview")).json["tables"]
    standings = {each["name"]: each["standing"] for each in tables["standing"]}
    assert standings[f"fake {model}"] == "cooling"
    assert "fake *" not in standings
    families = await metrics(local)
    assert total(families, "lockgate_deployment_resting", provider="fake", model=model) == 1
    assert total(families, "lockgate_cooldowns_total", provider="fake", model=model) == 1


async def test_the_metrics_count_what_was_called(local: Gateway) -> None:
    """Answers, streams, failovers and refusals: each once, readable by a strict scraper."""
    before = await metrics(local)
    await chat(local, "chat")
    await chat(local, "chat", stream=True)
    await chat(local, "second")
    await chat(local, "fails")
    await chat(local, "nowhere")
    after = await metrics(local)

    def more(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert more("lockgate_calls_total") == 5
    assert (
        more("lockgate_calls_total", route="chat", status="2xx", outcome="complete", provider="fake", model="echo") == 2
    )
    assert more("lockgate_calls_total", route="none", status="4xx") == 1
    assert more("lockgate_errors_total", code="model_not_found") == 1
    assert more("lockgate_attempts_total") == 5
    assert more("lockgate_attempts_total", provider="dead", result="ok") == 0
    assert more("lockgate_tokens_total", route="chat", type="prompt") > 0
    labels = {"gen_ai_provider_name": "fake", "gen_ai_request_model": "echo"}
    assert more("gen_ai_client_operation_time_to_first_chunk_seconds", le="+Inf", **labels) == 1
    assert total(after, "lockgate_in_flight") == 0
    assert total(after, "lockgate_tasks") > 0
    assert total(after, "lockgate_part_state", part="records", state="ok") == 1
    assert total(after, "process_resident_memory_bytes") > 1e7


async def test_the_loop_is_not_held_by_a_scrape_of_many_series(local: Gateway) -> None:
    """Calls go on between the pieces: a scrape beside them is whole all the same."""
    scrapes, answers = await asyncio.gather(
        asyncio.gather(*(metrics(local) for _ in range(5))), asyncio.gather(*(chat(local, "chat") for _ in range(20)))
    )
    assert all(answer.status == 200 for answer in answers)
    assert all(total(families, "lockgate_build_info") == 1 for families in scrapes)


async def test_one_call_tells_why_it_went_its_way(local: Gateway) -> None:
    """Its record, and the decisions in their order."""
    call_id = (await chat(local, "second")).headers["x-request-id"]
    call = (await see(local, f"/admin/requests/{call_id}")).json
    assert (call["id"], call["route"]) == (call_id, "second")
    steps = [each["step"] for each in call["decisions"]]
    assert steps[0] == "caller"
    assert [step for step in steps if step in ("route", "attempt", "fallback")] == ["route", "attempt", "fallback"]
    assert (steps[-1], call["decisions"][-1]["verdict"]) == ("end", "complete")
    assert "Hello" not in json.dumps(call)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("route=chat", lambda call: call["route"] == "chat"),
        ("status=4xx", lambda call: 400 <= call["status"] < 500),
        ("status=404", lambda call: call["status"] == 404),
        ("outcome=error&route=fails", lambda call: call["outcome"] == "error" and call["route"] == "fails"),
        ("caller=nobody", lambda _: False),
    ],
)
async def test_recent_calls_can_be_narrowed(local: Gateway, query: str, fits: Callable[[Any], bool]) -> None:
    for model in ("chat", "nowhere", "fails"):
        await chat(local, model)
    everything = (await see(local, "/admin/requests?limit=200")).json["requests"]
    found = (await see(local, f"/admin/requests?limit=200&{query}")).json["requests"]
    assert [call["id"] for call in found] == [call["id"] for call in everything if fits(call)]


async def test_recent_calls_can_be_paged_through(local: Gateway) -> None:
    """Each once, the last one first, the last page without a next."""
    made = [(await chat(local, "chat")).headers["x-request-id"] for _ in range(5)]
    everything = [call["id"] for call in (await see(local, "/admin/requests?limit=200")).json["requests"]]
    assert everything[:5] == made[::-1]
    seen: list[str] = []
    before = ""
    while True:
        page = (await see(local, f"/admin/requests?limit=2{before}")).json
        seen += [call["id"] for call in page["requests"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seen == everything
    assert (await see(local, "/admin/requests?before=forgotten")).json == {"requests": [], "next": None}
    assert (await see(local, "/admin/requests?limit=0")).status == 400


async def test_a_watcher_is_told_of_calls_within_a_second_or_so(local: Gateway) -> None:
    """The whole view first, then what is new."""
    async with Connection(local.url) as wire:
        await wire.send(b"GET /admin/live?span=5m HTTP/1.1\r\nhost: localhost\r\n\r\n")
        status, headers = await wire.answer_head()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        name, view = await event(wire)
        assert name == "overview"
        assert len(view["points"]) == 60
        assert {"callers", "routes", "deployments", "guards", "standing"} <= set(view["tables"])
        call_id = (await chat(local, "chat")).headers["x-request-id"]
        while True:
            name, tick = await event(wire)
            assert name == "tick"
            if call_id in [call["id"] for call in tick["calls"]]:
                break


async def event(wire: Connection) -> tuple[str, Any]:
    """The next server-sent event; here each is a chunk of its own."""
    first, second, *_ = (await wire.chunk()).decode().split("\n")
    return first.removeprefix("event: "), json.loads(second.removeprefix("data: "))


async def test_a_watcher_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The stream ends when the instance does, and not at the drain's deadline."""
    patient = CONFIG | {"server": {"drain_timeout": "600s"}}
    async with gateway(tmp_path, patient) as gate, Connection(gate.url) as wire:
        await wire.send(b"GET /admin/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await wire.answer_head()
        await wire.chunk()
        gate.process.terminate()
        async with asyncio.timeout(10):
            while await wire.chunk():
                pass
            assert await gate.process.wait() == 0


async def test_too_many_watchers_are_sent_away(local: Gateway) -> None:
    """Who is there stays."""
    async with asyncio.timeout(20):
        wires = [Connection(local.url) for _ in range(20)]
        try:
            for wire in wires:
                await wire.__aenter__()
                await wire.send(b"GET /admin/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert (await wire.answer_head())[0] == 200
                await wire.chunk()
            answer = await see(local, "/admin/live")
            assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        finally:
            for wire in wires:
                await wire.__aexit__()


async def test_system_health_says_version_parts_and_uptime(keyed: Gateway) -> None:
    """To everybody, as `/health/ready` does."""
    answer = await see(keyed, "/system/health")
    assert answer.status == 200
    assert answer.json["parts"]["records"] == "ok"
    assert re.fullmatch(r"\d+\.\d+\S*", answer.json["version"])
    assert answer.json["uptime"] >= 0


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:8000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_without_any_key_only_this_machine_reads(
    local: Gateway, path: str, headers: dict[str, str], status: int
) -> None:
    """Neither a rebound host name nor a foreign page."""
    async with Connection(local.url) as wire:
        await wire.send(request(path, **headers))
        assert (await wire.answer_head())[0] == status


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize(
    ("key", "status"), [("", 401), ("sk-wrong", 401), ("sk-admin", 200), ("scrape-me", {"/metrics": 200})]
)
async def test_where_there_is_a_key_it_is_asked_for(keyed: Gateway, path: str, key: str, status: Any) -> None:
    """On this machine too. The scrape token opens the metrics and nothing else."""
    expected = status if isinstance(status, int) else status.get(path, 401)
    async with Connection(keyed.url) as wire:
        await wire.send(request(path, **({"authorization": f"Bearer {key}"} if key else {})))
        assert (await wire.answer_head())[0] == expected


def request(path: str, **headers: str) -> bytes:
    lines = {"host": "localhost", **headers}
    return f"GET {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in lines.items()).encode() + b"\r\n"


@pytest.mark.parametrize("name", ["/ui", "/ui/app.js", "/ui/style.css", "/ui/index.html"])
async def test_the_page_is_served_under_a_strict_policy(keyed: Gateway, name: str) -> None:
    """Without facts it needs no key; what a browser has already is not sent again."""
    answer = await see(keyed, name)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = await see_unmodified(keyed, name, answer.headers["etag"])
    assert again == 304


async def see_unmodified(gate: Gateway, path: str, tag: str) -> int:
    async with Connection(gate.url) as wire:
        await wire.send(request(path, **{"if-none-match": tag}))
        return (await wire.answer_head())[0]


@pytest.mark.parametrize("name", ["/ui/../config.py", "/ui/%2e%2e%2fconfig.py", "/ui/nothing.js", "/ui/__init__.py"])
async def test_nothing_else_is_served_beside_the_page(keyed: Gateway, name: str) -> None:
    answer = await see(keyed, name)
    assert (answer.status, answer.json["error"]["code"]) == (404, "unknown_url")


async def test_a_terminal_can_ask_too(local: Gateway, folder: Path) -> None:
    """`lockgate request ID` prints the decisions, without an id the last calls; what is forgotten fails."""
    call_id = (await chat(local, "second")).headers["x-request-id"]
    code, out, _ = await lockgate(folder, "request", call_id, "--url", local.url)
    assert code == 0
    assert out.splitlines()[0] == f"call {call_id}"
    assert re.search(r"fallback +ok +[\d.]+ ms +fake echo, status 200", out)
    code, out, _ = await lockgate(folder, "request", "--url", local.url)
    assert code == 0
    assert call_id in out
    code, _, err = await lockgate(folder, "request", "nothing", "--url", local.url)
    assert (code, "not among the recent ones" in err) == (1, True)
    code, _, err = await lockgate(folder, "request", "x", "--url", "http://127.0.0.1:1")
    assert (code, err.startswith("lockgate: ")) == (1, True)


async def lockgate(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", *arguments, "--config", str(folder / "lockgate.yaml"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_every_call_has_its_access_line(local: Gateway, folder: Path) -> None:
    """One JSON object with the id, also of a refused call, whatever its headers and model hold."""
    hostile = 'x\n{"level": "info", "message": "forged"}\x1b[2J'
    answer = await chat(local, hostile)
    lines = [json.loads(line) for line in (folder / "gateway.err").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert (line["logger"], line["status"], line["outcome"]) == ("lockgate.access", 404, "error")
    assert not any(line["message"] == "forged" for line in lines)
