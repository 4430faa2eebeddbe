"""Records on their way to a real MLflow server: complete, and exactly once, whatever ends in between."""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, gateway, upstream
from support.mlflow_server import MLflowServer
from support.prometheus import read
from support.records import records_in

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    server = MLflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with upstream() as (_, url):
        yield url


def config(base_url: str, mlflow: str, experiment: str, **record: Any) -> dict[str, Any]:
    return {
        "providers": {"up": {"kind": "openai", "base_url": base_url}, "dead": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}},
        "routes": {
            "*": {"deployments": [{"provider": "up", "model": "*"}]},
            "twice": {"deployments": [{"provider": "dead", "model": "gone"}, {"provider": "up", "model": "echo"}]},
        },
        "failover": {"tries": 1},
        "single_flight": {},
        "record": {"mlflow": mlflow, "experiment": experiment, "interval": "1s", **record},
    }  # fmt: skip


async def becomes(what: Callable[[], object], wanted: object, seconds: float = 60.0) -> None:
    """Wait until this is so; fails with what it is instead."""
    end = time.monotonic() + seconds
    while (found := await asyncio.to_thread(what)) != wanted:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.3)


async def ask(gate: Gateway, body: bytes, **headers: str) -> tuple[str, int]:
    """One call, to its end; its id and status. Raises OSError or EOFError when it is not answered whole."""
    async with Connection(gate.url) as wire:
        answer = await wire.request("POST", CHAT, body, **headers)
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.body.endswith(b"data: [DONE]\n\n")
        return answer.headers["x-request-id"], answer.status


async def health(gate: Gateway) -> dict[str, str]:
    async with Connection(gate.url) as wire:
        parts: dict[str, str] = (await wire.request("GET", "/health/ready")).json["parts"]
        return parts


async def traces(gate: Gateway) -> dict[str, float]:
    """What `/metrics` says of them."""
    async with Connection(gate.url) as wire:
        families = read((await wire.request("GET", "/metrics")).body.decode())
    return {point.labels["result"]: point.value for point in families["lockgate_traces_total"]}


WATCHED: dict[str, Any] = {
    "prices": {"models": {"up/*": {"input": 2.5, "output": 10}}},
    "exact_cache": {},
    "input_guards": [
        {"kind": "keywords", "name": "projects", "words": ["Bluebird"], "action": "flag"},
        {"kind": "keywords", "name": "never", "words": ["Blackbird"], "action": "block"},
    ],
    "authenticate": {"keys": True},
    "secrets": {"admin_key": "sk-admin-for-tests-0123456789"},
}


