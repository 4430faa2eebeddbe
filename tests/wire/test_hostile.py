"""Who means harm, over raw sockets: smuggled requests, smuggled lines, paths that climb, secrets in complaints, exhaustion.

Beside what `test_edge_requests.py` has of odd requests, and `test_authorization.py` of who may do what.
"""

import asyncio
import contextlib
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, gateway, upstream
from support.records import records_in, stored_in

from adapters.fake_server import FakeServer
from proxy.segments import frame_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

ADMIN = "sk-admin-of-the-hostile-0123456789abcdef"
UPSTREAM_KEY = "sk-upstream-secret-0123456789"
LIMIT = 2_000_000
BAIT = "nobody may read this"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, FakeServer]]:
    """A gateway that logs every call, with keys, before a provider that remembers what it was asked."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "bait.txt").write_text(BAIT)
    config = {
        "server": {"body_limit": LIMIT},
        "log": {"access": True, "format": "console"},
        "authenticate": {"keys": True, "login": {}, "failures": 100_000},
        "client_limits": {"requests": "1000000/minute"},
        "secrets": {"admin_key": ADMIN},
        "exact_cache": {},
        "single_flight": {},
        "routes": {"*": {"deployments": [{"provider": "up", "model": "*"}]}},
    }
    async with upstream() as (fake, base_url):
        providers = {"up": {"kind": "openai", "base_url": base_url, "api_key": UPSTREAM_KEY}}
        async with gateway(folder, {**config, "providers": providers}) as gate:
            yield gate, fake


def logged(gate: Gateway) -> str:
    """Everything that the gateway wrote for people."""
    return (gate.state.parent / "gateway.err").read_text(errors="replace")


async def everything(gate: Gateway, raw: bytes, seconds: float = 3.0) -> bytes:
    """Send bytes, and read until the gateway closes or says nothing more."""
    said = b""
    async with Connection(gate.url) as wire:
        with contextlib.suppress(ConnectionError, TimeoutError):
            await wire.send(raw)
            while piece := await asyncio.wait_for(wire.reader.read(65536), seconds if not said else 0.3):
                said += piece
    return said


def smuggled() -> bytes:
    """A whole request that must never be read as one."""
    return head("POST", CHAT, body := chat(text="smuggled"), authorization=f"Bearer {ADMIN}") + body


def framed(*lines: bytes) -> bytes:
    """The head of a call with these lines about its length."""
    own = (b"POST /v1/chat/completions HTTP/1.1", b"host: localhost", b"authorization: Bearer " + ADMIN.encode())
    return b"\r\n".join((*own, b"content-type: application/json", *lines)) + b"\r\n\r\n"


SMUGGLERS = {
    "length and chunks": lambda inner: framed(b"content-length: 4", b"transfer-encoding: chunked") + b"0\r\n\r\n" + inner,
    "chunks and length": lambda inner: framed(b"transfer-encoding: chunked", b"content-length: %d" % len(inner)) + b"0\r\n\r\n" + inner,
    "two lengths": lambda inner: framed(b"content-length: 0", b"content-length: %d" % len(inner)) + inner,
    "two lengths in one": lambda inner: framed(b"content-length: 0, %d" % len(inner)) + inner,
    "a length with a sign": lambda inner: framed(b"content-length: +0") + inner,
    "a negative length": lambda inner: framed(b"content-length: -1") + inner,
    "a length in hex": lambda inner: framed(b"content-length: 0x0") + inner,
    "a length too large for a machine": lambda inner: framed(b"content-length: 99999999999999999999999") + inner,
    "an unknown coding": lambda inner: framed(b"transfer-encoding: xchunked") + b"0\r\n\r\n" + inner,
    "chunked and then another": lambda inner: framed(b"transfer-encoding: chunked, identity") + b"0\r\n\r\n" + inner,
    "a coding before a colon's space": lambda inner: framed(b"transfer-encoding : chunked") + b"0\r\n\r\n" + inner,
    "a coding with a tab": lambda inner: framed(b"transfer-encoding:\x0bchunked") + b"0\r\n\r\n" + inner,
    "a folded coding": lambda inner: framed(b"transfer-encoding:\r\n chunked") + b"0\r\n\r\n" + inner,
    "a coding twice": lambda inner: framed(b"transfer-encoding: chunked", b"transfer-encoding: identity") + b"0\r\n\r\n" + inner,
    "a chunk larger than a machine's word": lambda inner: framed(b"transfer-encoding: chunked") + b"FFFFFFFFFFFFFFFFF\r\n" + inner,
    "a chunk's size with a sign": lambda inner: framed(b"transfer-encoding: chunked") + b"-1\r\n" + inner,
    "a chunk that is longer than it says": lambda inner: framed(b"transfer-encoding: chunked") + b"1\r\nab\r\n0\r\n\r\n" + inner,
    "a line feed alone in a chunk's extension": lambda inner: framed(b"transfer-encoding: chunked") + b"2;\nxx\r\n0\r\n\r\n" + inner,
    "a return alone between headers": lambda inner: framed(b"x: a\rcontent-length: 0") + inner,
    "a zero byte in a header": lambda inner: framed(b"x: a\x00b", b"content-length: 0") + inner,
    "a method of somebody's own": lambda inner: b"POST\x01 /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\r\n" + inner,
    "a version of somebody's own": lambda inner: b"POST /v1/chat/completions HTTP/9.7\r\nhost: localhost\r\n\r\n" + inner,
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLERS)
async def test_no_second_request_is_read_out_of_an_unclear_one(live: tuple[Gateway, FakeServer], name: str) -> None:
    """Where two programs could disagree about an end, there is an error and the connection's end, and no second answer."""
    gate, fake = live
    said = await everything(gate, SMUGGLERS[name](smuggled()))
    assert said.count(b"HTTP/1.1 ") <= 1, said
    assert not said.startswith(b"HTTP/1.1 2"), said
    last = fake.stats.last
    assert last is None or b"smuggled" not in last.body


