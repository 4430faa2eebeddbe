"""A client may leave at any moment: the provider is released at once, and nothing is left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import openai
import psutil
import pytest
import pytest_asyncio
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, count_tasks, gateway, settled_tasks, upstream
from support.records import records_in

from adapters.fake_server import FakeServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 0.1
"""Seconds in which the provider must be released, by the contract; a busy machine gets as much again."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, FakeServer]]:
    async with (
        upstream() as (fake, base_url),
        gateway(
            tmp_path_factory.mktemp("disconnects"),
            {
                "providers": {"up": {"kind": "openai", "base_url": base_url}},
                "routes": {
                    "*": {"deployments": [{"provider": "up", "model": "*"}]},
                    "patient/*": {
                        "deployments": [{"provider": "up", "model": "*"}],
                        "timeouts": {"first_content": "3s", "idle": "1s"},
                    },
                },
                "timeouts": {"early_headers": "200ms"},
                "single_flight": {},
                "failover": {},
                "secrets": {"admin_key": "sk-admin"},
            },
        ) as gate,
    ):
        yield gate, fake


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        await asyncio.sleep(0.002)
    return condition()


async def last_record(gate: Gateway) -> dict[str, object]:
    """The last record written."""
    await asyncio.sleep(0.05)
    return (await asyncio.to_thread(records_in, gate.state))[-1]


PHASES = {
    "whole, before the head": (chat("echo+delay=30s"), 0),
    "stream, before the head": (chat("echo+delay=30s", stream=True), 0),
    "stream, before the first token": (chat("echo+first=30s", stream=True), 0),
    "stream, after early headers": (chat("echo+first=30s", stream=True), 1),
    "stream, in the middle": (chat("long=500+every=20ms", stream=True), 3),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_the_provider_is_released_when_the_client_leaves(live: tuple[Gateway, FakeServer], phase: str) -> None:
    """Within 100 ms, whatever the call is waiting for; the record says who ended it."""
    gate, fake = live
    body, chunks = PHASES[phase]
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, body) + body)
        assert await until(lambda: fake.stats.active == 1, 5)
        if chunks:
            await wire.answer_head()
            for _ in range(chunks):
                await wire.chunk()
        else:
            await asyncio.sleep(0.1)
    assert await until(lambda: fake.stats.active == 0, 2 * SOON)
    assert (await last_record(gate))["outcome"] == "client_disconnect"


async def test_a_client_that_leaves_while_sending_costs_no_upstream_call(live: tuple[Gateway, FakeServer]) -> None:
    """Half a body and then nothing."""
    gate, fake = live
    before = fake.stats.requests
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, b"", content_length="1000") + b'{"model":')
        await asyncio.sleep(0.05)
    record = await last_record(gate)
    assert record["outcome"] == "client_disconnect"
    assert fake.stats.requests == before


async def test_a_client_that_leaves_after_done_has_a_complete_call(live: tuple[Gateway, FakeServer]) -> None:
    """Who hangs up on `[DONE]`, as many do, was served."""
    gate, _ = live
    body = chat("echo", stream=True, text="all of it")
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, body) + body)
        await wire.answer_head()
        while b"[DONE]" not in await wire.chunk():
            pass
    assert (await last_record(gate))["outcome"] == "complete"


