"""Money on real processes: what was answered was paid for exactly once, whatever died in between."""

import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from support.http import CHAT, Answered, Connection, chat, head
from support.live import Gateway, gateway
from support.postgres import Postgres, fresh, shared_postgres

ADMIN = "sk-admin-for-tests-0123456789"
INPUT, OUTPUT = 2500, 10_000
"""nano-USD a token; scripted words are tokens."""
TABLES = ("ledger", "accounts", "leases", "usage_days")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with shared_postgres(tmp_path_factory.mktemp("money") / "postgres") as running:
        yield running


def config(database: str = "", **more: Any) -> dict[str, Any]:
    return {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"*": {"deployments": [{"provider": "fake", "model": "*"}]}},
        "prices": {"models": {"fake/*": {"input": 2.5, "output": 10}}},
        "authenticate": {"keys": True},
        "secrets": {"admin_key": ADMIN},
        "single_flight": {},
        "database": database,
        **more,
    }


async def make_key(gate: Gateway, **fields: object) -> str:
    """A virtual key; without a budget unless it is given one."""
    async with Connection(gate.url) as wire:
        body = json.dumps({"name": "k", "models": ["*"], **fields}).encode()
        made = await wire.request("POST", "/admin/keys", body, authorization=f"Bearer {ADMIN}")
        assert made.status == 201, made.body
        key: str = made.json["key"]
        return key


async def ask(gate: Gateway, key: str, body: bytes) -> Answered:
    async with Connection(gate.url) as wire:
        return await wire.request("POST", CHAT, body, authorization=f"Bearer {key}")


def cost_in(answered: Answered) -> int:
    """What an answer's own usage comes to."""
    usage = answered.json["usage"]
    return int(usage["prompt_tokens"]) * INPUT + int(usage["completion_tokens"]) * OUTPUT


class Books:
    """What the database says."""

    def __init__(self, tables: dict[str, list[dict[str, Any]]]) -> None:
        self.ledger = {row["call_id"]: row for row in tables["ledger"]}
        self.leases = len(tables["leases"])
        self.spent = sum(row["spent"] for row in tables["accounts"])
        self.reserved = sum(row["reserved"] for row in tables["accounts"])
        self.cost = sum(row["cost"] or 0 for row in tables["ledger"])
        self.by_day = sum(row["cost"] for row in tables["usage_days"])

    def balanced(self) -> bool:
        """Whether everything is settled."""
        return not self.leases and not self.reserved

    def check(self) -> None:
        """Rows, sums by day and accounts agree: nothing is lost, nothing doubled."""
        assert (self.leases, self.reserved) == (0, 0)
        assert self.spent == self.cost == self.by_day


async def books(database: str | Path) -> Books:
    """As of one moment."""
    if isinstance(database, Path):
        with contextlib.closing(sqlite3.connect(database)) as file:
            file.row_factory = sqlite3.Row
            file.execute("BEGIN")
            return Books({name: [dict(row) for row in file.execute(f"SELECT * FROM {name}")] for name in TABLES})
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return Books(
                {name: [dict(row) for row in await connection.fetch(f"SELECT * FROM {name}")] for name in TABLES}
            )
    finally:
        await connection.close()


async def settled(database: str | Path, enough: Callable[[Books], bool], seconds: float = 10) -> Books:
    """The books, once everything in them is settled."""
    until = time.monotonic() + seconds
    while True:
        found = await books(database)
        if (found.balanced() and enough(found)) or time.monotonic() > until:
            return found
        await asyncio.sleep(0.05)


async def caller(gate: Gateway, key: str, name: int, paid: dict[str, int]) -> None:
    """Calls one after the other until the gateway is gone; notes what whole answers cost."""
    number = 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):  # the last: a size line cut off
        async with Connection(gate.url) as wire:
            while True:
                number += 1
                text = f"caller {name} call {number} {'word ' * (number % 7)}"
                stream = number % 3 == 0
                body = chat("echo+every=1ms", text, max_tokens=50, stream=stream)
                answered = await wire.request("POST", CHAT, body, authorization=f"Bearer {key}")
                assert answered.status == 200, answered.body
                if stream and answered.body.endswith(b"[DONE]\n\n"):
                    words = len(text.split())
                    paid[answered.headers["x-request-id"]] = words * (INPUT + OUTPUT)
                elif not stream:
                    paid[answered.headers["x-request-id"]] = cost_in(answered)