async def test_what_is_pipelined_is_answered_in_order_and_apart(live: tuple[Gateway, FakeServer]) -> None:
    """Clear requests, one behind the other, are each other's business not at all."""
    async with Connection(live[0].url) as wire:
        bodies = [chat(text=f"pipelined {number}") for number in range(5)]
        await wire.send(b"".join(head("POST", CHAT, b, authorization=f"Bearer {ADMIN}") + b for b in bodies))
        for number in range(5):
            assert (await wire.answer()).json["choices"][0]["message"]["content"] == f"pipelined {number}"


EVIL = "echo\r\nset-cookie: evil=1\r\n\r\n<b>"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat(EVIL)),
        ("/openai/deployments/echo%0d%0aset-cookie:%20evil=1%0d%0a%0d%0a/chat/completions", chat()),
        ("/v1/models/echo%0d%0aset-cookie:%20evil=1", b""),
        ("/nowhere%0d%0aset-cookie:%20evil=1", b""),
    ],
)
async def test_no_header_grows_out_of_a_name(live: tuple[Gateway, FakeServer], path: str, body: bytes) -> None:
    """A model's name stands in headers of the answer: its line ends do not."""
    request = head("POST" if body else "GET", path, body, authorization=f"Bearer {ADMIN}", connection="close") + body
    said = await everything(live[0], request)
    top, _, _ = said.partition(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 ")
    assert not [line for line in top.split(b"\r\n") if line.lower().startswith(b"set-cookie")]
    assert b"\n" not in top.replace(b"\r\n", b"")


async def test_no_line_of_the_log_grows_out_of_what_a_client_sends(live: tuple[Gateway, FakeServer]) -> None:
    """Names, paths, headers and keys are data: a log line begins where the gateway begins one."""
    gate, _ = live
    forged = "2026-01-01T00:00:00Z INFO    lockgate forged"
    async with Connection(gate.url) as wire:
        await wire.request("POST", CHAT, chat(f"echo\n{forged}\x1b[2J\u2028{forged}"), authorization=f"Bearer {ADMIN}")
        await wire.request(
            "POST", CHAT, chat(user=f"x\n{forged}"), authorization=f"Bearer {ADMIN}", x_session_id="a\x85b"
        )
        await wire.request("GET", f"/nowhere%0a{forged.replace(' ', '%20')}")
        login = json.dumps({"username": f"x\n{forged}", "password": "y"}).encode()
        await wire.request("POST", "/auth/login", login)
        key = json.dumps({"name": f"k\n{forged}", "owner": f"o\r{forged}"}).encode()
        await wire.request("POST", "/admin/keys", key, authorization=f"Bearer {ADMIN}")
    lines = logged(gate)
    assert not [line for line in lines.splitlines() if line.startswith("2026-01-01T00:00:00Z")]
    assert "\x1b" not in lines


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin/keys",
        "/v1/%2e%2e/admin/keys",
        "/v1/..%2fadmin/keys",
        "/v1/chat/completions/../../../admin/keys",
        "/openai/deployments/..%2f..%2fadmin%2fkeys/chat/completions",
        "/openai/deployments/../../admin/keys",
        "//admin/keys",
        "/ADMIN/keys",
        "/admin/keys/",
        "/admin//keys",
        "/admin/keys;x=/v1/models",
        "/admin%2fkeys",
        "http://localhost/admin/keys",
    ],
)
async def test_no_path_leads_around_the_door(live: tuple[Gateway, FakeServer], path: str) -> None:
    """However the operator's routes are written, a stranger is told nothing."""
    async with Connection(live[0].url) as wire:
        answer = await wire.request("GET", path)
    assert answer.status in (400, 401, 403, 404, 405), answer.body
    assert b'"keys"' not in answer.body


