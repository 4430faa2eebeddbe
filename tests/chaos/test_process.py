"""The life of the process: start, reload, orderly end, and what stands in its way."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.http import CHAT, Answered, Connection, chat, head
from support.live import Gateway, gateway, upstream
from support.prometheus import read
from support.records import records_in


def config(base_url: str, **server: Any) -> dict[str, Any]:
    return {
        "server": server,
        "providers": {"up": {"kind": "openai", "base_url": base_url}},
        "routes": {"*": {"deployments": [{"provider": "up", "model": "*"}]}},
    }


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with upstream() as (_, url):
        yield url


async def ready(gate: Gateway) -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request("GET", "/health/ready")


async def begin(wire: Connection, body: bytes) -> None:
    """Send a streamed call and read its first event."""
    await wire.send(head("POST", CHAT, body) + body)
    await wire.answer_head()
    await wire.chunk()


async def rest_of(wire: Connection) -> bytes:
    said = b""
    while piece := await wire.chunk():
        said += piece
    return said


async def test_sigterm_turns_readiness_off_at_once_and_still_accepts_for_a_while(tmp_path: Path, base_url: str) -> None:
    """Load balancers look elsewhere while nobody is refused; a running stream finishes; the process ends well."""
    async with gateway(tmp_path, config(base_url, drain_delay="1s", drain_timeout="10s")) as gate:
        async with Connection(gate.url) as running:
            await begin(running, chat("long=10+every=200ms+chunks=10", stream=True))
            gate.process.terminate()
            await asyncio.sleep(0.1)
            assert (await ready(gate)).status == 503
            async with Connection(gate.url) as late:
                assert (await late.request("POST", CHAT, chat())).status == 200
            assert (await rest_of(running)).endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0


async def test_while_it_drains_answers_end_their_connections(tmp_path: Path, base_url: str) -> None:
    """A load balancer's pool empties itself, so that it sends nothing on a connection that is about to close."""
    async with gateway(tmp_path, config(base_url, drain_delay="3s")) as gate, Connection(gate.url) as pooled:
        assert "connection" not in (await pooled.request("POST", CHAT, chat())).headers
        gate.process.terminate()
        await becomes(lambda: status_of(gate), 503)
        async with Connection(gate.url) as other:
            for wire, path, body in ((pooled, CHAT, chat(stream=True)), (other, "/health/live", b"")):
                answer = await wire.request("POST" if body else "GET", path, body)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert await asyncio.wait_for(wire.reader.read(), 5) == b""


async def status_of(gate: Gateway) -> int:
    return (await ready(gate)).status


async def refused(gate: Gateway) -> bool:
    try:
        async with Connection(gate.url):
            return False
    except OSError:
        return True


async def test_a_request_on_its_way_when_the_listener_closes_is_answered(tmp_path: Path, base_url: str) -> None:
    """A balancer that has just connected finds no reset: of a call that may have been read it could not try another."""
    async with gateway(tmp_path, config(base_url, drain_delay="0s")) as gate, Connection(gate.url) as waiting:
        gate.process.terminate()
        await becomes(lambda: refused(gate), True)
        answer = await waiting.request("POST", CHAT, chat())
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0


async def test_connections_that_nobody_has_taken_on_yet_are_served_before_the_end(
    tmp_path: Path, base_url: str
) -> None:
    """The kernel has made them while the process was busy, and their requests are there."""
    async with gateway(tmp_path, config(base_url, drain_delay="0s")) as gate:
        gate.process.send_signal(signal.SIGSTOP)
        async with contextlib.AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(Connection(gate.url)) for _ in range(20)]
            for wire in wires:
                await wire.send(head("POST", CHAT, chat()) + chat())
            gate.process.terminate()
            gate.process.send_signal(signal.SIGCONT)
            assert [(await wire.answer()).status for wire in wires] == [200] * 20
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0


async def test_what_outlasts_the_drain_is_cut_with_an_error_event(tmp_path: Path, base_url: str) -> None:
    """No `[DONE]`: the client knows that it has not everything."""
    async with gateway(tmp_path, config(base_url, drain_delay="0s", drain_timeout="500ms")) as gate:
        async with Connection(gate.url) as running, Connection(gate.url) as waiting:
            await begin(running, chat("long=1000+every=100ms", stream=True))
            body = chat("echo+delay=60s")
            await waiting.send(head("POST", CHAT, body) + body)
            await asyncio.sleep(0.1)
            gate.process.terminate()
            said = await rest_of(running)
            assert b"[DONE]" not in said
            last = said.strip().rpartition(b"\n\n")[2]
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "gateway_shutdown"
            refused = await waiting.answer()
            assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0