async def test_killed_under_load_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """Every whole answer is in the ledger once, at its cost; what was in flight costs what was reserved."""
    draw = random.Random(11)
    paid: dict[str, int] = {}
    settings = config(budget={"lease": "1s"})
    key = ""
    for _ in range(3):
        async with gateway(tmp_path, settings) as gate:
            key = key or await make_key(gate, budget=1000)
            callers = [asyncio.ensure_future(caller(gate, key, name, paid)) for name in range(8)]
            await asyncio.sleep(0.3 + draw.random() / 2)
            gate.process.kill()
            await gate.process.wait()
            await asyncio.gather(*callers)
    async with gateway(tmp_path, settings) as gate:
        found = await settled(gate.state / "lockgate.db", lambda each: paid.keys() <= each.ledger.keys())
    assert len(paid) > 100
    found.check()
    assert {call_id: found.ledger[call_id]["cost"] for call_id in paid} == paid
    others = {call_id: row["outcome"] for call_id, row in found.ledger.items() if call_id not in paid}
    assert set(others.values()) <= {"complete", "client_disconnect", "crashed"}


@pytest.fixture
async def two(tmp_path: Path, server: Postgres) -> AsyncIterator[tuple[Gateway, Gateway, str]]:
    """Two instances on one database."""
    database = await fresh(server, tmp_path.name)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    async with gateway(folders[0], config(database)) as one, gateway(folders[1], config(database)) as other:
        yield one, other, database


async def test_two_hundred_calls_at_once_do_not_overspend_a_nearly_spent_key(
    two: tuple[Gateway, Gateway, str],
) -> None:
    """From two instances: as many as fit are answered, the others get 429, and not a nano-dollar too much is spent."""
    one, other, database = two
    words = "four words are said"
    most = (len(chat("long=20+delay=300ms", words, max_tokens=20)) * 4 // 12 + 17) * INPUT + 20 * OUTPUT
    budget = 10 * most
    key = await make_key(one, budget=budget / 1e9)
    body = chat("long=20+delay=300ms", words, max_tokens=20, store=True)
    answers = await asyncio.gather(*(ask(one if n % 2 else other, key, body) for n in range(200)))
    by_status = {status: [each for each in answers if each.status == status] for status in (200, 429)}
    assert len(by_status[200]) + len(by_status[429]) == 200
    assert 8 <= len(by_status[200]) <= 11
    refused = by_status[429][0]
    assert refused.json["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    found = await settled(database, lambda each: len(each.ledger) >= len(by_status[200]))
    found.check()
    assert found.spent == sum(map(cost_in, by_status[200])) <= budget


async def test_without_the_database_budgets_are_closed_and_settlements_wait(tmp_path: Path, server: Postgres) -> None:
    """Callers with a budget get 503, others go on; back again, everything is settled without a restart."""
    database = await fresh(server, tmp_path.name)
    async with gateway(tmp_path, config(database)) as gate:
        rich, free = await make_key(gate, budget=1), await make_key(gate)
        before = [await ask(gate, key, chat("echo", f"before {key[-4:]}")) for key in (rich, free)]
        streaming = asyncio.ensure_future(ask(gate, rich, chat("long=20+every=40ms", "while", stream=True)))
        await asyncio.sleep(0.3)
        await server.stop()
        try:
            during = [await ask(gate, key, chat("echo", f"during {key[-4:]}")) for key in (rich, free)]
            assert (await streaming).body.endswith(b"[DONE]\n\n")
        finally:
            await server.start()
        assert [each.status for each in during] == [503, 200]
        assert during[0].json["error"]["code"] == "overloaded"
        assert "retry-after" in during[0].headers
        expected = {each.headers["x-request-id"]: cost_in(each) for each in (*before, during[1])}
        found = await settled(database, lambda each: len(each.ledger) == 4, seconds=20)
        assert {call_id: found.ledger[call_id]["cost"] for call_id in expected} == expected
        assert (found.leases, found.reserved) == (0, 0)
        assert found.cost == found.by_day
        assert found.spent == found.cost - cost_in(before[1]) - cost_in(during[1])
        assert await answered_again(gate, rich)


async def answered_again(gate: Gateway, key: str, seconds: float = 10) -> bool:
    """Whether calls are let through again, soon."""
    until = time.monotonic() + seconds
    while (await ask(gate, key, chat("echo", "after"))).status != 200:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.1)
    return True


async def leave_after(gate: Gateway, key: str, body: bytes, events: int) -> str:
    """Read so many events of a stream and go."""
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, body, authorization=f"Bearer {key}") + body)
        _, headers = await wire.answer_head()
        for _ in range(events):
            await wire.chunk()
        return headers["x-request-id"]


