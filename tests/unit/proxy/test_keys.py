"""Virtual keys: what makes one good, when a change holds, and what is known without the database."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text
from support.calls import Clock
from support.identity import ADMIN_KEY, NOW, Instance, digest, instance
from support.postgres import Postgres

from policies.parameters import ParametersConfig
from proxy.call import NANO, Budget
from proxy.errors import BadRequest, Overloaded, RateLimited, Unauthenticated, UnknownEntry
from proxy.grants import BOUNDED
from proxy.state import DatabaseAwayError
from proxy.user_store import owner_budget


async def refused(here: Instance, secret: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await here.find(secret)
    return caught.value


async def test_a_key_is_its_caller(url: str) -> None:
    """Everything an administrator said of it."""
    async with instance(url) as here:
        await here.owners.set("acme", owner_budget("acme", 5 * NANO, "day"))
        key_id, secret = await here.create(
            name="one", owner="acme", models=["gpt-*"], rpm=1, tpm=2, parallel=3, budget=1.5, period="month",
            tags=["a"], bodies="off", bounds={"temperature": [0, 1]}, clamp=True,
            guards={"injection": "block"},
        )  # fmt: skip
        caller = await here.find(secret)
        assert (caller.id, caller.owner, caller.kind, caller.is_admin) == (f"key:{key_id}", "acme", "key", False)
        assert (caller.requests, caller.tokens, caller.parallel) == (1, 2, 3)
        assert caller.may_use("gpt-4o")
        assert not caller.may_use("o3")
        assert caller.budgets == (
            Budget(f"key:{key_id}", 1_500_000_000, "month"),
            Budget("owner:acme", 5 * NANO, "day"),
        )
        assert (caller.tags, caller.bodies, caller.bounds) == (("a",), "off", {"temperature": (0.0, 1.0)})
        assert caller.clamp is True
        assert caller.guards == {"injection": "block"}


async def test_only_what_is_said_is_allowed(url: str) -> None:
    """Models are deny by default."""
    async with instance(url) as here:
        _, secret = await here.store.create({})
        assert not (await here.find(secret)).may_use("gpt-4o")


async def test_answers_are_shared_within_an_owner_only(url: str) -> None:
    """And a key without one shares with nobody."""
    async with instance(url) as here:
        secrets = [(await here.create(owner=owner))[1] for owner in ("acme", "acme", "other", "", "")]
        partitions = [(await here.find(secret)).partition for secret in secrets]
        assert partitions[0] == partitions[1]
        assert len(set(partitions)) == 4
        assert all(partitions)


async def test_the_database_never_holds_a_secret(url: str) -> None:
    """Only its digest and its last four characters."""
    async with instance(url) as here:
        _, secret = await here.create(name="one")
        assert secret.startswith("sk-lg-")
        assert len(secret) == 6 + 43
        async with here.database.connect() as connection:
            for table in ("virtual_keys", "identity_changes"):
                rows = [str(row) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
                assert rows
                assert not any(secret in row or secret[6:] in row for row in rows)


async def test_a_key_that_is_no_more_says_why(url: str) -> None:
    """Expired, disabled, revoked or never there: 401 invalid_api_key, and never a null code."""
    async with instance(url) as here:
        (expiring, off, gone) = [await here.create() for _ in range(3)]
        await here.store.update(expiring[0], {"expires": int(NOW) + 60})
        await here.store.update(off[0], {"enabled": False})
        await here.store.revoke(gone[0])
        await here.directory.look()
        await here.find(expiring[1])
        here.clock.now += 60
        await here.directory.look()
        for secret, words in ((expiring[1], "expired"), (off[1], "disabled"), (gone[1], "revoked")):
            error = await refused(here, secret)
            assert (error.code, words in error.message) == ("invalid_api_key", True)
        assert (await refused(here, "sk-lg-" + "x" * 43)).message == "Incorrect API key provided."


async def test_an_expiry_counts_to_the_second_also_in_memory(url: str) -> None:
    async with instance(url) as here:
        _, secret = await here.create(expires="5s")
        await here.find(secret)
        here.clock.now += 4.5
        assert here.keys.recall(digest(secret)) is not None
        here.clock.now += 0.5
        assert here.keys.recall(digest(secret)) is None
        await refused(here, secret)


@pytest.mark.parametrize("change", ["revoke", "disable", "models"])
async def test_a_change_holds_elsewhere_after_one_look(url: str, change: str) -> None:
    """Two instances on one database: the other one has the key in memory."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        key_id, secret = await here.create()
        await there.find(secret)
        if change == "revoke":
            await here.store.revoke(key_id)
        else:
            await here.store.update(key_id, {"enabled": False} if change == "disable" else {"models": []})
        await here.directory.look()
        assert (await there.find(secret)).may_use("x"), "not yet: it has not looked"
        await there.directory.look()
        for each in (here, there):
            if change == "models":
                assert not (await each.find(secret)).may_use("x")
            else:
                await refused(each, secret)