@pytest.mark.parametrize("root", ["/ui/", "/docs/", "/ui/assets/", "/docs/assets/"])
@pytest.mark.parametrize(
    "tail",
    [
        "../../../../../../../../{file}",
        "..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f{file}",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/{file}",
        "..\\..\\..\\..\\{file}",
        "/{file}",
        "%00/{file}",
        "....//....//....//{file}",
    ],
)
async def test_no_file_is_served_that_is_not_ours(live: tuple[Gateway, FakeServer], root: str, tail: str) -> None:
    """The pages' own files are all there is."""
    gate, _ = live
    for file in (gate.state.parent / "bait.txt", Path("/etc/passwd"), gate.state / "lockgate.db"):
        async with Connection(gate.url) as wire:
            answer = await wire.request("GET", root + tail.format(file=str(file).lstrip("/")))
        assert BAIT.encode() not in answer.body
        assert b"root:" not in answer.body
        assert b"SQLite format" not in answer.body


async def test_a_caller_cannot_choose_where_a_call_goes(live: tuple[Gateway, FakeServer]) -> None:
    """Members and headers that other gateways take for addresses and keys are none here."""
    gate, fake = live
    members = {"api_base": "http://127.0.0.1:1/v1", "base_url": "http://127.0.0.1:1", "api_key": "sk-theirs"}
    headers = {"x_base_url": "http://127.0.0.1:1", "x_forwarded_host": "evil", "x_portkey_custom_host": "http://x"}
    async with Connection(gate.url) as wire:
        answer = await wire.request(
            "POST", CHAT, chat(text="where to", **members), authorization=f"Bearer {ADMIN}", **headers
        )
    assert answer.status == 200
    assert fake.stats.last is not None
    assert fake.stats.last.target == CHAT
    assert fake.stats.last.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert "x-base-url" not in fake.stats.last.headers


