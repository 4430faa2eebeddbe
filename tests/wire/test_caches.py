"""The caches in a running gateway, over real sockets."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from support.http import CHAT, Answered, Connection, chat
from support.live import Gateway, gateway, upstream
from support.qdrant_stand_in import qdrant_stand_in

ADMIN = "sk-admin-for-tests-0123456789"
BASE: dict[str, Any] = {
    "routes": {"*": {"deployments": [{"provider": "up", "model": "*"}]}},
    "single_flight": {},
    "exact_cache": {},
    "secrets": {"admin_key": ADMIN},
}


def config(url: str, **more: Any) -> dict[str, Any]:
    return {**BASE, "providers": {"up": {"kind": "openai", "base_url": url}}, **more}


async def post(running: Gateway, body: bytes, path: str = CHAT, **headers: str) -> Answered:
    async with Connection(running.url) as connection:
        return await connection.request("POST", path, body, **headers)


async def verdict(running: Gateway, body: bytes, **headers: str) -> str:
    return (await post(running, body, **headers)).headers["x-lockgate-cache"]


async def admin(running: Gateway, path: str, body: object = None) -> Any:
    async with Connection(running.url) as connection:
        raw = b"" if body is None else json.dumps(body).encode()
        answered = await connection.request(
            "GET" if body is None else "POST", path, raw, authorization=f"Bearer {ADMIN}"
        )
    assert answered.status == 200, answered.body
    return answered.json


async def stored(running: Gateway) -> None:
    """Wait until something is: a stream's end has reached its client a moment before."""
    async with asyncio.timeout(30):
        while not (await admin(running, "/system/cache/stats"))["exact"]["stored"]:  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.01)


async def test_the_second_call_is_a_hit_in_either_shape(tmp_path: Path) -> None:
    """Whole, streamed, streamed with usage; the provider is asked once."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:
        first = await post(running, chat("echo", "one two"))
        again = await post(running, chat("echo", "one two"))
        assert (first.headers["x-lockgate-cache"], again.headers["x-lockgate-cache"]) == ("miss", "hit-exact")
        assert again.body == first.body
        assert again.headers["age"].isdecimal()
        assert float(again.headers["x-lockgate-cost-usd"]) == 0
        assert "x-lockgate-provider" not in again.headers
        streamed = await post(running, chat("echo", "one two", stream=True, stream_options={"include_usage": True}))
        assert streamed.headers["x-lockgate-cache"] == "hit-exact"
        assert streamed.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(each[6:]) for each in streamed.body.split(b"\n\n") if each.startswith(b"data: {")]
        assert (
            "".join(each["choices"][0]["delta"].get("content", "") for each in events if each["choices"]) == "one two"
        )
        assert events[-1]["usage"] == first.json["usage"]
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert fake.stats.requests == 1


async def test_a_stream_is_stored_once_it_is_whole(tmp_path: Path) -> None:
    """Its usage too, though the client had not asked for it."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:
        await post(running, chat("echo", "one two three", stream=True))
        await stored(running)
        whole = await post(running, chat("echo", "one two three"))
        assert whole.headers["x-lockgate-cache"] == "hit-exact"
        assert whole.json["choices"][0]["message"]["content"] == "one two three"
        assert whole.json["usage"]["total_tokens"] > 0
        assert fake.stats.requests == 1


async def test_a_broken_stream_is_never_a_hit(tmp_path: Path) -> None:
    """Cut in the middle: asked for again each time."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:
        body = chat("long=20+fault=cut+at=5", stream=True)
        for _ in range(2):
            answered = await post(running, body)
            assert b"upstream_interrupted" in answered.body
            assert answered.headers["x-lockgate-cache"] == "miss"
        assert fake.stats.requests == 2


async def test_what_a_request_says_is_heeded(tmp_path: Path) -> None:
    """Headers, LiteLLM's member, which the provider never sees, and only-if-cached."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:
        assert await verdict(running, chat(cache={"no-store": True})) == "miss"
        assert fake.stats.last is not None
        assert b"no-store" not in fake.stats.last.body
        answered = await post(running, chat(), cache_control="only-if-cached")
        assert (answered.status, answered.json["error"]["code"]) == (504, "not_cached")
        assert await verdict(running, chat()) == "miss"
        assert await verdict(running, chat(), cache_control="only-if-cached") == "hit-exact"
        assert await verdict(running, chat(), cache_control="no-cache") == "bypass"
        assert await verdict(running, chat(), x_lockgate_cache_mode="off") == "bypass"
        assert await verdict(running, chat(), x_lockgate_cache_namespace="mine") == "miss"
        assert await verdict(running, chat(cache={"namespace": "mine"})) == "hit-exact"
        answered = await post(running, chat(), x_lockgate_cache_mode="fuzzy")
        assert (answered.status, answered.json["error"]["param"]) == (400, "x-lockgate-cache-mode")


