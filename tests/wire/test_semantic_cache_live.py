"""The semantic cache in a running gateway, over real sockets, with an embeddings server that can be stopped."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from support.http import CHAT, Answered, Connection, chat
from support.live import Gateway, gateway

ADMIN = "sk-admin-for-tests-0123456789"
ASKED, AGAIN, OTHER = (
    "How do I return my parcel?",
    "What is the best way to return my parcel?",
    "How do I insure my parcel?",
)
CALIBRATION = {"same": 0.7, "near": 0.95, "across": 0.8}


class Embeddings:
    """An OpenAI-compatible embeddings server over the letters of a text, which is a reranker too, with one score for
    all; it can be stopped and started again.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self.delay = 0.0
        self.score = 0.0
        self.ranked: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.delay)
        text = (await request.json())["input"].lower()
        return web.json_response({"data": [{"embedding": [1.0 + text.count(chr(97 + k)) for k in range(26)]}]})

    async def rank(self, request: web.Request) -> web.Response:
        self.ranked.append(await request.json())
        texts = self.ranked[-1]["texts"]
        return web.json_response([{"index": index, "score": self.score} for index in reversed(range(len(texts)))])

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/embeddings", self.handle)
        app.router.add_post("/rerank", self.rank)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@contextlib.asynccontextmanager
async def embeddings() -> AsyncIterator[Embeddings]:
    server = Embeddings()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def config(embedder: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"*": {"deployments": [{"provider": "fake", "model": "*"}]}},
        "single_flight": {},
        "exact_cache": {},
        "semantic_cache": {"embedder": embedder, "check": {"share": 0}, **more},
        "secrets": {"admin_key": ADMIN},
    }


def http_embedder(server: Embeddings) -> dict[str, Any]:
    base_url = f"http://127.0.0.1:{server.port}/v1"
    return {"kind": "http", "base_url": base_url, "model": "letters", "size": 26, "timeout": "2s", "cool_down": "100ms"}


async def post(running: Gateway, body: bytes, path: str = CHAT, **headers: str) -> Answered:
    async with Connection(running.url) as connection:
        return await connection.request("POST", path, body, **headers)


async def verdict(running: Gateway, text: str, **headers: str) -> str:
    return (await post(running, chat("echo", text), **headers)).headers["x-lockgate-cache"]


async def becomes(running: Gateway, text: str, expected: str) -> None:
    """Ask, without a trace, until the caches say this: entries are written behind, models loaded beside."""
    async with asyncio.timeout(60):
        while await verdict(running, text, cache_control="no-store") != expected:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def part(running: Gateway, name: str) -> str:
    async with Connection(running.url) as connection:
        return str((await connection.request("GET", "/health/ready")).json["parts"][name])


async def test_a_question_in_other_words_is_a_hit_and_can_be_called_wrong(tmp_path: Path) -> None:
    """Whole and streamed; afterwards that question is not answered from that entry again."""
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        first = await post(running, chat("echo", ASKED))
        assert first.headers["x-lockgate-cache"] == "miss"
        await becomes(running, AGAIN, "hit-semantic")
        again = await post(running, chat("echo", AGAIN))
        assert again.body == first.body
        assert 0.7 < float(again.headers["x-lockgate-similarity"]) < 1
        assert float(again.headers["x-lockgate-cost-usd"]) == 0
        streamed = await post(running, chat("echo", AGAIN, stream=True))
        assert streamed.headers["x-lockgate-cache"] == "hit-semantic"
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert await verdict(running, OTHER, cache_control="no-store") == "miss"
        told = json.dumps({"request_id": again.headers["x-request-id"]}).encode()
        noted = await post(running, told, "/system/cache/feedback", authorization=f"Bearer {ADMIN}")
        assert noted.json == {"status": "noted", "tier": "semantic"}
        assert await verdict(running, AGAIN) == "miss"


async def test_a_wrong_answer_goes_from_both_caches(tmp_path: Path) -> None:
    """Neither the same words nor others have it again: the next answer is the provider's, and is stored."""
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        await post(running, chat("echo", ASKED))
        await becomes(running, AGAIN, "hit-semantic")
        again = await post(running, chat("echo", ASKED))
        assert again.headers["x-lockgate-cache"] == "hit-exact"
        told = json.dumps({"request_id": again.headers["x-request-id"]}).encode()
        noted = await post(running, told, "/system/cache/feedback", authorization=f"Bearer {ADMIN}")
        assert noted.json == {"status": "noted", "tier": "exact"}
        assert await verdict(running, AGAIN, cache_control="no-store") == "miss"
        assert await verdict(running, ASKED) == "miss"
        await becomes(running, AGAIN, "hit-semantic")
        assert await verdict(running, ASKED) == "hit-exact"


async def test_a_flight_is_no_way_into_the_partition_of_another_key(tmp_path: Path) -> None:
    """Two keys of one owner ask the same at the same time; the answer to similar words is the first one's alone."""
    async with (
        embeddings() as server,
        gateway(
            tmp_path,
            {
                **config(http_embedder(server), calibration=CALIBRATION, partition="key"),
                "authenticate": {"keys": True},
            },
        ) as running,
    ):
        keys = []
        for name in ("one", "two"):
            made = json.dumps({"name": name, "owner": "team", "models": ["*"]}).encode()
            answer = await post(running, made, "/admin/keys", authorization=f"Bearer {ADMIN}")
            keys.append({"authorization": f"Bearer {answer.json['key']}"})
        await post(running, chat("echo", ASKED), **keys[0])
        async with asyncio.timeout(60):
            while await verdict(running, AGAIN, cache_control="no-store", **keys[0]) != "hit-semantic":  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        server.delay = 0.3  # the second comes while the first is being answered
        verdicts = await asyncio.gather(*(verdict(running, AGAIN, **key) for key in keys))
        assert verdicts == ["hit-semantic", "miss"]