async def test_traces_and_figures_are_complete(tmp_path: Path, base_url: str, mlflow: MLflowServer) -> None:
    """Every field of every record, its texts redacted, and sums that agree with the ledger's."""
    settings = {**config(base_url, mlflow.url, "complete", bodies="redacted"), **WATCHED}
    async with gateway(tmp_path, settings) as gate:
        as_ann = {"authorization": f"Bearer {await key_of(gate)}"}
        mail = "write to joe.doe@example.com now"
        whole, _ = await ask(
            gate,
            chat(text=mail, temperature=0.5, user="ann"),
            x_session_id="s-1",
            x_client_request_id="theirs",
            **as_ann,
        )
        streamed, _ = await ask(gate, chat(text=mail, stream=True), **as_ann)
        failed_over, _ = await ask(gate, chat("twice"), **as_ann)
        refused, status = await ask(gate, b'{"model": "m"}', **as_ann)
        assert status == 400
        unknown, status = await ask(gate, chat(), authorization="Bearer sk-lg-wrong")
        assert status == 401
        flagged, _ = await ask(gate, chat(text="about Bluebird"), **as_ann)
        blocked, status = await ask(gate, chat(text="about Blackbird"), **as_ann)
        assert status == 400
        hit, _ = await ask(gate, chat(text="about Bluebird"), **as_ann)
        calls = [whole, streamed, failed_over, refused, unknown, flagged, blocked, hit]
        await becomes(lambda: sorted(mlflow.ids("complete")), sorted(calls))
        records = {each["id"]: each for each in records_in(gate.state)}
        spans = {each: await asyncio.to_thread(mlflow.spans, each) for each in records}
        for trace in await asyncio.to_thread(mlflow.traces, "complete"):
            call_id = trace["trace_id"].removeprefix("tr-")
            check(trace, records[call_id])
            check_spans(spans[call_id], records[call_id])
        assert (records[hit]["cache"], records[flagged]["guard"], records[blocked]["outcome"]) == (
            "hit-exact",
            "flag",
            "guard_blocked",
        )
        for call_id in (whole, streamed):
            said = spans[call_id][0]["attributes"]
            assert said["mlflow.spanInputs"]["messages"] == [
                {"role": "user", "content": "write to [redacted email] now"}
            ]
            assert said["mlflow.spanOutputs"]["choices"][0]["message"]["content"] == "write to [redacted email] now"
            assert said["mlflow.spanOutputs"]["choices"][0]["finish_reason"] == "stop"
        assert spans[whole][0]["attributes"]["gen_ai.request.temperature"] == 0.5
        assert (spans[whole][0]["attributes"]["session.id"], spans[whole][0]["attributes"]["user.id"]) == ("s-1", "ann")
        await becomes(lambda: [run.get("total/requests") for run in mlflow.runs("complete")], [8.0])
        (figures,) = await asyncio.to_thread(mlflow.runs, "complete")
        assert (figures["total/errors"], figures["total/blocked"], figures["total/exact_hits"]) == (2, 1, 1)
        assert (figures["route/twice/requests"], figures["route/none/requests"]) == (1, 2)
        rows = await ledger_of(gate, sum("usage" in each for each in records.values()))
        prompt, completion, cost = (sum(row[part] for row in rows.values()) for part in range(3))
        assert cost > 0
        for name, wanted in (("input_tokens", prompt), ("output_tokens", completion)):
            assert mlflow.total("complete", name) == figures[f"total/{name}"] == wanted
        assert mlflow.total("complete", "total_cost", "SPANS") == pytest.approx(cost / 1e9)
        assert figures["total/cost_usd"] == pytest.approx(cost / 1e9)


async def key_of(gate: Gateway) -> str:
    """A virtual key with an owner and tags."""
    body = json.dumps({"name": "k", "models": ["*"], "owner": "acme", "tags": ["a", "b"]}).encode()
    async with Connection(gate.url) as wire:
        admin = {"authorization": f"Bearer {WATCHED['secrets']['admin_key']}"}
        return str((await wire.request("POST", "/admin/keys", body, **admin)).json["key"])


async def ledger_of(gate: Gateway, calls: int) -> dict[str, tuple[int, int, int]]:
    """Tokens asked and answered and nano-USD of each call, once the ledger has so many."""

    def rows() -> list[tuple[str, int, int, int]]:
        with contextlib.closing(sqlite3.connect(gate.state / "lockgate.db")) as database:
            return database.execute("SELECT call_id, prompt, completion, coalesce(cost, 0) FROM ledger").fetchall()

    await becomes(lambda: len(rows()), calls)
    return {call_id: (prompt, completion, cost) for call_id, prompt, completion, cost in rows()}


def check(trace: dict[str, Any], record: dict[str, Any]) -> None:
    """A trace says what its record says."""
    tags = {name: value for name, value in trace["tags"].items() if not name.startswith(("mlflow.", "service."))}
    assert trace["state"] == ("ERROR" if record["outcome"] == "error" else "OK")
    wanted = {
        "outcome": record["outcome"],
        "status": str(record["status"]),
        "endpoint": "chat",
        "stream": "true" if record.get("stream") else "false",
        "route": record.get("route"),
        "provider": record.get("provider"),
        "model": record.get("upstream_model"),
        "error": record.get("error"),
        "cache": record.get("cache"),
        "guard": record.get("guard"),
        "caller": record.get("caller"),
        "owner": record.get("owner"),
        "tags": ",".join(record.get("tags", ())) or None,
        "fallbacks": str(record["fallbacks"]) if "fallbacks" in record else None,
        "client_request_id": record.get("client_request_id"),
        "attempts": str(len(record["attempts"])) if "attempts" in record else None,
    }
    assert tags == {name: value for name, value in wanted.items() if value}
    usage = record.get("usage")
    told = json.loads(trace.get("trace_metadata", {}).get("mlflow.trace.tokenUsage", "null"))
    prompt, completion = (usage["prompt"], usage["completion"]) if usage else (0, 0)
    assert told == (
        {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion} if usage else None
    )
    assert float(trace["execution_duration"].removesuffix("s")) == pytest.approx(record["duration"], abs=0.002)