async def test_a_second_signal_hurries(tmp_path: Path, base_url: str) -> None:
    """Who asks twice does not wait for the drain."""
    async with gateway(tmp_path, config(base_url, drain_delay="30s", drain_timeout="60s")) as gate:
        async with Connection(gate.url) as running:
            await begin(running, chat("long=1000+every=100ms", stream=True))
            began = time.monotonic()
            gate.process.terminate()
            await asyncio.sleep(0.2)
            gate.process.send_signal(signal.SIGINT)
            assert b"[DONE]" not in await rest_of(running)
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0
        assert time.monotonic() - began < 5


async def test_an_idle_keep_alive_connection_does_not_hold_the_end_up(tmp_path: Path, base_url: str) -> None:
    """Idle connections are closed, not waited for."""
    settings = config(base_url, drain_delay="0s", drain_timeout="60s")
    async with gateway(tmp_path, settings) as gate, Connection(gate.url) as idle:
        assert (await idle.request("POST", CHAT, chat())).status == 200
        gate.process.terminate()
        assert await asyncio.wait_for(gate.process.wait(), 5) == 0


async def routes(gate: Gateway) -> list[str]:
    async with Connection(gate.url) as wire:
        listed = (await wire.request("GET", "/v1/models")).json
        return [model["id"] for model in listed["data"]]


async def becomes(ask: Callable[[], Awaitable[object]], wanted: object) -> bool:
    """Whether the answer turns into this within five seconds."""
    for _ in range(250):
        if await ask() == wanted:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_reload_is_atomic_and_running_streams_keep_what_they_began_with(tmp_path: Path, base_url: str) -> None:
    """New routes serve; a broken file changes nothing; the old configuration's streams end as they should."""
    path = tmp_path / "lockgate.yaml"
    async with gateway(tmp_path, config(base_url)) as gate:
        assert await routes(gate) == []
        written = yaml.safe_load(path.read_text())
        async with Connection(gate.url) as running:
            await begin(running, chat("long=20+every=100ms+chunks=20", stream=True))
            written["routes"] = {"only": {"deployments": [{"provider": "up", "model": "echo"}]}}
            written["record"] = {"interval": "7s", "bodies": "full"}
            path.write_text(yaml.safe_dump(written))
            gate.process.send_signal(signal.SIGHUP)
            assert await becomes(lambda: routes(gate), ["only"])
            async with Connection(gate.url) as wire:
                assert (await wire.request("POST", CHAT, chat("only"))).status == 200
                assert (await wire.request("POST", CHAT, chat("gone"))).status == 404
            path.write_text("routes: [this is no mapping]")
            gate.process.send_signal(signal.SIGHUP)
            assert (await rest_of(running)).endswith(b"data: [DONE]\n\n")
        assert await routes(gate) == ["only"]
        told = (tmp_path / "gateway.err").read_text()
        assert "reloaded; changes of these wait for a restart: record.interval\n" in told
        assert "the old configuration stays" in told


async def test_a_second_instance_on_the_same_state_is_refused(tmp_path: Path, base_url: str) -> None:
    """And told so; once the first is gone, however it went, the folder is free."""
    async with gateway(tmp_path, config(base_url)) as gate:
        command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(tmp_path / "lockgate.yaml")]
        second = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, timeout=30
        )
        assert second.returncode == 1
        assert "in use by another instance" in second.stderr
        gate.process.kill()
        await gate.process.wait()
    async with gateway(tmp_path, config(base_url)) as again:
        assert (await ready(again)).status == 200


async def test_records_written_survive_kill_9(tmp_path: Path, base_url: str) -> None:
    """Every answered call has its record, whole; `lockgate records` prints them."""
    async with gateway(tmp_path, config(base_url)) as gate, Connection(gate.url) as wire:
        ids = [(await wire.request("POST", CHAT, chat())).headers["x-request-id"] for _ in range(20)]
        # the record of a call is written before the next call on its connection is answered
        await wire.request("POST", CHAT, chat())
        gate.process.kill()
        await gate.process.wait()
    code, out, _ = await run("records", "--config", str(tmp_path / "lockgate.yaml"))
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()[:20]] == ids


