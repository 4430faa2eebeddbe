"""Embedders: the thread, the server, and the default model itself."""

import asyncio
import json
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web
from support.calls import Clock

from adapters.embedder_models import USE
from adapters.embedder_use import load
from adapters.embedders import HttpEmbedder, ThreadEmbedder
from adapters.model_server import ModelServer
from adapters.network import tls_context
from adapters.transport_aiohttp import AiohttpTransport
from proxy.model_errors import ModelBusy, ModelLoading, ModelUnavailable


class Strange(Exception):
    """As a runtime raises it that has a class of its own."""


async def until(so: Callable[[], bool]) -> None:
    """Wait for what a thread brings about."""
    while not so():  # noqa: ASYNC110 - threads set no event of the loop
        await asyncio.sleep(0.001)


def thread_embedder(load: Any, clock: Clock | None = None, queue: int = 4, timeout: float = 30.0) -> ThreadEmbedder:
    return ThreadEmbedder(
        load, id="m", size=2, window=10, languages=(), queue=queue, now=clock or Clock(), timeout=timeout
    )


async def test_a_model_is_loaded_when_the_first_text_comes_and_in_its_thread() -> None:
    """Who is in a hurry goes on without; who is not waits."""
    threads: list[str] = []

    def load() -> Any:
        threads.append(threading.current_thread().name)
        return lambda text: (float(len(text)), 0.0)

    embedder = thread_embedder(load)
    await embedder.start()
    assert not threads
    with pytest.raises(ModelLoading):
        await embedder.embed("abc")
    assert await embedder.embed("abc", patient=True) == (3.0, 0.0)
    assert await embedder.embed("ab") == (2.0, 0.0)
    assert len(threads) == 1
    assert threads[0] != threading.main_thread().name
    await embedder.aclose()
    with pytest.raises(ModelUnavailable):
        await embedder.embed("abc")


async def test_a_full_queue_refuses() -> None:
    """The loop is free while the thread works, and what waits is bounded."""
    gate = threading.Event()

    def slow(_text: str) -> Sequence[float]:
        gate.wait(10)
        return (1.0, 0.0)

    embedder = thread_embedder(lambda: slow, queue=2)
    await embedder.start()
    with pytest.raises(ModelLoading):
        await embedder.embed("x")
    first = asyncio.create_task(embedder.embed("a", patient=True))
    second = asyncio.create_task(embedder.embed("b", patient=True))
    await until(lambda: embedder._waiting == 2)
    with pytest.raises(ModelBusy):
        await embedder.embed("c")
    gate.set()
    assert await first == await second == (1.0, 0.0)
    assert await embedder.embed("d") == (1.0, 0.0)
    await embedder.aclose()