@pytest.mark.parametrize(
    "model",
    [
        "../../admin",
        "echo/../../files",
        "..%2f..%2ffiles",
        "echo?x=1",
        "echo#x",
    ],
)
async def test_a_models_name_does_not_move_the_providers_path(live: tuple[Gateway, FakeServer], model: str) -> None:
    """It stands in the body, where it is a string."""
    gate, fake = live
    async with Connection(gate.url) as wire:
        await wire.request("POST", CHAT, chat(model, "path"), authorization=f"Bearer {ADMIN}")
    assert fake.stats.last is not None
    assert fake.stats.last.target == CHAT
    assert json.loads(fake.stats.last.body)["model"] == model


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"model":"echo","messages":[],"tools":' + DEEP + b"}"),
        (CHAT, b'{"model":"echo","messages":[{"role":"user","content":' + DEEP + b"}]}"),
        ("/v1/embeddings", b'{"model":"echo","input":' + DEEP + b"}"),
        ("/v1/responses", b'{"model":"echo","input":' + DEEP + b"}"),
        ("/v1/completions", b'{"model":"echo","prompt":' + DEEP + b"}"),
        ("/v1/moderations", b'{"model":"echo","input":' + DEEP + b"}"),
        ("/llm/generate", b'{"model":"echo","prompt":' + DEEP + b"}"),
        ("/auth/login", b'{"username":' + DEEP + b"}"),
        ("/auth/refresh", b'{"refresh_token":' + DEEP + b"}"),
        ("/admin/keys", b'{"name":' + DEEP + b"}"),
        ("/system/cache/clear", b'{"route":' + DEEP + b"}"),
        ("/system/cache/explain", b'{"body":{"model":"echo","messages":' + DEEP + b"}}"),
        ("/system/cache/feedback", b'{"request_id":' + DEEP + b"}"),
    ],
)
async def test_depth_is_a_400_and_no_end(live: tuple[Gateway, FakeServer], path: str, body: bytes) -> None:
    """A hundred thousand brackets, on every route that takes JSON; the process lives on."""
    async with Connection(live[0].url) as wire:
        answer = await wire.request("POST", path, body, authorization=f"Bearer {ADMIN}")
        assert answer.status in (400, 413), answer.body[:300]
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert live[0].process.returncode is None


async def test_many_bombs_at_once_cost_little_memory(live: tuple[Gateway, FakeServer]) -> None:
    """Forty bodies of 200 MB in 200 kB: each is given up at the limit."""
    gate, _ = live
    bomb = gzip.compress(b" " * 200_000_000, 9)
    before = rss(gate)

    async def throw() -> int:
        async with Connection(gate.url) as wire:
            answer = await wire.request("POST", CHAT, bomb, content_encoding="gzip", authorization=f"Bearer {ADMIN}")
            return answer.status

    assert set(await asyncio.gather(*(throw() for _ in range(40)))) == {413}
    assert rss(gate) - before < 100_000_000