async def outbox(gate: Gateway) -> dict[str, float]:
    """What `/metrics` says of it, by the rest of the name."""
    async with Connection(gate.url) as wire:
        families = read((await wire.request("GET", "/metrics")).body.decode())
    names = ("lost_total", "dropped_total", "bytes")
    return {name: sum(point.value for point in families[f"lockgate_outbox_{name}"]) for name in names}


async def test_a_full_disk_loses_records_and_no_calls(tmp_path: Path, base_url: str) -> None:
    """Calls go on; the loss is counted, and shows in readiness."""
    async with gateway(tmp_path, config(base_url)) as gate:
        async with Connection(gate.url) as wire:
            assert (await wire.request("POST", CHAT, chat())).status == 200
            resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (10, 10))
            for _ in range(3):
                assert (await wire.request("POST", CHAT, chat())).status == 200
            report = (await wire.request("GET", "/health/ready")).json
        assert (report["status"], report["parts"]["records"]) == ("ok", "degraded")
        assert (await outbox(gate))["lost_total"] == 3


async def test_a_full_outbox_drops_the_oldest_records_and_no_calls(tmp_path: Path, base_url: str) -> None:
    """MLflow is away for longer than the cap allows: calls go on, what was dropped is counted, the newest are there."""
    record = {"mlflow": "http://127.0.0.1:9", "bodies": "full", "max_size": "64kB"}
    async with gateway(tmp_path, {**config(base_url), "record": record}) as gate:
        ids = []
        async with Connection(gate.url) as wire:
            for number in range(60):
                answer = await wire.request("POST", CHAT, chat(text=f"{number} {'word ' * 200}"))
                assert answer.status == 200
                ids.append(answer.headers["x-request-id"])
            report = (await wire.request("GET", "/health/ready")).json
        assert (report["status"], report["parts"]["records"]) == ("ok", "degraded")
        kept = [each["id"] for each in records_in(gate.state)]
        assert kept == ids[-len(kept) :]
        told = await outbox(gate)
        assert (told["lost_total"], told["dropped_total"]) == (0, 60 - len(kept))
        assert 0 < told["bytes"] <= 64_000


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """A command of ours; its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "proxy.cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), errors.decode()


async def test_a_bad_configuration_tells_everything_and_exits_with_2(tmp_path: Path) -> None:
    """All at once, each with its path."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        "server: {port: 99999, prot: 1}\n"
        "providers: {a: {kind: nope}, b: {kind: openai, api_key: '${NOT_SET_ANYWHERE}'}}\n"
        "routes: {r: {deployments: [{provider: b, model: 5}]}}\n"
        "failover: {deadline: soon}\n"
    )
    code, _, errors = await run("check", "--config", str(path))
    assert code == 2
    for part in (
        "server.prot",
        "providers.a.kind",
        "NOT_SET_ANYWHERE",
        "routes.r.deployments[0].model",
        "failover.deadline",
    ):
        assert part in errors


async def test_explain_says_where_a_call_would_go(tmp_path: Path) -> None:
    """In order, with the fallbacks; an unknown model is exit code 1."""
    path = tmp_path / "good.yaml"
    path.write_text(
        "providers: {a: {kind: fake}, b: {kind: openai, api_key: ''}}\n"
        "routes:\n"
        "  first: {deployments: [{provider: b, model: x}, {provider: a, model: y}], fallbacks: [second]}\n"
        "  second: {deployments: [{provider: a, model: z}]}\n"
        "failover: {}\n"
    )
    code, out, _ = await run("explain", "first", "--config", str(path))
    assert code == 0
    lines = [line for line in out.splitlines() if line[:1].isdigit()]
    assert [line.split(" (")[0] for line in lines] == ["1. a y", "2. a z"]
    assert (await run("explain", "third", "--config", str(path)))[0] == 1


async def test_with_no_configuration_every_model_is_answered_by_a_labelled_fake(tmp_path: Path) -> None:
    """The first command of the README, without a key; with one, no fake stands behind that provider's routes."""
    keys = ("OPENAI_API_KEY", "GEMINI_API_KEY", "GROQ_API_KEY", "OPENROUTER_API_KEY")
    none = dict.fromkeys(keys, "")
    code, out, _ = await run("check", **none, OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    assert code == 0
    assert "gpt-4o-primary: fake gpt-4o" in out
    assert "scripted stand-in" in out
    code, out, _ = await run("check", **{**none, "OPENAI_API_KEY": "sk-test"}, OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    assert "gpt-4o-primary: openai gpt-4o" in out
    assert "scripted stand-in" not in out
    assert "sk-test" not in out
