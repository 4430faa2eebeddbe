"""Upgrades: a database that an earlier version made and filled is brought up to date, and what it holds is read."""

import hashlib
from importlib.resources import files

import pytest
from sqlalchemy import text
from support.identity import instance

from proxy.call import NANO, Budget
from proxy.state import Database, migrate, migrations

SECRET = "sk-lg-omm5mnhAVGwL_RROLiDU5wKj9vvqz9oEQuHI7TubPmo"
KEPT = {
    1: (
        (
            "INSERT INTO virtual_keys (id, digest, last_four, owner, settings, created, changed, revoked) VALUES "
            "('f74a06ac6c413695', '7fed3b934861156a9bda761afad2ffa8413ba229dc2dc09814f20d87d201ed8a', 'bPmo', 'acme', "
            """'{"name":"web shop","owner":"acme","models":["gpt-*"],"rpm":60,"budget":"50","period":"month","tags":["a"]}', """
            "1800000000, 1800000000, NULL)"
        ),
        "INSERT INTO owners (name, budget, period, changed) VALUES ('acme', 500000000000, 'month', 1800000000)",
    ),
    2: (
        (
            "INSERT INTO accounts (account, period, began, spent, reserved) VALUES "
            "('owner:acme', 'month', 1798761600, 1000000007, 0)"
        ),
        (
            "INSERT INTO ledger (call_id, started, day, caller, owner, route, provider, model, status, outcome, prompt, "
            "completion, cached, cache_write, reasoning, audio, estimated, cost, saved) VALUES ('0123', 1800000000, "
            "'2027-01-15', 'key:f74a06ac6c413695', 'acme', 'r', 'p', 'm', 200, 'complete', 10, 5, 0, 0, 0, 0, 0, 1000000007, 0)"
        ),
    ),
}
"""What 0.1.0 wrote, by the step that made room for it: as it wrote it, never as a later version would."""
RELEASED = {
    "0001-identity.sql": "49a1262680fab895df3e6d2d2128e0672afa27d4ec3c40de7e3c16d747fd81d6",
    "0002-money.sql": "ce83beae776ad5d61094be7c15a209e1fbed8e8fa69d1535ee35cc40f93c317b",
}
"""SHA-256 of every step; a new step brings its own line here."""


def test_a_step_stays_as_it_was_released() -> None:
    """Databases that have it would not get the change: what is to be different is a new step."""
    folder = files("proxy") / "migrations"
    found = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.iterdir()
        if each.name.endswith(".sql")
    }
    assert found == RELEASED
    assert [step.version for step in migrations()] == list(range(1, len(RELEASED) + 1))


@pytest.mark.parametrize("version", range(1, len(RELEASED) + 1))
async def test_what_an_earlier_version_kept_is_read_after_the_upgrade(url: str, version: int) -> None:
    """Keys with all they may do, budgets, what was spent."""
    before = Database(url)
    await migrate(before.engine, migrations()[:version])
    async with before.begin() as connection:
        for step in range(1, version + 1):
            for statement in KEPT.get(step, ()):
                await connection.exec_driver_sql(statement)
    await before.aclose()
    async with instance(url) as here:
        caller = await here.find(SECRET)
        assert (caller.owner, caller.requests, caller.tags) == ("acme", 60, ("a",))
        assert (caller.may_use("gpt-4o"), caller.may_use("o3")) == (True, False)
        assert caller.budgets == (
            Budget("key:f74a06ac6c413695", 50 * NANO, "month"),
            Budget("owner:acme", 500 * NANO, "month"),
        )
        async with here.database.connect() as connection:
            spent = list((await connection.execute(text("SELECT spent FROM accounts"))).scalars())
            costs = list((await connection.execute(text("SELECT cost FROM ledger"))).scalars())
        assert spent == costs == ([1_000_000_007] if version > 1 else [])
