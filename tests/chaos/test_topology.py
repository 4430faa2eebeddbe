"""The production stack as local processes: docker-compose.prod.yml's parts with its own two configurations.

nginx with TLS, two gateways, PostgreSQL, Redis, MLflow, and the stand-in for Qdrant; traffic runs through all of it while each
part is restarted in turn.
"""

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import asyncpg
import pytest
import yaml
from support.live import Gateway, gateway, upstream
from support.mlflow_server import MLflowServer
from support.nginx import Nginx, free_port, needs_nginx
from support.postgres import Postgres, postgres, postgres_folder
from support.qdrant_stand_in import QdrantStandIn, qdrant_stand_in
from support.redis import Redis, needs_redis, redis_server

ROOT = Path(__file__).parents[2]
ADMIN = "sk-admin-of-the-topology-0123456789abcdef"
MODEL = "gpt-4o-primary"
pytestmark = [
    pytest.mark.timeout(420),
    needs_nginx,
    needs_redis,
    pytest.mark.skipif(postgres_folder() is None, reason="PostgreSQL is not installed"),
]


def production(base_url: str, port: int) -> dict[str, Any]:
    """deploy/lockgate.prod.yaml; providers, address and folder are the test's, all else is the file's."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "lockgate.prod.yaml").read_text())
    for provider in tree["providers"].values():
        provider |= {"base_url": base_url, "api_key": "sk-upstream"}
    tree["prices"] = {"models": {f"{name}/*": {"input": 2.5, "output": 10} for name in tree["providers"]}}
    tree["routes"][MODEL]["deployments"] = [{"provider": "openai", "model": "echo+chunks=5+every=5ms"}]
    tree["routes"]["long"] = {"deployments": [{"provider": "openai", "model": "long=25+every=80ms+chunks=25"}]}
    tree["client_limits"]["trusted_proxies"] = ["127.0.0.0/8"]
    tree["caller_limits"] = {"requests": "100000/minute", "tokens": "100000000/minute", "parallel": 500}
    # longer than the balancer's fail_timeout: what it noted of the instance before is forgotten when this one goes
    tree["server"] = {"exposure": "public", "port": port, "drain_delay": "3s", "drain_timeout": "20s"}
    tree["record"]["interval"] = "1s"
    return tree


class Instance:
    """One gateway that is ended and started again on its port and its state."""

    def __init__(self, folder: Path, base_url: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._config = production(base_url, self.port)
        self._stack = contextlib.AsyncExitStack()
        self.live: Gateway

    async def start(self) -> None:
        self.live = await self._stack.enter_async_context(gateway(self._folder, self._config))

    async def drain(self) -> None:
        """As an orchestrator ends it."""
        self.live.process.terminate()
        assert await asyncio.wait_for(self.live.process.wait(), 30) == 0
        await self._stack.aclose()

    async def kill(self) -> None:
        """As a machine ends it."""
        self.live.process.kill()
        await self._stack.aclose()


class Stack:
    """Everything, by name."""

    def __init__(self, instances: list[Instance], database: Postgres, limits: Redis, qdrant: QdrantStandIn,
                 mlflow: MLflowServer, balancer: Nginx) -> None:  # fmt: skip
        self.instances = instances
        self.database = database
        self.limits = limits
        self.qdrant = qdrant
        self.mlflow = mlflow
        self.balancer = balancer


@pytest.fixture
async def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stack]:
    async with contextlib.AsyncExitStack() as running:
        # PostgreSQL runs as another user, and every pytest that starts closes the folder of all to others
        open_folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="lockgate-topology-")))
        _, base_url = await running.enter_async_context(upstream())
        mlflow = MLflowServer(tmp_path)
        running.callback(mlflow.stop)
        database, limits, qdrant, _ = await asyncio.gather(
            running.enter_async_context(postgres(open_folder / "postgres")),
            running.enter_async_context(redis_server(tmp_path)),
            running.enter_async_context(qdrant_stand_in()),
            asyncio.to_thread(mlflow.start),
        )
        for name, value in {
            "DATABASE_URL": database.url, "LIMITS_STORE": limits.url, "QDRANT_URL": qdrant.url,
            "MLFLOW_TRACKING_URI": mlflow.url, "EMBEDDINGS_URL": "http://127.0.0.1:9", "LITELLM_MASTER_KEY": ADMIN,
            "API_SECRET_KEY": "0123456789abcdef" * 4, "CACHE_TTL_SECONDS": "3600",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        instances = [Instance(tmp_path / name, base_url) for name in ("one", "two")]
        for instance in instances:
            await instance.start()
            running.push_async_callback(instance._stack.aclose)
        balancer = Nginx(tmp_path / "nginx", [each.port for each in instances])
        await balancer.start()
        running.push_async_callback(balancer.stop)
        yield Stack(instances, database, limits, qdrant, mlflow, balancer)


class Traffic:
    """Clients with keys that call through the balancer and note what became of every call."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._random = Random(7)
        self.answered: dict[str, str] = {}
        """Call ids, and what the cache had to do with them."""
        self.refused: list[str] = []
        self.faults: list[str] = []
        self.phase = "start"
        self._until = asyncio.Event()

    async def key(self, **fields: Any) -> str:
        """A virtual key, made through the balancer by the admin key."""
        body = {"name": "k", "owner": "acme", "models": ["*"], **fields}
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with self._session.post(f"{self._url}/admin/keys", json=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["key"])

    async def client(self, key: str, *, may_be_refused: bool = False) -> None:
        """Calls one after the other until the end; one in three is one that somebody asked before."""
        while not self._until.is_set():
            text = f"fact {self._random.randrange(5)}" if self._random.random() < 0.33 else f"{self._random.random()}"
            stream = self._random.random() < 0.4
            try:
                try:
                    await self.call(key, text, stream=stream, may_be_refused=may_be_refused)
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                    if self.phase != "balancer":
                        raise
                    # a reloaded nginx closes idle connections, this one as it was used again: SDKs take another
                    await self.call(key, text, stream=stream, may_be_refused=may_be_refused)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self.faults.append(f"{self.phase}: {type(error).__name__}: {error}")
            await asyncio.sleep(0.05)

    async def call(
        self, key: str, text: str, *, model: str = MODEL, stream: bool, may_be_refused: bool = False
    ) -> None:
        """One call, read to its end."""
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], "temperature": 0}
        headers = {"authorization": f"Bearer {key}"}
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body, headers=headers) as answer:
            raw = await answer.read()
            if answer.status == 503 and may_be_refused:
                self.refused.append(self.phase)
            elif answer.status != 200 or (stream and not raw.endswith(b"data: [DONE]\n\n")):
                self.faults.append(f"{self.phase}: {answer.status} {raw[-300:]!r}")
            else:
                call_id = answer.headers["x-request-id"]
                assert call_id not in self.answered
                self.answered[call_id] = answer.headers["x-lockgate-cache"]

    def end(self) -> None:
        self._until.set()