async def test_nothing_older_than_ten_seconds_is_believed(url: str) -> None:
    """An instance that cannot look any more, for whatever reason, reads every key anew while the database answers."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        key_id, secret = await here.create()
        await there.find(secret)
        await here.store.revoke(key_id)
        clock.now += 9.9
        await refused(there, secret)


async def test_a_new_key_works_at_once_where_it_was_guessed_before(url: str) -> None:
    """What is remembered as unknown is forgotten when it appears."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        _, secret = await here.create()
        there.keys._unknown[digest(secret)] = clock.now + 10
        await refused(there, secret)
        await there.directory.look()
        await there.find(secret)


async def test_an_owners_budget_reaches_keys_in_memory(url: str) -> None:
    async with instance(url) as here:
        _, secret = await here.create(owner="acme")
        assert (await here.find(secret)).budgets == ()
        await here.owners.set("acme", owner_budget("acme", NANO, "week"))
        await here.directory.look()
        assert (await here.find(secret)).budgets == (Budget("owner:acme", NANO, "week"),)
        await here.owners.remove("acme")
        await here.directory.look()
        assert (await here.find(secret)).budgets == ()


async def test_a_log_that_does_not_reach_back_is_read_around(url: str) -> None:
    """An instance that slept for a day, or a database restored from an older copy."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        key_id, secret = await here.create()
        await there.find(secret)
        await here.store.revoke(key_id)
        async with here.database.begin() as connection:
            await connection.execute(text("DELETE FROM identity_changes"))
        await there.directory.look()
        await refused(there, secret)
        async with here.database.begin() as connection:
            await connection.execute(text("UPDATE virtual_keys SET revoked = NULL"))
            await connection.execute(text("UPDATE identity_version SET value = 0"))
        await there.directory.look()
        await there.find(secret)


async def test_what_cannot_be_read_is_looked_at_again(tmp_path: Path) -> None:
    """A row that a newer gateway wrote, say: known keys go on, nobody stops looking, and it heals by itself."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        _, secret = await here.create()
        await here.find(secret)
        await here.users.add("bob", "$argon2id$", {})
        for settings, state in (('{"of_the_future": 1}', "degraded"), ("{}", "ok")):
            async with here.database.begin() as connection:
                await connection.execute(text("UPDATE users SET settings = :settings"), {"settings": settings})
            here.clock.now += 9
            await here.directory.look()
            assert here.directory.state() == state
            await here.find(secret)
        assert here.directory.users["bob"].grants.enabled


async def test_guessing_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown keys push out unknown keys only."""
    monkeypatch.setattr("proxy.keys._UNKNOWN", 5)
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        _, secret = await here.create()
        await here.find(secret)
        for guess in range(20):
            with pytest.raises(Unauthenticated):
                await here.find(f"sk-lg-{guess}", peer=f"192.0.2.{guess}")
        assert len(here.keys._unknown) == 5
        assert here.keys.recall(digest(secret)) is not None


async def test_many_calls_with_a_new_key_ask_the_database_once(tmp_path: Path) -> None:
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        _, secret = await here.create()
        asked = []
        find = here.store.find

        async def counted(wanted: bytes) -> object:
            asked.append(wanted)
            return await find(wanted)

        here.store.find = counted  # type: ignore[assignment,method-assign]
        await asyncio.gather(*(here.find(secret) for _ in range(50)))
        assert len(asked) == 1


async def test_an_address_that_fails_too_often_waits_also_with_the_right_key(tmp_path: Path) -> None:
    """Keys in use pass all the same; after a minute all is forgotten; others are not touched."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        _, used = await here.create()
        _, unused = await here.create()
        await here.find(used)
        for guess in range(30):
            with pytest.raises(Unauthenticated):
                await here.find(f"guess-{guess}", "192.0.2.9")
        for secret in (ADMIN_KEY, unused, "another-guess"):
            with pytest.raises(RateLimited) as caught:
                await here.find(secret, "192.0.2.9")
            assert int(caught.value.headers["retry-after"]) == 60
        await here.find(used, "192.0.2.9")
        assert (await here.find(ADMIN_KEY, "192.0.2.8")).is_admin
        here.clock.now += 60
        await here.directory.look()
        assert (await here.find(ADMIN_KEY, "192.0.2.9")).is_admin