async def test_only_missing_embeddings_are_asked_for(tmp_path: Path) -> None:
    """In base64, as the SDKs ask for them."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:

        def body(*texts: str) -> bytes:
            return json.dumps({"model": "echo+dims=4", "input": texts, "encoding_format": "base64"}).encode()

        first = (await post(running, body("a", "b"), "/v1/embeddings")).json
        both = await post(running, body("c", "b"), "/v1/embeddings")
        assert fake.stats.last is not None
        assert json.loads(fake.stats.last.body)["input"] == ["c"]
        assert [each["index"] for each in both.json["data"]] == [0, 1]
        assert both.json["data"][1]["embedding"] == first["data"][1]["embedding"]
        again = await post(running, body("c", "b", "a"), "/v1/embeddings")
        assert again.headers["x-lockgate-cache"] == "hit-exact"
        assert fake.stats.requests == 2


async def test_followers_of_a_flight_neither_look_up_nor_store(tmp_path: Path) -> None:
    """Ten at once: one lookup, one entry; all say what their flight's cache said."""
    async with upstream() as (fake, url), gateway(tmp_path, config(url)) as running:
        body = chat("echo+delay=300ms")
        said = await asyncio.gather(*(verdict(running, body) for _ in range(10)))
        assert said == ["miss"] * 10
        stats = (await admin(running, "/system/cache/stats"))["exact"]
        assert (stats["misses"], stats["stored"], stats["entries"]) == (1, 1, 1)
        assert fake.stats.requests == 1


async def test_followers_of_a_hit_can_call_it_wrong(tmp_path: Path) -> None:
    """Ten at once, for what is in the store and not in memory: led or followed, each knows the hit by its own id."""
    async with qdrant_stand_in() as server, upstream() as (fake, url):
        store = {"url": server.url, "timeout": "20s", "cool_down": "100ms"}
        async with gateway(tmp_path, config(url, qdrant=store, exact_cache={"memory": "1B"})) as running:
            await well(running)
            await post(running, chat())
            assert await verdict(running, chat()) == "hit-exact"
            hits = await asyncio.gather(*(post(running, chat()) for _ in range(10)))
            assert {hit.headers["x-lockgate-cache"] for hit in hits} == {"hit-exact"}
            for hit in hits:
                report = json.dumps({"request_id": hit.headers["x-request-id"]}).encode()
                assert (await post(running, report, "/system/cache/feedback")).status == 200
        assert fake.stats.requests == 1


async def test_the_operator_sees_and_clears(tmp_path: Path) -> None:
    """Only with the admin key; what is cleared is asked for again; a wrong answer goes; a call is explained."""
    async with upstream() as (_, url), gateway(tmp_path, config(url)) as running:
        body = chat("echo", "to be cleared")
        await post(running, body)
        explained = await admin(running, "/system/cache/explain", {"body": json.loads(body)})
        assert explained["exact"]["eligible"]
        assert explained["exact"]["in_memory"]
        for path in ("/system/cache/clear", "/system/cache/explain"):
            assert (await post(running, b"{}", path)).status == 401
        assert (await admin(running, "/system/cache/clear", {"older_than": "1h"}))["removed"] == {"exact": 0}
        assert (await admin(running, "/system/cache/clear", {"route": "*"}))["removed"] == {"exact": 1}
        assert await verdict(running, body) == "miss"
        hit = await post(running, body)
        report = json.dumps({"request_id": hit.headers["x-request-id"]}).encode()
        assert (await post(running, report, "/system/cache/feedback")).status == 200
        assert await verdict(running, body) == "miss"
        assert (await post(running, b'{"request_id":"none"}', "/system/cache/feedback")).status == 404