async def becomes(ask: Callable[[], Awaitable[object]], wanted: object, seconds: float = 40.0) -> None:
    """Wait until this is so; fails with what it is instead."""
    end = time.monotonic() + seconds
    while (found := await ask()) != wanted:
        assert time.monotonic() < end, (found, wanted)
        await asyncio.sleep(0.1)


async def part(instance: Instance, name: str) -> str:
    """What an instance says of one of its parts."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{instance.port}/health/ready") as answer,
    ):
        return str((await answer.json())["parts"][name])


async def ledger(database: Postgres) -> set[str]:
    connection = await asyncpg.connect(database.url)
    try:
        rows = await connection.fetch("SELECT call_id, outcome FROM ledger WHERE status = 200")
        return {str(row["call_id"]) for row in rows if row["outcome"] == "complete"}
    finally:
        await connection.close()


async def outage(
    stack: Stack, name: str, stop: Callable[[], Awaitable[object]], start: Callable[[], Awaitable[object]]
) -> None:
    """One part goes, both instances say so and go on, it comes back, and both find it."""
    await stop()
    for instance in stack.instances:
        await becomes(lambda each=instance: part(each, name), "degraded")  # type: ignore[misc]
    await asyncio.sleep(0.5)
    await start()
    for instance in stack.instances:
        await becomes(lambda each=instance: part(each, name), "ok")  # type: ignore[misc]


async def rolling_restart(stack: Stack, traffic: Traffic, key: str) -> None:
    """Both gateways, one after the other, with streams open on each that must come to their end."""
    for instance in stack.instances:
        streams = [
            asyncio.create_task(traffic.call(key, f"stream {n} of {instance.port}", model="long", stream=True))
            for n in range(6)
        ]
        await asyncio.sleep(0.5)
        await instance.drain()
        await asyncio.gather(*streams)
        await instance.start()
        await becomes(lambda each=instance: part(each, "database"), "ok")  # type: ignore[misc]


async def test_each_part_restarts_and_nothing_is_lost(stack: Stack) -> None:
    """Every call of a key without a budget is answered throughout, but for nothing; the ledger and MLflow have each of
    them once; a key with a budget is refused while the database is away, as docs/failure-modes.md says.
    """
    trust = ssl.create_default_context(cafile=str(stack.balancer.certificate))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, limit=0), timeout=aiohttp.ClientTimeout(total=30)
    ) as session:
        traffic = Traffic(session, stack.balancer.url)
        free, rich = await traffic.key(), await traffic.key(budget=100)
        clients = [asyncio.create_task(traffic.client(free)) for _ in range(4)]
        clients.append(asyncio.create_task(traffic.client(rich, may_be_refused=True)))
        await asyncio.sleep(1)

        traffic.phase = "rolling restart"
        await rolling_restart(stack, traffic, free)
        traffic.phase = "limits"
        await outage(stack, "limits_store", stack.limits.stop, stack.limits.start)
        traffic.phase = "qdrant"
        await outage(stack, "qdrant", stack.qdrant.stop, stack.qdrant.start)
        traffic.phase = "database"
        await outage(stack, "database", stack.database.stop, stack.database.start)
        traffic.phase = "mlflow"
        await outage(stack, "mlflow", off_loop(stack.mlflow.stop), off_loop(stack.mlflow.start))
        traffic.phase = "balancer"
        stack.balancer.reload()
        await asyncio.sleep(1)
        traffic.end()
        await asyncio.gather(*clients)

    assert traffic.faults == [], stack.balancer.log()
    assert set(traffic.refused) <= {"database"}
    assert len(traffic.answered) > 100
    assert set(traffic.answered.values()) >= {"hit-exact", "miss"}
    await becomes(lambda: booked(stack, traffic), (0, 0))
    await becomes(lambda: asyncio.to_thread(traced, stack, traffic), (0, 0), 180)  # MLflow's server takes its time
    await the_operators_targets_pass(stack, free)


async def the_operators_targets_pass(stack: Stack, key: str) -> None:
    """`make -f Makefile.curl` on the servers themselves; their calls are not the clients'."""
    url = f"http://127.0.0.1:{stack.instances[0].port}"
    given = [
        f"URL={url}",
        f"KEY={key}",
        f"ADMIN={ADMIN}",
        f"QDRANT_URL={stack.qdrant.url}",
        f"MLFLOW_URL={stack.mlflow.url}",
    ]
    for target in ("status", "check-qdrant", "check-mlflow"):
        process = await asyncio.create_subprocess_exec(
            "make", "-f", "Makefile.curl", target, *given,
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await process.communicate()
        assert process.returncode == 0, told.decode()


def off_loop(work: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """What waits, in a thread."""
    return lambda: asyncio.to_thread(work)


async def booked(stack: Stack, traffic: Traffic) -> tuple[int, int]:
    """How many answered calls the ledger lacks, and how many it has besides."""
    rows = await ledger(stack.database)
    return len(traffic.answered.keys() - rows), len(rows - traffic.answered.keys())


def traced(stack: Stack, traffic: Traffic) -> tuple[int, int]:
    """How many answered calls MLflow lacks, and how many traces are there twice."""
    ids = stack.mlflow.ids("lockgate")
    return len(traffic.answered.keys() - set(ids)), len(ids) - len(set(ids))