async def test_a_thousand_departures_leave_nothing_behind(live: tuple[Gateway, FakeServer]) -> None:
    """No connection, file or task stays, and memory is as before."""
    gate, fake = live
    process = psutil.Process(gate.process.pid)
    bodies = [body for body, _ in PHASES.values()]

    async def leave(number: int) -> None:
        # a text of its own keeps single flight out of it
        body = bodies[number % len(bodies)].replace(b'"hi"', b'"hi %d"' % number)
        async with Connection(gate.url) as wire:
            await wire.send(head("POST", CHAT, body) + body)
            await asyncio.sleep(0.02 + number % 5 / 50)

    async def many(count: int, start: int) -> None:
        for at in range(0, count, 50):
            await asyncio.gather(*(leave(start + at + n) for n in range(50)))
        assert await until(lambda: fake.stats.active == 0, 2)

    tasks = await count_tasks(gate, "sk-admin")
    await many(200, 0)  # what is kept for reuse is there after these
    files, memory = process.num_fds(), process.memory_info().rss
    await many(1000, 1000)
    assert await until(lambda: process.num_fds() <= files + 5, 5)
    assert process.memory_info().rss - memory < 8_000_000
    assert await settled_tasks(gate, "sk-admin", tasks, patience=5) <= tasks
    async with Connection(gate.url) as wire:
        assert (await wire.request("POST", CHAT, chat())).status == 200


async def test_a_slow_reader_costs_bounded_memory(live: tuple[Gateway, FakeServer]) -> None:
    """A stream of two million events to a client that does not read stays with the provider."""
    gate, fake = live
    process = psutil.Process(gate.process.pid)
    body = chat("long=2000000", stream=True)
    before = process.memory_info().rss
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, body) + body)
        await wire.answer_head()
        await asyncio.sleep(1.5)
        assert process.memory_info().rss - before < 20_000_000
    assert await until(lambda: fake.stats.active == 0, 2)


async def test_early_headers_come_with_keep_alives_and_then_the_answer(live: tuple[Gateway, FakeServer]) -> None:
    """After 200 ms of silence: 200, comments with one newline, then the events; the SDK reads it all."""
    gate, _ = live
    body = chat("echo+first=600ms", stream=True, text="late words")
    async with Connection(gate.url) as wire:
        began = time.monotonic()
        await wire.send(head("POST", CHAT, body) + body)
        status, headers = await wire.answer_head()
        assert (status, 0.1 < time.monotonic() - began < 0.5) == (200, True)
        assert headers["x-request-id"]
        assert await wire.chunk() == b": keep-alive\n"
        rest = b""
        while piece := await wire.chunk():
            rest += piece
        assert rest.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
    client = openai.AsyncOpenAI(base_url=gate.openai, api_key="sk", max_retries=0)
    async with client:
        stream = await client.chat.completions.create(
            model="echo+first=600ms", messages=[{"role": "user", "content": "late words"}], stream=True
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "late words"


@pytest.mark.parametrize(
    "script", ["echo+status=400+delay=500ms", "echo+first=30s", "echo+fault=error-first+delay=500ms"]
)
async def test_a_failure_behind_early_headers_is_an_error_event(live: tuple[Gateway, FakeServer], script: str) -> None:
    """The status is gone, so the stream says it, without `[DONE]`."""
    gate, _ = live
    async with openai.AsyncOpenAI(base_url=gate.openai, api_key="sk", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=f"patient/{script}", messages=[{"role": "user", "content": "x"}], stream=True
        )
        with pytest.raises(openai.APIError):
            await anext(aiter(stream))


async def test_the_first_event_arrives_before_the_second_is_sent(live: tuple[Gateway, FakeServer]) -> None:
    """Nothing is buffered."""
    gate, _ = live
    body = chat("long=3+every=1s+chunks=3", stream=True)
    async with Connection(gate.url) as wire:
        began = time.monotonic()
        await wire.send(head("POST", CHAT, body) + body)
        await wire.answer_head()
        said = b""
        while b"word0" not in said:
            said += await wire.chunk()
        assert time.monotonic() - began < 0.8


async def test_the_state_folder_is_this_users_own(live: tuple[Gateway, FakeServer]) -> None:
    """0700 the folder, 0600 its files."""
    folder = await asyncio.to_thread(live[0].state.stat)
    records = await asyncio.to_thread(lambda: [path.stat() for path in (live[0].state / "outbox").iterdir()])
    assert folder.st_mode & 0o777 == 0o700
    assert {each.st_mode & 0o777 for each in records} == {0o600}