async def test_a_caller_that_leaves_makes_room() -> None:
    gate = threading.Event()
    embedder = thread_embedder(lambda: lambda _text: (float(gate.wait(10)), 0.0), queue=1)
    await embedder.start()
    waiting = asyncio.create_task(embedder.embed("a", patient=True))
    await until(lambda: embedder._waiting == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await embedder.embed("b") == (1.0, 0.0)
    await embedder.aclose()


async def test_nobody_waits_for_a_model_that_stands_still() -> None:
    """One call waits, and only so long; the next none at all. Readiness says so, and it is used again when it goes on."""
    gate, begun = threading.Event(), 0

    def stands(_text: str) -> Sequence[float]:
        nonlocal begun
        begun += 1
        gate.wait(30)
        return (1.0, 0.0)

    embedder = thread_embedder(lambda: stands, timeout=0.01)
    await embedder.start()
    with pytest.raises(ModelLoading):
        await embedder.embed("x")
    await until(lambda: embedder._encode is not None)
    for _ in range(20):  # more than may wait
        with pytest.raises(ModelBusy):
            await embedder.embed("a")
    assert (embedder._waiting, embedder.state()) == (1, "degraded")
    gate.set()
    await until(lambda: embedder.state() == "ok")
    assert await embedder.embed("b", patient=True) == (1.0, 0.0)
    assert (begun, embedder._waiting) == (2, 0)
    await embedder.aclose()


@pytest.mark.parametrize(
    "fault", [OSError("no weights"), zipfile.BadZipFile("damaged"), Strange("of a runtime")], ids=repr
)
async def test_a_model_that_cannot_be_loaded_is_tried_again_later(fault: Exception) -> None:
    """Whatever it raises. Not at each call; and readiness says so meanwhile."""
    clock, tries = Clock(), 0

    def load() -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise fault
        return lambda _text: (1.0, 0.0)

    embedder = thread_embedder(load, clock)
    await embedder.start()
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            await embedder.embed("a", patient=True)
    assert tries == 1
    assert embedder.state() == "degraded"
    clock.now += 61
    assert await embedder.embed("a", patient=True) == (1.0, 0.0)
    assert embedder.state() == "ok"
    await embedder.aclose()


@pytest.mark.parametrize("fault", [ValueError(), IndexError(), Strange()], ids=repr)
async def test_a_text_that_a_model_fails_on_has_no_vector(fault: Exception) -> None:
    """Whatever it raises: the call goes on."""

    def fails(_text: str) -> Sequence[float]:
        raise fault

    embedder = thread_embedder(lambda: fails)
    await embedder.start()
    with pytest.raises(ModelUnavailable):
        await embedder.embed("a", patient=True)
    await embedder.aclose()


def test_the_default_model_knows_two_languages() -> None:
    """Its weights come inside its package; a translation is more similar than another question."""
    encode = load()
    one, same, other = (
        encode(text)
        for text in ("How do I cancel my order?", "Comment annuler ma commande ?", "What is the capital of Kenya?")
    )
    assert len(one) == USE.size

    def alike(x: Sequence[float], y: Sequence[float]) -> float:
        return sum(a * b for a, b in zip(x, y, strict=True))

    assert alike(one, one) == pytest.approx(1.0, abs=1e-4)
    assert alike(one, same) > alike(one, other) + 0.3


class Server:
    """An embeddings server that can be told what to answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.vector: Any = [3.0, 4.0]
        self.status, self.delay = 200, 0.0
        self.authorization: str | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        self.authorization = request.headers.get("authorization")
        await asyncio.sleep(self.delay)
        return web.json_response(
            {"object": "list", "data": [{"index": 0, "embedding": self.vector}]}, status=self.status
        )


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, str]]:
    made = Server()
    app = web.Application()
    app.router.add_post("/v1/embeddings", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


def http_embedder(url: str, clock: Clock, queue: int = 4) -> HttpEmbedder:
    server = ModelServer(
        AiohttpTransport(tls_context(), agent="test"), name="it", url=f"{url}/embeddings", api_key="k", queue=queue,
        timeout=0.3, cool_down=5.0, now=clock,
    )  # fmt: skip
    return HttpEmbedder(server, model="e5", size=2, window=256, languages=())


async def test_a_server_is_asked_as_openai_would_be(server: tuple[Server, str]) -> None:
    made, url = server
    embedder = http_embedder(url, Clock())
    assert await embedder.embed("hi") == pytest.approx([0.6, 0.8])
    assert made.asked == [{"model": "e5", "input": "hi", "encoding_format": "float"}]
    assert made.authorization == "Bearer k"
    await embedder.aclose()


async def test_a_prefix_is_put_before_each_text_and_makes_it_another_embedder(server: tuple[Server, str]) -> None:
    """Vectors with and without it must never be compared."""
    made, url = server
    plain = http_embedder(url, Clock())
    embedder = HttpEmbedder(plain._server, model="e5", size=2, window=256, languages=(), prefix="query: ")
    await embedder.embed("hi")
    assert made.asked[-1]["input"] == "query: hi"
    assert (plain.id, embedder.id) == ("http/e5", "http/e5 query:")
    await embedder.aclose()


@pytest.mark.parametrize("trouble", ["status", "slow", "size", "zero", "no vector"])
async def test_a_server_that_fails_is_left_alone_and_then_tried_again(server: tuple[Server, str], trouble: str) -> None:
    made, url = server
    clock = Clock()
    embedder = http_embedder(url, clock)
    made.status = 503 if trouble == "status" else 200
    made.delay = 1.0 if trouble == "slow" else 0.0
    made.vector = {"size": [1.0], "zero": [0.0, 0.0], "no vector": "x"}.get(trouble, [3.0, 4.0])
    begun = time.monotonic()
    with pytest.raises(ModelUnavailable):
        await embedder.embed("a")
    assert time.monotonic() - begun < 0.9
    asked = len(made.asked)
    with pytest.raises(ModelUnavailable):
        await embedder.embed("b")
    assert len(made.asked) == asked
    assert embedder.state() == "degraded"
    made.status, made.delay, made.vector = 200, 0.0, [3.0, 4.0]
    clock.now += 6
    assert await embedder.embed("c") == pytest.approx([0.6, 0.8])
    assert embedder.state() == "ok"
    await embedder.aclose()


async def test_nothing_waits_beside_the_trial(server: tuple[Server, str]) -> None:
    made, url = server
    clock = Clock()
    embedder = http_embedder(url, clock)
    made.status = 500
    with pytest.raises(ModelUnavailable):
        await embedder.embed("a")
    clock.now += 6
    made.status, made.delay = 200, 0.1
    trial = asyncio.create_task(embedder.embed("b"))
    await asyncio.sleep(0)
    with pytest.raises(ModelUnavailable):
        await embedder.embed("c")
    assert json.dumps(await trial)
    await embedder.aclose()


async def test_a_server_gets_only_so_many_texts_at_a_time(server: tuple[Server, str]) -> None:
    made, url = server
    made.delay = 0.1
    embedder = http_embedder(url, Clock(), queue=1)
    first = asyncio.create_task(embedder.embed("a"))
    await asyncio.sleep(0)
    with pytest.raises(ModelBusy):
        await embedder.embed("b")
    await first
    await embedder.aclose()