async def lockgate(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """`lockgate cache …`: exit code, what it printed, what it complained of."""
    command = [sys.executable, "-m", "proxy.cli", "cache", *arguments, "--config", str(tmp_path / "lockgate.yaml")]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, errors = await process.communicate()
    return process.returncode or 0, out.decode(), errors.decode()


async def test_the_command_line_asks_the_running_gateway(tmp_path: Path) -> None:
    """stats, explain and clear print JSON; migrate waits until no instance runs, and begins anew."""
    async with upstream() as (_, url):
        async with gateway(tmp_path, config(url)) as running:
            await post(running, chat())
            (tmp_path / "body.json").write_bytes(chat())
            code, out, _ = await lockgate(tmp_path, "explain", str(tmp_path / "body.json"), "--url", running.url)
            assert code == 0
            assert json.loads(out)["exact"]["in_memory"]
            code, out, _ = await lockgate(tmp_path, "clear", "--everything", "--url", running.url)
            assert json.loads(out) == {"removed": {"exact": 1}}
            code, out, _ = await lockgate(tmp_path, "stats", "--url", running.url)
            assert json.loads(out)["exact"]["entries"] == 0
            code, _, errors = await lockgate(tmp_path, "migrate", "exact")
            assert code == 1
            assert "in use by another instance" in errors
            assert await verdict(running, chat()) == "miss"
        code, out, _ = await lockgate(tmp_path, "migrate", "exact")
        assert (code, "set aside" in out) == (0, True)
        async with gateway(tmp_path, config(url)) as running:
            assert await verdict(running, chat()) == "miss"
        code, _, errors = await lockgate(tmp_path, "stats", "--url", "http://127.0.0.1:9")
        assert code == 1
        assert "lockgate:" in errors


async def test_a_servers_collection_is_dropped_under_either_of_its_names(tmp_path: Path) -> None:
    """And no other collection of that server; what cannot be done is said."""
    async with upstream() as (_, url), qdrant_stand_in() as server:
        store = {"url": server.url, "timeout": "20s", "cool_down": "100ms"}
        for name in ("exact", "lockgate_exact"):
            async with gateway(tmp_path, config(url, qdrant=store)) as running:
                await well(running)
                assert await verdict(running, chat()) == "miss"
                assert await verdict(running, chat()) == "hit-exact"
            code, out, _ = await lockgate(tmp_path, "migrate", name)
            assert (code, "lockgate_exact is dropped" in out) == (0, True)
        code, out, _ = await lockgate(tmp_path, "migrate", "exact")
        assert (code, "does not exist" in out) == (1, True)
        code, _, errors = await lockgate(tmp_path, "migrate", "somebody_elses")
        assert (code, "exact or semantic" in errors) == (1, True)
        await server.stop()
        code, _, errors = await lockgate(tmp_path, "migrate", "exact")
        assert (code, "is not dropped" in errors, "Traceback" in errors) == (1, True, False)


async def test_a_dead_server_costs_hits_and_nothing_else(tmp_path: Path) -> None:
    """Bypass and degraded while it is away, used again without a restart; what was stored before is still there."""
    async with qdrant_stand_in() as server, upstream() as (fake, url):
        store = {"url": server.url, "timeout": "20s", "cool_down": "100ms"}
        async with gateway(tmp_path, config(url, qdrant=store, exact_cache={"memory": "1B"})) as running:
            await well(running)
            assert await verdict(running, chat(text="kept")) == "miss"
            assert await verdict(running, chat(text="kept")) == "hit-exact"
            await server.stop()
            for text in ("a", "b"):
                answered = await post(running, chat(text=text))
                assert (answered.status, answered.headers["x-lockgate-cache"]) == (200, "bypass")
            assert await _qdrant(running) == "degraded"
            await server.start()
            await well(running)
            before = fake.stats.requests
            assert await verdict(running, chat(text="kept")) == "hit-exact"
            assert fake.stats.requests == before


async def _qdrant(running: Gateway) -> str:
    async with Connection(running.url) as connection:
        parts: dict[str, str] = (await connection.request("GET", "/health/ready")).json["parts"]
    return parts["qdrant"]


async def well(running: Gateway) -> None:
    """Wait until its store is."""
    async with asyncio.timeout(60):
        while await _qdrant(running) != "ok":  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.05)


async def test_two_instances_share_a_server(tmp_path: Path) -> None:
    """What one stores the other serves."""
    async with qdrant_stand_in() as server, upstream() as (fake, url):
        shared = config(url, qdrant={"url": server.url, "timeout": "20s", "cool_down": "100ms"})
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with gateway(tmp_path / "a", shared) as one, gateway(tmp_path / "b", shared) as other:
            await well(one)
            await well(other)
            assert await verdict(one, chat()) == "miss"
            await admin(one, "/system/cache/clear", {"older_than": "1h"})  # waits for what is to be written
            assert await verdict(other, chat()) == "hit-exact"
            assert fake.stats.requests == 1


async def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """`kill -9` in the midst of writing: the next instance starts, and has every answer that was written."""
    async with upstream() as (fake, url):
        async with gateway(tmp_path, config(url)) as running:
            await post(running, chat(text="long ago"))
            await admin(running, "/system/cache/clear", {"older_than": "1h"})  # waits for what is to be written
            calls = [asyncio.ensure_future(post(running, chat(text=f"text {number}"))) for number in range(200)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            os.kill(running.process.pid, signal.SIGKILL)
            await asyncio.gather(*calls, return_exceptions=True)
            await running.process.wait()
        async with gateway(tmp_path, config(url)) as running:
            before = fake.stats.requests
            assert await verdict(running, chat(text="long ago")) == "hit-exact"
            assert fake.stats.requests == before
            assert await verdict(running, chat(text="new")) == "miss"
            assert await verdict(running, chat(text="new")) == "hit-exact"
