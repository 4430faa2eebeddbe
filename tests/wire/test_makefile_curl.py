"""The operator's targets, against a running gateway."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.live import gateway

ROOT = Path(__file__).parents[2]
ADMIN = "sk-admin-for-tests-0123456789"
CONFIG = {
    "providers": {"fake": {"kind": "fake"}},
    "routes": {"gpt-4o-primary": {"deployments": [{"provider": "fake", "model": "echo"}]}},
    "secrets": {"admin_key": ADMIN},
}


async def make(target: str, url: str, **variables: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    given = [f"{name}={value}" for name, value in {"URL": url, "ROUNDS": "3", **variables}.items()]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "LITELLM_"))}
    process = await asyncio.create_subprocess_exec(
        "make",
        "-f",
        "Makefile.curl",
        target,
        *given,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


CHECKS = ("status", "check-litellm", "check-tei")
"""They need nothing that has to be configured."""
STORES = ("check-qdrant", "check-mlflow")
CACHE = ("test-exact-cache", "test-cache-performance", "test-cache-with-logs", "cache-stats", "clear-cache")
NAMES = "groq-kimi-primary", "gpt-4o-primary", "gemini-secondary", "openrouter-fallback", "text-embedding"
ROUTES = {name: {"deployments": [{"provider": "fake", "model": "echo"}]} for name in NAMES}
DEAD = {**ROUTES, "gpt-4o-primary": {"deployments": [{"provider": "fake", "model": "echo+status=503"}]}}
FULL = {**CONFIG, "routes": ROUTES, "exact_cache": {}, "semantic_cache": {}, "record": {"mlflow": ""}}


async def test_every_target_passes_where_all_is_well(tmp_path: Path) -> None:
    """One after the other, with the scripted provider and everything inside the one process."""
    async with gateway(tmp_path, FULL) as running:
        for target in (*CHECKS, *STORES, "test-semantic-cache", *CACHE):
            code, said = await make(target, running.url, ADMIN=ADMIN)
            assert code == 0, said


async def test_the_comprehensive_one_runs_all_and_says_what_is_not_there(tmp_path: Path) -> None:
    """What is not configured is no failure; everything else has its heading."""
    config = {key: value for key, value in FULL.items() if key != "record"}
    async with gateway(tmp_path, config) as running:
        code, said = await make("test-comprehensive", running.url, ADMIN=ADMIN)
        assert code == 0, said
        assert "all ok" in said
        assert "not configured: mlflow" in said
        for target in (*CHECKS, *STORES, *CACHE[:-1], "test-semantic-cache"):
            assert f"== {target}\n" in said


async def test_the_comprehensive_one_fails_when_one_of_them_does(tmp_path: Path) -> None:
    """And runs the others all the same."""
    async with gateway(tmp_path, FULL) as running:
        code, said = await make("test-comprehensive", running.url, ADMIN=ADMIN, ROUTES="no-such-route")
        assert code != 0
        assert re.search(r"FAILED: \d of them", said), said
        assert "FAILED: the call: " in said
        assert "== cache-stats\n" in said


@pytest.mark.parametrize("target", [*CACHE, *STORES, "test-semantic-cache"])
async def test_a_target_fails_where_its_part_is_not_there(tmp_path: Path, target: str) -> None:
    """And says why."""
    async with gateway(tmp_path, CONFIG) as running:
        code, said = await make(target, running.url, ADMIN=ADMIN)
        assert code != 0
        assert "FAILED: " in said


@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("check-litellm", {"ROUTES": "gpt-4o-primary nobody"}),
        ("check-tei", {"EMBED": "nobody"}),
        ("check-tei", {"EMBEDDINGS_URL": "http://127.0.0.1:1"}),
        ("check-qdrant", {"QDRANT_URL": "http://127.0.0.1:1"}),
        ("check-mlflow", {"MLFLOW_URL": "http://127.0.0.1:1"}),
        ("cache-stats", {"ADMIN": "sk-another"}),
        ("status", {"URL": "http://127.0.0.1:1"}),
    ],
)
async def test_a_target_fails_when_what_it_checks_is_not_so(
    tmp_path: Path, target: str, variables: dict[str, str]
) -> None:
    """A route that is not there, a server that does not answer, a key that opens nothing."""
    async with gateway(tmp_path, FULL) as running:
        code, said = await make(target, **{"url": running.url, "ADMIN": ADMIN, **variables})
        assert code != 0
        assert "FAILED: " in said


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "status": ({"qdrant": {"url": "http://127.0.0.1:9"}}, "a part is not well"),
    "check-qdrant": ({"qdrant": {"url": "http://127.0.0.1:9"}}, '"qdrant":"degraded"'),
    "test-exact-cache": ({"exact_cache": {"max_answer": "1B"}}, "x-lockgate-cache is 'miss', not 'hit-exact'"),
    "test-semantic-cache": ({"semantic_cache": {"shadow": True}}, "no hit"),
    "test-cache-performance": ({"exact_cache": {"max_answer": "1B"}}, "is 'miss', not 'hit-exact'"),
    "check-litellm": ({"routes": DEAD}, "the call: "),
    "test-cache-with-logs": ({"exact_cache": {"max_answer": "1B"}}, "x-lockgate-cache is 'miss', not 'hit-exact'"),
}
"""By target: what stands in the way of what it checks, and what it says of that."""


@pytest.mark.parametrize("target", BROKEN)
async def test_a_target_finds_what_is_there_and_does_not_work(tmp_path: Path, target: str) -> None:
    """A gateway that answers, with one thing in it that does not do what it is for."""
    broken, said_of_it = BROKEN[target]
    async with gateway(tmp_path, {**FULL, **broken}) as running:
        code, said = await make(target, running.url, ADMIN=ADMIN)
    assert code != 0
    assert "FAILED: " in said
    assert said_of_it in said


@contextlib.asynccontextmanager
async def embedder(*vectors: list[float]) -> AsyncIterator[str]:
    """Something that answers every request with these vectors; its address."""
    data = [{"object": "embedding", "index": number, "embedding": each} for number, each in enumerate(vectors)]
    body = json.dumps({"object": "list", "data": data, "model": "m"}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


LAMP, LIGHTHOUSE = [0.25, -3.5e-05, 1.0], [0.5, 0.5, -1.0]


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        ((LAMP, LIGHTHOUSE, LAMP), ""),
        ((LAMP, LIGHTHOUSE, [0.2500001, -3.4e-05, 1.0]), ""),
        ((LAMP, LIGHTHOUSE), "2 vectors and not 3"),
        ((LAMP, LAMP, LAMP), "two texts have one vector"),
        ((LAMP, LIGHTHOUSE, LIGHTHOUSE), "one text has two vectors"),
        (([0.0, 0.0], LIGHTHOUSE[:2], [0.0, 0.0]), "one text has two vectors"),
    ],
)
async def test_vectors_that_say_nothing_of_their_texts_are_found(vectors: tuple[list[float], ...], why: str) -> None:
    """As many as texts, apart for other texts, the same for the same but for the last digits."""
    async with embedder(*vectors) as address:
        code, said = await make("check-tei", "http://127.0.0.1:1", EMBEDDINGS_URL=address)
    assert (code != 0, f"FAILED: {why}" in said) == (bool(why), bool(why)), said
