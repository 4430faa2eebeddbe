"""A reranker behind TEI's route, over real sockets. How a server that fails is treated stands in `test_embedders.py`."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from support.calls import Clock

from adapters.model_server import ModelServer
from adapters.network import tls_context
from adapters.reranker import HttpReranker
from adapters.transport_aiohttp import AiohttpTransport
from proxy.model_errors import ModelUnavailable


class Server:
    """A reranker that can be told what to answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Any = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body, content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, HttpReranker, Clock]]:
    made, clock = Server(), Clock()
    app = web.Application()
    app.router.add_post("/rerank", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there = ModelServer(
        AiohttpTransport(tls_context(), agent="test"), name="it", url=f"http://127.0.0.1:{runner.addresses[0][1]}/rerank",
        api_key="", queue=4, timeout=2.0, cool_down=5.0, now=clock,
    )  # fmt: skip
    reranker = HttpReranker(there, 0.9)
    yield made, reranker, clock
    await reranker.aclose()
    await runner.cleanup()


async def test_scores_come_back_in_the_order_of_the_texts(server: tuple[Server, HttpReranker, Clock]) -> None:
    """The server sends the best one first."""
    made, reranker, _ = server
    made.answer = [{"index": 2, "score": 0.98, "text": None}, {"index": 0, "score": 0.4}, {"index": 1, "score": 0.01}]
    assert await reranker.scores("asked", ["a", "b", "c"]) == [0.4, 0.01, 0.98]
    assert made.asked == [{"query": "asked", "texts": ["a", "b", "c"], "raw_scores": False}]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [{"index": 0, "score": 0.9}],
        [{"index": 0, "score": 0.9}, {"index": 2, "score": 0.9}],
        [{"index": 0, "score": 0.9}, {"index": 1, "score": 7.2}],
        [{"index": 0, "score": 0.9}, {"index": 1, "score": 0.1}, {"index": 1, "score": 0.99}],
        {"error": "no"},
        b'[{"index":0,"score":0.5,"text":' + b"[" * 100_000,
    ],
    ids=["nothing", "one missing", "another", "a raw score", "one twice", "an error", "without end"],
)
async def test_what_is_no_score_for_every_text_is_none(server: tuple[Server, HttpReranker, Clock], answer: Any) -> None:
    """And the server is then left alone for a while, as when it is away."""
    made, reranker, clock = server
    made.answer = answer
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            await reranker.scores("asked", ["a", "b"])
    assert len(made.asked) == 1
    assert reranker.state() == "degraded"
    made.answer = [{"index": 1, "score": 1.0}, {"index": 0, "score": 0.0}]
    clock.now += 6
    assert await reranker.scores("asked", ["a", "b"]) == [0.0, 1.0]
    assert reranker.state() == "ok"