async def test_a_wrong_answer_to_the_same_text_spaced_otherwise_goes_from_both_caches(tmp_path: Path) -> None:
    """It is the answer that is wrong. What was called wrong for another text stays for its own."""
    spaced = ASKED.replace(" ", "  ")
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        await post(running, chat("echo", ASKED))
        for text, after in ((AGAIN, "hit-exact"), (spaced, "miss")):
            await becomes(running, text, "hit-semantic")
            again = await post(running, chat("echo", text))
            told = json.dumps({"request_id": again.headers["x-request-id"]}).encode()
            noted = await post(running, told, "/system/cache/feedback", authorization=f"Bearer {ADMIN}")
            assert noted.json == {"status": "noted", "tier": "semantic"}
            assert await verdict(running, ASKED) == after


async def test_a_hit_is_not_stored_as_an_exact_one(tmp_path: Path) -> None:
    """It would outlive its entry, and feedback could not reach it."""
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        await post(running, chat("echo", ASKED))
        await becomes(running, AGAIN, "hit-semantic")
        assert [await verdict(running, AGAIN) for _ in range(3)] == ["hit-semantic"] * 3


async def test_a_stopped_embedder_is_a_bypass_and_comes_back_without_a_restart(tmp_path: Path) -> None:
    """Calls go on; readiness says degraded, and then ok again."""
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        await post(running, chat("echo", ASKED))
        await becomes(running, AGAIN, "hit-semantic")
        await server.stop()
        answered = await post(running, chat("echo", AGAIN))
        assert (answered.status, answered.headers["x-lockgate-cache"]) == (200, "bypass")
        assert await part(running, "embedder") == "degraded"
        assert await verdict(running, ASKED) == "hit-exact"
        await server.start()
        await becomes(running, "How can I return my parcel?", "hit-semantic")
        assert await part(running, "embedder") == "ok"


async def test_a_reranker_decides_where_words_do_not_tell_and_may_be_away(tmp_path: Path) -> None:
    """Without it such a question is a miss, and no other call knows; readiness does."""
    other_words = "Which form do I fill in so that my parcel goes back to the shop?"
    async with embeddings() as server:
        reranker = {
            "base_url": f"http://127.0.0.1:{server.port}",
            "threshold": 0.9,
            "timeout": "2s",
            "cool_down": "100ms",
        }
        given = config({"kind": "use"}, candidate_floor=0.3, reranker=reranker)
        async with gateway(tmp_path, given) as running:
            await post(running, chat("echo", ASKED))
            await becomes(running, AGAIN, "hit-semantic")
            assert (await verdict(running, other_words, cache_control="no-store"), len(server.ranked)) == ("miss", 1)
            assert server.ranked[0] == {"query": other_words, "texts": [ASKED], "raw_scores": False}
            server.score = 0.95
            assert await verdict(running, other_words, cache_control="no-store") == "hit-semantic"
            await server.stop()
            assert await verdict(running, other_words, cache_control="no-store") == "miss"
            assert await verdict(running, AGAIN, cache_control="no-store") == "hit-semantic"
            assert (await part(running, "embedder"), await part(running, "reranker")) == ("ok", "degraded")
            await server.start()
            await becomes(running, other_words, "hit-semantic")
            assert await part(running, "reranker") == "ok"


async def test_a_judge_parts_a_pair_for_good(tmp_path: Path) -> None:
    """It is the model of another route, asked after the caller has its answer."""
    async with embeddings() as server:
        given = config(http_embedder(server), calibration=CALIBRATION)
        given["semantic_cache"]["check"] = {"share": 1.0, "judge": "judge"}
        given["routes"]["judge"] = {"deployments": [{"provider": "fake", "model": "fixed+text=No"}]}
        async with gateway(tmp_path, given) as running:
            await post(running, chat("echo", ASKED))
            await becomes(running, AGAIN, "hit-semantic")
            await becomes(running, AGAIN, "miss")
            async with Connection(running.url) as connection:
                headers = {"authorization": f"Bearer {ADMIN}"}
                told = (await connection.request("GET", "/system/cache/stats", b"", **headers)).json["semantic"]
            assert (told["checked"], told["disagreed"], told["not_judged"]) == (1, 1, 0)
            assert [each["why"] for each in told["reviews"]] == ["the judge says so"]


async def test_an_embedder_nobody_calibrated_serves_nothing(tmp_path: Path) -> None:
    async with embeddings() as server, gateway(tmp_path, config(http_embedder(server))) as running:
        await post(running, chat("echo", ASKED))
        for _ in range(5):
            assert await verdict(running, AGAIN, cache_control="no-store") == "miss"


async def test_the_default_embedder_needs_nothing_else(tmp_path: Path) -> None:
    """Its model is loaded when the first text comes, and calls go on meanwhile."""
    async with gateway(tmp_path, config({"kind": "use"})) as running:
        assert await verdict(running, ASKED) == "miss"
        await becomes(running, AGAIN, "hit-semantic")
        assert await verdict(running, "Comment renvoyer mon colis ?", cache_control="no-store") == "miss"


async def test_a_collection_of_another_length_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    async with (
        embeddings() as server,
        gateway(tmp_path, config(http_embedder(server), calibration=CALIBRATION)) as running,
    ):
        assert await verdict(running, ASKED) == "miss"
    try:
        async with gateway(tmp_path, config({"kind": "use"})):
            raise AssertionError("it started")
    except RuntimeError as error:
        assert "lockgate cache migrate semantic" in str(error)  # noqa: PT017 - the process says it