def rss(gate: Gateway) -> int:
    """Bytes of memory."""
    status = Path(f"/proc/{gate.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024


async def test_a_models_name_without_end_is_written_down_nowhere(live: tuple[Gateway, FakeServer]) -> None:
    """A thousand records are held in memory, and one of sixteen megabytes could not be read back."""
    gate, fake = live
    asked = fake.stats.requests
    before = {each["id"] for each in records_in(gate.state)}
    async with Connection(gate.url) as wire:
        answer = await wire.request("POST", CHAT, chat("m" * 1_000_000), authorization=f"Bearer {ADMIN}")
        assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
        call = await wire.request(
            "GET", f"/admin/requests/{answer.headers['x-request-id']}", authorization=f"Bearer {ADMIN}"
        )
    assert call.json["model"] == "m" * 200
    (stored,) = [each for each in stored_in(gate.state) if each.record.id not in before]
    assert len(frame_of(stored.record)) < 1000
    assert fake.stats.requests == asked


async def test_strangers_who_only_connect_do_not_keep_callers_out(live: tuple[Gateway, FakeServer]) -> None:
    """Six hundred open connections, half of them in the middle of a head, and a call is answered at once."""
    gate, _ = live
    async with contextlib.AsyncExitStack() as open_ones:
        for number in range(600):
            wire = await open_ones.enter_async_context(Connection(gate.url))
            if number % 2:
                await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-")
        began = time.monotonic()
        async with Connection(gate.url) as caller:
            answer = await caller.request("POST", CHAT, chat(), authorization=f"Bearer {ADMIN}")
        assert answer.status == 200
        assert time.monotonic() - began < 2


async def test_heads_and_bodies_that_never_end_are_given_up(live: tuple[Gateway, FakeServer]) -> None:
    """20 s for a head, however it drips; 30 s for the next piece of a body. A stranger's body is not waited for at all."""
    gate, _ = live

    async def dripping_head() -> float:
        async with Connection(gate.url) as wire:
            began = time.monotonic()
            answer = asyncio.ensure_future(wire.reader.read(12))
            await wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-drip: ")
            while not (await asyncio.wait({answer}, timeout=0.5))[0] and time.monotonic() - began < 40:
                await wire.send(b"x")
            assert await answer == b"HTTP/1.1 408"
            return time.monotonic() - began

    async def silent_body(key: str) -> tuple[float, int]:
        async with Connection(gate.url) as wire:
            began = time.monotonic()
            await wire.send(head("POST", CHAT, b"", content_length="100", authorization=f"Bearer {key}") + b"{")
            status = int((await asyncio.wait_for(wire.reader.readline(), 50)).split()[1])
            return time.monotonic() - began, status

    heads, (mine, mine_status), (theirs, theirs_status) = await asyncio.gather(
        dripping_head(), silent_body(ADMIN), silent_body("sk-lg-nobody")
    )
    assert 15 < heads < 30
    assert (25 < mine < 45, mine_status) == (True, 408)
    assert (theirs < 5, theirs_status) == (True, 401)


SECRET = "hunter2-0123456789-abcdef"
BROKEN: dict[str, dict[str, Any]] = {
    "a value of a wrong type": {"providers": {"up": {"kind": "openai", "api_key": SECRET, "usage": "x"}}},
    "a database that is away": {"authenticate": {"keys": True}, "database": f"postgresql://u:{SECRET}@127.0.0.1:1/x"},
    "a database of no kind": {"authenticate": {"keys": True}, "database": f"nosql://u:{SECRET}@127.0.0.1:1/x"},
    "a store of no kind": {"limits_store": f"nosql://u:{SECRET}@127.0.0.1/0"},
    "a weak secret before the world": {"server": {"exposure": "public"}, "authenticate": {"keys": True}, "secrets": {"admin_key": "hunter2"}},
    "a password hash that is none": {"authenticate": {"login": {"users": [{"name": "x", "password_hash": SECRET}]}}},
    "a secret under a wrong name": {"secrets": {"admin": SECRET}},
    "a member too many": {"providers": {"up": {"kind": "openai", "api_key": SECRET, "api_kee": SECRET}}},
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_who_cannot_start_says_why_without_a_secret(tmp_path: Path, name: str) -> None:
    """No traceback, no value of a secret, a code that is not 0."""
    base: dict[str, Any] = {
        "providers": {"up": {"kind": "openai", "api_key": SECRET}},
        "routes": {"*": {"deployments": [{"provider": "up", "model": "*"}]}},
    }
    broken: dict[str, Any] = {**base, **BROKEN[name]}
    broken["server"] = {"port": 0, "state_dir": str(tmp_path / "state"), **broken.get("server", {})}
    path = tmp_path / "lockgate.yaml"
    path.write_text(yaml.safe_dump(broken))
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(path)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, env={**os.environ}
    )
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2), said
    assert "hunter2" not in said
    assert "Traceback" not in said
    assert said.strip()


async def test_no_secret_is_ever_logged(live: tuple[Gateway, FakeServer]) -> None:
    """After everything above, and a provider that repeats our key in its error."""
    gate, _ = live
    async with Connection(gate.url) as wire:
        await wire.request("POST", CHAT, chat("echo+status=401"), authorization=f"Bearer {ADMIN}")
        await wire.request("POST", CHAT, chat("echo+fault=garbage"), authorization=f"Bearer {ADMIN}")
        await wire.request("POST", CHAT, chat(), authorization="Bearer sk-lg-of-a-stranger-0123456789")
    lines = logged(gate)
    for secret in (ADMIN, UPSTREAM_KEY, "sk-lg-of-a-stranger-0123456789", "smuggled"):
        assert secret not in lines