async def test_without_the_database_what_is_known_works_for_the_grace(
    postgres_url: str, postgres_server: Postgres
) -> None:
    """The unknown gets 503 and not 401; past the grace everything does; the admin key always works; it heals by itself."""
    clock = Clock(NOW)
    async with instance(postgres_url, clock, grace=600.0) as here:
        _, known = await here.create()
        _, unknown = await here.create()
        await here.find(known)
        await postgres_server.stop()
        try:
            await here.directory.look()
            assert here.directory.state() == "degraded"
            clock.now += 599
            assert (await here.find(known)).kind == "key"
            with pytest.raises(DatabaseAwayError) as caught:
                await here.find(unknown)
            assert (caught.value.http_status, caught.value.headers["retry-after"]) == (503, "5")
            clock.now += 2
            with pytest.raises(Overloaded):
                await here.find(known)
            assert here.directory.state() == "down"
            assert (await here.find(ADMIN_KEY)).is_admin
        finally:
            await postgres_server.start()
        await here.directory.look()
        assert here.directory.state() == "ok"
        await here.find(known)
        await here.find(unknown)


async def test_two_updates_at_once_both_hold(url: str) -> None:
    """Neither starts from what the other is about to replace."""
    async with instance(url) as here:
        key_id, _ = await here.create()
        await asyncio.gather(here.store.update(key_id, {"rpm": 7}), here.store.update(key_id, {"tpm": 8}))
        grants = (await here.store.get(key_id)).grants
        assert (grants.rpm, grants.tpm) == (7, 8)


async def test_changes_are_numbered_without_a_gap(url: str) -> None:
    """Whoever has read up to a number has missed nothing, however many wrote at once."""
    async with instance(url) as here:
        await asyncio.gather(*(here.store.create({}) for _ in range(20)))
        async with here.database.connect() as connection:
            rows = await connection.execute(text("SELECT version FROM identity_changes ORDER BY version"))
            assert list(rows.scalars()) == list(range(1, 21))


async def test_keys_are_listed_page_by_page(url: str) -> None:
    async with instance(url) as here:
        made = {(await here.create(owner=owner))[0] for owner in ("a", "b", "a")}
        gone, _ = await here.create()
        await here.store.revoke(gone)
        first = await here.store.list(limit=2)
        second = await here.store.list(after=first[-1].id)
        assert {key.id for key in (*first, *second)} == made
        assert len(await here.store.list(owner="a")) == 2
        assert len(await here.store.list(revoked=True)) == 4


async def test_a_revoked_key_is_gone_for_good(url: str) -> None:
    async with instance(url) as here:
        key_id, _ = await here.create()
        await here.store.revoke(key_id)
        for again in (here.store.revoke(key_id), here.store.update(key_id, {"enabled": True}), here.store.get("none")):
            with pytest.raises(UnknownEntry):
                await again


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("models", "gpt-4o"), ("rpm", 0), ("rpm", 1.5), ("rpm", "many"), ("budget", -1), ("budget", "NaN"),
        ("budget", Decimal("0.0000000001")), ("budget", 1e13), ("period", "year"), ("expires", "tomorrow"),
        ("enabled", "yes"), ("bodies", "all"), ("bounds", {"temperature": [1, 0]}), ("bounds", {"t": [0]}),
        ("bounds", {"temprature": [0, 1]}), ("bounds", {"max_completion_tokens": [1, 9]}),
        ("bounds", {"max_tokens": [1, float("inf")]}),
        ("guards", {"injection": "off"}), ("guards", {"injection": "allow"}), ("guards", ["injection"]),
        ("role", "root"), ("name", "x" * 201), ("id", "mine"), ("digest", "00"),
    ],
)  # fmt: skip
async def test_a_bad_member_is_named_and_nothing_is_changed(tmp_path: Path, member: str, value: object) -> None:
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        key_id, _ = await here.create()
        before = await here.store.get(key_id)
        with pytest.raises(BadRequest) as caught:
            await here.store.update(key_id, {member: value})
        assert caught.value.param == member
        assert await here.store.get(key_id) == before


def test_a_key_may_have_the_bounds_that_a_route_may_have() -> None:
    assert set(BOUNDED) == set(ParametersConfig.__struct_fields__) - {"clamp"}