def check_spans(spans: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """The root, each attempt, each guard and the cache say what the record says of them."""
    root = spans[0]["attributes"]
    model = record.get("upstream_model") or record.get("model")
    assert (root.get("mlflow.llm.model"), root.get("mlflow.llm.provider")) == (model, record.get("provider"))
    assert root.get("lockgate.first_content_seconds") == record.get("first_content")
    cost = root.get("mlflow.llm.cost", {}).get("total_cost")
    assert cost == (pytest.approx(record["cost"] / 1e9) if "cost" in record else None)
    saved = root.get("lockgate.saved_usd")
    assert saved == (pytest.approx(record["saved"] / 1e9) if "saved" in record else None)
    attempts = [span["attributes"] for span in spans if span["name"].startswith("attempt ")]
    tried = [(each["gen_ai.provider.name"], each.get("http.response.status_code"), each.get("error.type")) for each in attempts]  # fmt: skip
    assert tried == [
        (each["provider"], each.get("status"), None if each["kind"] == "ok" else each["kind"])
        for each in record.get("attempts", ())
    ]
    guards = [span["attributes"] for span in spans if span["name"].startswith("guard ")]
    assert [(each["lockgate.guard.name"], each["lockgate.guard.action"]) for each in guards] == [
        (each["guard"], each["action"]) for each in record.get("guards", ())
    ]
    caches = [span["attributes"]["lockgate.cache.verdict"] for span in spans if span["name"] == "cache"]
    assert caches == ([record["cache"]] if "cache" in record else [])


ROUNDS = 16


async def test_kill_9_at_any_moment_loses_no_answered_call(tmp_path: Path, base_url: str, mlflow: MLflowServer) -> None:
    """Rounds of load, each ended by kill -9, some of them with the server away; afterwards every call that was answered
    whole is in MLflow exactly once and in the ledger exactly once, and the figures have counted every record once.
    """
    seed = time.time_ns() % 1_000_000
    sys.stdout.write(f"seed {seed}\n")  # shown where it fails
    random = Random(seed)
    away = sorted(random.sample(range(1, ROUNDS), 2))
    answered: list[str] = []

    async def client(gate: Gateway, number: int) -> None:
        while True:
            call_id, status = await ask(gate, chat(text=f"{number} {random.random()}", stream=bool(number % 2)))
            assert status == 200
            answered.append(call_id)

    for number in range(ROUNDS):
        if number in away:
            await asyncio.to_thread(mlflow.stop if number == away[0] else mlflow.start)
        async with gateway(tmp_path, config(base_url, mlflow.url, "killed")) as gate:
            clients = [asyncio.create_task(client(gate, number)) for number in range(4)]
            await asyncio.sleep(random.uniform(0.05, 0.3))
            gate.process.kill()
            await gate.process.wait()
            ends = await asyncio.gather(*clients, return_exceptions=True)
            # a chunk's head that was cut off is no number
            assert all(isinstance(end, OSError | EOFError | ValueError) for end in ends), ends
    assert len(answered) > 100
    async with gateway(tmp_path, config(base_url, mlflow.url, "killed")) as gate:
        written = [each["id"] for each in records_in(gate.state)]
        assert set(answered) <= set(written)
        await becomes(lambda: len(mlflow.ids("killed")), len(set(written)))
        assert sorted(mlflow.ids("killed")) == sorted(set(written))
        counted = float(len(set(written)))
        await becomes(lambda: [run.get("total/requests") for run in mlflow.runs("killed")], [counted])
        billed = {each["id"] for each in records_in(gate.state) if "usage" in each or "attempts" in each}
        rows = await ledger_of(gate, len(billed))
        assert set(answered) <= rows.keys() == billed
        with contextlib.closing(sqlite3.connect(gate.state / "lockgate.db")) as database:
            assert database.execute("SELECT sum(calls) FROM usage_days").fetchone() == (len(rows),)


async def test_the_shipper_is_started_again_when_it_dies(tmp_path: Path, base_url: str, mlflow: MLflowServer) -> None:
    """Calls notice nothing, and their records arrive."""
    async with gateway(tmp_path, config(base_url, mlflow.url, "restarted")) as gate:
        first, _ = await ask(gate, chat())
        await becomes(lambda: mlflow.ids("restarted"), [first])
        (shipper,) = psutil.Process(gate.process.pid).children()
        shipper.kill()
        second, _ = await ask(gate, chat())
        await becomes(lambda: sorted(mlflow.ids("restarted")), sorted([first, second]))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a scheduling class for it, others a low priority alone")
async def test_the_shipper_has_the_processor_only_while_nobody_else_wants_it(tmp_path: Path) -> None:
    """All of its threads: beside calls on one core, a low priority alone makes a stream's first token wait for a slice."""
    record = {"record": {"mlflow": ""}}
    async with gateway(tmp_path, record | {"providers": {"fake": {"kind": "fake"}}, "routes": {}}) as gate:
        instance = psutil.Process(gate.process.pid)

        def classes() -> set[int]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # a thread that has just ended
                threads = [thread.id for shipper in instance.children() for thread in shipper.threads()]
                return {os.sched_getscheduler(each) for each in threads}
            return set()

        await becomes(classes, {os.SCHED_IDLE}, 10)


async def test_an_outage_of_the_server_loses_nothing(tmp_path: Path, base_url: str, mlflow: MLflowServer) -> None:
    """Stopped, and calls go on while readiness says so; an end meanwhile is in time; started again, all arrive once."""
    settings = config(base_url, mlflow.url, "outage")
    async with gateway(tmp_path, settings) as gate:
        calls = [(await ask(gate, chat(text="before")))[0]]
        await becomes(lambda: mlflow.ids("outage"), calls)
        await asyncio.to_thread(mlflow.stop)
        calls += [(await ask(gate, chat(text=f"during {number}")))[0] for number in range(20)]
        while (await health(gate))["mlflow"] != "degraded":  # noqa: ASYNC110 - another process says so when it knows
            await asyncio.sleep(0.05)
        began = time.monotonic()
        gate.process.terminate()
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0
        assert time.monotonic() - began < 5
    async with gateway(tmp_path, settings) as gate:
        calls += [(await ask(gate, chat(text="again")))[0]]
        await asyncio.to_thread(mlflow.start)
        await becomes(lambda: sorted(mlflow.ids("outage")), sorted(calls))
        async with asyncio.timeout(20):
            while (await health(gate))["mlflow"] != "ok":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)