@pytest.mark.parametrize("flights", [True, False])
async def test_who_leaves_a_stream_pays_for_what_was_streamed(tmp_path: Path, *, flights: bool) -> None:
    """Estimated, and marked so; the rest of what was reserved is free again."""
    settings = config()
    if not flights:
        del settings["single_flight"]
    async with gateway(tmp_path, settings) as gate:
        key = await make_key(gate, budget=1)
        call_id = await leave_after(gate, key, chat("long=1000+every=20ms", stream=True, max_tokens=1000), 10)
        found = await settled(gate.state / "lockgate.db", lambda each: bool(each.cost))
        found.check()
        row = found.ledger[call_id]
        assert (row["outcome"], row["estimated"]) == ("client_disconnect", 1)
        assert 5 <= row["completion"] <= 40


async def test_what_fails_costs_nothing_and_what_breaks_costs_what_came(tmp_path: Path) -> None:
    """A provider's error gives everything back; a stream cut in the middle is paid as far as it came."""
    async with gateway(tmp_path, config()) as gate:
        key = await make_key(gate, budget=1)
        failed = await ask(gate, key, chat("echo+status=503"))
        assert failed.status == 502
        broken = await ask(gate, key, chat("long=40+fault=cut", stream=True))
        found = await settled(gate.state / "lockgate.db", lambda each: len(each.ledger) == 2)
        found.check()
        assert found.ledger[failed.headers["x-request-id"]]["cost"] == 0
        row = found.ledger[broken.headers["x-request-id"]]
        assert (row["outcome"], row["estimated"]) == ("upstream_interrupted", 1)
        assert 15 <= row["completion"] <= 60


async def command(gate: Gateway, *arguments: str) -> tuple[int, str]:
    """A command beside the running gateway: its exit code and what it prints."""
    config_file = str(gate.state.parent / "lockgate.yaml")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.cli", *arguments, "--config", config_file, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_what_was_spent_can_be_asked_beside_the_gateway_and_in_it(tmp_path: Path) -> None:
    """By administrators only; the sums are those of the answers, and a provider's account that agrees is said to."""
    async with gateway(tmp_path, config()) as gate:
        rich, free = await make_key(gate, budget=1, owner="acme"), await make_key(gate)
        answers = [await ask(gate, key, chat("echo", f"call {n}")) for n in range(3) for key in (rich, free)]
        await settled(gate.state / "lockgate.db", lambda each: len(each.ledger) == 6)
        cost = sum(map(cost_in, answers)) / 1e9
        async with Connection(gate.url) as wire:
            for path in ("/admin/usage", "/admin/budgets"):
                assert (await wire.request("GET", path)).status == 401
                assert (await wire.request("GET", path, authorization=f"Bearer {rich}")).status == 403
            admin = f"Bearer {ADMIN}"
            told = await wire.request("GET", "/admin/usage?by=model", authorization=admin)
            assert [(row["calls"], row["cost_usd"]) for row in told.json["usage"]] == [(6, pytest.approx(cost))]
            table = await wire.request("GET", "/admin/usage?by=owner,key&owner=acme&format=csv", authorization=admin)
            assert table.headers["content-type"] == "text/csv; charset=utf-8"
            assert len(table.body.splitlines()) == 2
            assert (await wire.request("GET", "/admin/usage?by=colour", authorization=admin)).status == 400
            (balance,) = (await wire.request("GET", "/admin/budgets", authorization=admin)).json["budgets"]
            assert (balance["spent_usd"], balance["reserved_usd"]) == (pytest.approx(cost / 2), 0)
        code, said = await command(gate, "usage", "--by", "day,model", "--format", "csv")
        assert (code, said.splitlines()[0].split(",")[:3]) == (0, ["day", "model", "calls"])
        export = tmp_path / "export.csv"
        export.write_text(said)
        columns = [f"--{name}-column={name}" for name in ("day", "model", "calls")]
        arguments = ["reconcile", str(export), *columns, "--cost-column=cost_usd", "--tolerance=0"]
        assert (await command(gate, *arguments))[0] == 0
        export.write_text(said.replace(",6,", ",7,"))
        assert (await command(gate, *arguments))[0] == 1