class Inbox:
    """A collector: takes what is posted, after refusing to a few times."""

    def __init__(self, failures: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self._failures = failures

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in raw[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                self._failures -= 1
                if self._failures < 0:
                    self.got.append(({"path": raw[0].split()[1], **headers}, body))
                status = b"503 Unavailable" if self._failures >= 0 else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()


async def test_a_server_that_hangs_does_not_hold_the_end_up(tmp_path: Path, base_url: str) -> None:
    """What it never takes waits on disk: the shipper gets three seconds."""
    connected = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, gateway(tmp_path, config(base_url, url, "hung")) as gate:
        call_id, _ = await ask(gate, chat())
        await asyncio.wait_for(connected.wait(), 20)
        began = time.monotonic()
        gate.process.terminate()
        assert await asyncio.wait_for(gate.process.wait(), 10) == 0
        assert time.monotonic() - began < 5
    assert [each["id"] for each in records_in(gate.state)] == [call_id]


async def test_any_collector_can_have_the_traces_too(tmp_path: Path, base_url: str) -> None:
    """By OTLP, with its own headers, again until it takes them; without MLflow there are no figures."""
    inbox = Inbox(failures=2)
    server = await asyncio.start_server(inbox, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    otlp = {"url": f"http://127.0.0.1:{port}/v1/traces", "headers": {"x-token": "t"}}
    async with server, gateway(tmp_path, {**config(base_url, "", "x"), "record": {"otlp": otlp}}) as gate:
        call_id, _ = await ask(gate, chat())
        await becomes(lambda: len(inbox.got), 1)
        async with asyncio.timeout(20):
            while await traces(gate) != {"shipped": 1, "thinned": 0, "refused": 0}:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
    headers, body = inbox.got[0]
    assert (headers["path"], headers["x-token"], headers["content-type"]) == (
        "/v1/traces",
        "t",
        "application/x-protobuf",
    )
    request = ExportTraceServiceRequest.FromString(body)
    assert [span.trace_id.hex() for span in request.resource_spans[0].scope_spans[0].spans] == [call_id] * 2


async def test_without_a_server_records_go_to_a_store_of_its_own(tmp_path: Path, base_url: str) -> None:
    """In the state folder, written by a process that ends with the instance, also by kill -9."""
    async with gateway(tmp_path, config(base_url, "", "local")) as gate:
        calls = [(await ask(gate, chat(text=f"{number}")))[0] for number in range(5)]

        def stored() -> list[str]:
            database = gate.state / "mlflow.db"
            try:
                with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
                    found = connection.execute("select request_id from trace_info").fetchall()
            except sqlite3.Error:
                return []
            return sorted(each.removeprefix("tr-") for (each,) in found)

        await becomes(stored, sorted(calls))
        assert {path.stat().st_mode & 0o077 for path in gate.state.glob("mlflow.db*")} == {0}
        (shipper,) = psutil.Process(gate.process.pid).children()
        gate.process.kill()
        await asyncio.to_thread(shipper.wait, 5)


async def test_the_local_store_is_made_whole_by_one_of_many(tmp_path: Path) -> None:
    """The gateway and `lockgate mlflow`, started together, do not trip over one another; nor over one that was killed."""
    database = tmp_path / "mlflow.db"
    code = "import sys; from pathlib import Path; from adapters.mlflow_store import make_database; "
    code += "make_database(Path(sys.argv[1]), Path(sys.argv[1]).parent / 'mlartifacts')"

    def making() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code, str(database)], stderr=subprocess.DEVNULL)

    fresh, first = tmp_path / "mlflow.db.new", making()
    async with asyncio.timeout(60):
        while not fresh.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    first.kill()
    first.wait()
    assert not database.exists()
    both = [making(), making()]
    assert [await asyncio.to_thread(each.wait, 60) for each in both] == [0, 0]
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        assert len(connection.execute("select version_num from alembic_version").fetchall()) == 1
        assert connection.execute("select count(*) from experiments").fetchall() == [(1,)]
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("mlflow.db.new*")))


async def test_a_call_that_is_cut_off_is_sealed_once_with_what_was_streamed(tmp_path: Path, base_url: str) -> None:
    """A client that leaves in the middle has one record, which knows what was streamed; one that has read `[DONE]`
    finds it written.
    """
    async with gateway(tmp_path, {**config(base_url, "", "none"), "record": {}}) as gate:
        async with Connection(gate.url) as wire:
            body = chat("long=1000+every=20ms", stream=True)
            await wire.send(head("POST", CHAT, body) + body)
            await wire.answer_head()
            await wire.chunk()
        async with Connection(gate.url) as wire:
            body = chat(text="done", stream=True)
            await wire.send(head("POST", CHAT, body) + body)
            await wire.answer_head()
            said = b""
            while b"[DONE]" not in said:
                said += await wire.chunk()
            assert [each["outcome"] for each in records_in(gate.state) if each["events"] < 100][-1:] == ["complete"]
        await becomes(
            lambda: sorted(
                (each["outcome"], each.get("amended", False), bool(each["usage"])) for each in records_in(gate.state)
            ),
            [("client_disconnect", False, True), ("complete", False, True)],
        )
