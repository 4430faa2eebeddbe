"""Logins: what a stranger can learn (nothing), how long one lasts, and how it ends."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest
from sqlalchemy import text
from support.calls import Clock
from support.identity import NOW, Instance, digest, instance
from support.postgres import Postgres

from proxy.authority import LoginConfig
from proxy.errors import BadRequest, RateLimited, Unauthenticated
from proxy.grants import Grants
from proxy.jws import read_token
from proxy.login import Issued
from proxy.passwords import Passwords, check_password, what_is_wrong
from proxy.state import DatabaseAwayError
from proxy.user_store import User

PASSWORD = "correct horse battery"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes for laws that are not about hashing."""
HASH = CHEAP.hash(PASSWORD)


def with_alice(here: Instance, **grants: object) -> None:
    here.tokens.configure(here.signer, {"alice": User("alice", HASH, Grants(models=("*",), **grants))})  # type: ignore[arg-type]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Instance]:
    async with instance(f"sqlite:///{tmp_path}/a.db", login=LoginConfig(slow_after=10)) as made:
        with_alice(made)
        yield made


async def log_in(here: Instance, name: str = "alice", password: str = PASSWORD, address: str = "192.0.2.1") -> Issued:
    return await here.login.login(name, password, address)


async def refused(here: Instance, name: str, password: str, address: str = "192.0.2.1") -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await log_in(here, name, password, address)
    return caught.value


async def test_a_login_gives_what_was_promised(url: str) -> None:
    """An hour's access and a refresh token, and neither secret is in the database."""
    async with instance(url) as here:
        with_alice(here, owner="acme")
        issued = await log_in(here)
        assert (issued.token_type, issued.expires_in) == ("bearer", 3600)
        assert read_token(issued.access_token).claims["exp"] == NOW + 3600
        caller = await here.find(issued.access_token)
        assert (caller.id, caller.owner) == ("user:alice", "acme")
        async with here.database.connect() as connection:
            for table in ("token_families", "refresh_tokens", "login_tries"):
                rows = [str(row) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
                assert not any(secret in row for row in rows for secret in (issued.refresh_token, PASSWORD))
                assert rows or table == "login_tries"


async def test_a_wrong_name_and_a_wrong_password_look_the_same(here: Instance) -> None:
    wrong, nobody = await refused(here, "alice", "wrong"), await refused(here, "nobody", PASSWORD)
    assert (wrong.message, wrong.code, wrong.headers) == (nobody.message, nobody.code, nobody.headers)
    assert wrong.code == "invalid_credentials"


@pytest.mark.parametrize("grants", [{"enabled": False}, {"expires": int(NOW)}])
async def test_who_is_not_live_looks_like_nobody(here: Instance, grants: dict[str, object]) -> None:
    with_alice(here, **grants)
    assert (await refused(here, "alice", PASSWORD)).code == "invalid_credentials"


async def test_the_time_of_a_login_does_not_tell_who_exists() -> None:
    """Wrong passwords for a name that is there, and names that are not: the medians of interleaved tries are close.

    In time of the processor, all threads together: time on the wall depends on who else uses the machine.
    """
    passwords = Passwords()
    known = argon2.PasswordHasher(time_cost=2, memory_cost=2048, parallelism=1).hash(PASSWORD)
    taken: dict[str | None, list[float]] = {known: [], None: []}
    await passwords.is_right("warm up", None, [known])
    for turn in range(60):
        for password_hash in (known, None) if turn % 2 else (None, known):
            began = time.process_time()
            assert not await passwords.is_right("wrong", password_hash, [known])
            taken[password_hash].append(time.process_time() - began)
    passwords.close()
    there, nobody = (statistics.median(figures) for figures in taken.values())
    assert 0.7 < there / nobody < 1.4


async def test_the_work_done_in_vain_is_that_of_most_users() -> None:
    """Also where their hashes were made with other parameters than ours."""
    passwords = Passwords()
    ours = argon2.PasswordHasher(time_cost=3, memory_cost=16, parallelism=2)
    await passwords.is_right("x", None, [ours.hash("a"), HASH, ours.hash("b")])
    await passwords.is_right("x", None, [])
    assert [each.split("$")[3] for each in passwords._decoys.values()] == ["m=16,t=3,p=2", "m=65536,t=3,p=4"]
    assert not await passwords.is_right("", None, [ours.hash("a")]), "the decoy opens nothing"
    passwords.close()


async def test_a_hash_never_runs_on_the_loop() -> None:
    """While passwords are hashed, the loop goes on."""
    passwords = Passwords()
    hashing = asyncio.create_task(passwords.hash(PASSWORD))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await passwords.is_right(PASSWORD, await hashing, [])
    passwords.close()


async def test_five_tries_a_minute_for_a_name_from_an_address(url: str) -> None:
    """The sixth is refused, also with the right password, on every instance; other addresses and names are not."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        with_alice(here)
        with_alice(there)
        for turn in range(5):
            await refused(here if turn % 2 else there, "alice", "wrong")
        for each in (here, there):
            with pytest.raises(RateLimited) as caught:
                await log_in(each)
            assert int(caught.value.headers["retry-after"]) == 60
        await log_in(here, address="192.0.2.2")
        await refused(here, "bob", "wrong")
        clock.now += 60
        await here.directory.look()
        await log_in(here)


async def test_tries_at_once_are_counted_each(url: str) -> None:
    """Twenty at the same time are five."""
    async with instance(url) as here:
        with_alice(here)
        tries = await asyncio.gather(*(log_in(here, password="wrong") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(each, Unauthenticated) for each in tries) == 5
        assert sum(isinstance(each, RateLimited) for each in tries) == 15


async def test_logging_in_is_no_try(here: Instance) -> None:
    """Who knows the password may do it as often as they like."""
    for _ in range(12):
        await log_in(here)


async def test_a_name_alone_is_slowed_and_never_locked(here: Instance) -> None:
    """From many addresses: nobody can lock somebody else out, whether or not the name is there."""
    for name in ("alice", "nobody"):
        here.clock.slept.clear()
        for turn in range(40):
            await refused(here, name, "wrong", f"198.51.100.{turn}")
        assert here.clock.slept[:2] == [0.25, 0.5]
        assert max(here.clock.slept) <= 5.0
    await log_in(here, address="203.0.113.1")
    assert here.clock.slept[-1] <= 5.0


async def test_an_address_that_tries_many_names_waits(here: Instance) -> None:
    """Spraying one password over all names."""
    for turn in range(30):
        await refused(here, f"name-{turn}", "wrong")
    with pytest.raises(RateLimited):
        await log_in(here, "name-31", "wrong")


@pytest.mark.parametrize(("name", "password"), [("x" * 257, "p"), ("alice", "p" * 1025)])
async def test_what_is_too_long_is_not_hashed(here: Instance, name: str, password: str) -> None:
    with pytest.raises(BadRequest):
        await log_in(here, name, password)


async def test_a_refresh_token_works_once_and_brings_the_next(url: str) -> None:
    async with instance(url) as here:
        with_alice(here)
        issued = await log_in(here)
        seen = {issued.refresh_token}
        for _ in range(3):
            here.clock.now += 600
            issued = await here.login.refresh(issued.refresh_token, "192.0.2.1")
            seen.add(issued.refresh_token)
            await here.directory.look()
            await here.find(issued.access_token)
        assert len(seen) == 4


async def test_a_token_that_comes_again_ends_the_whole_login(url: str) -> None:
    """On the instance it came to at once, on others after a look, access tokens in memory included."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        with_alice(here)
        with_alice(there)
        first = await log_in(here)
        second = await here.login.refresh(first.refresh_token, "192.0.2.1")
        other = await log_in(here)
        for each in (here, there):
            await each.find(first.access_token)
            await each.find(second.access_token)
        with pytest.raises(Unauthenticated) as caught:
            await here.login.refresh(first.refresh_token, "192.0.2.1")
        assert caught.value.code == "invalid_refresh_token"
        assert there.tokens.recall(digest(second.access_token)) is not None
        await there.directory.look()
        for each in (here, there):
            assert each.tokens.recall(digest(first.access_token)) is None
            for token in (first.access_token, second.access_token):
                with pytest.raises(Unauthenticated):
                    await each.find(token)
            await each.find(other.access_token)
        with pytest.raises(Unauthenticated):
            await here.login.refresh(second.refresh_token, "192.0.2.1")
        await here.login.refresh(other.refresh_token, "192.0.2.1")


async def test_a_token_used_twice_at_once_is_used_once(url: str) -> None:
    """And the second use ends the login."""
    async with instance(url) as here:
        with_alice(here)
        issued = await log_in(here)
        both = await asyncio.gather(
            *(here.login.refresh(issued.refresh_token, "192.0.2.1") for _ in range(2)), return_exceptions=True
        )
        good = [each for each in both if isinstance(each, Issued)]
        assert len(good) == 1
        with pytest.raises(Unauthenticated):
            await here.find(good[0].access_token)


@pytest.mark.parametrize("token", ["", "nonsense", "\x00", "x" * 5000])
async def test_an_unknown_refresh_token_opens_nothing(here: Instance, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await here.login.refresh(token, "192.0.2.1")


async def test_a_refresh_token_runs_out(here: Instance) -> None:
    issued = await log_in(here)
    here.clock.now += 30 * 86400
    with pytest.raises(Unauthenticated):
        await here.login.refresh(issued.refresh_token, "192.0.2.1")


@pytest.mark.parametrize("how", ["access token", "refresh token"])
async def test_logging_out_ends_the_login(here: Instance, how: str) -> None:
    """A second time does nothing; so does a token that nobody knows."""
    issued = await log_in(here)
    await here.find(issued.access_token)
    family = str(read_token(issued.access_token).claims["family"])
    for _ in range(2):
        if how == "access token":
            await here.login.logout(family, None)
        else:
            await here.login.logout(None, issued.refresh_token)
    await here.login.logout(None, "nonsense")
    with pytest.raises(Unauthenticated):
        await here.find(issued.access_token)
    with pytest.raises(Unauthenticated):
        await here.login.refresh(issued.refresh_token, "192.0.2.1")


@pytest.mark.parametrize("change", ["password", "disabled", "gone"])
async def test_who_is_not_live_refreshes_nothing(here: Instance, change: str) -> None:
    """A login dies with the password it was made with."""
    issued = await log_in(here)
    if change == "password":
        here.tokens.configure(here.signer, {"alice": User("alice", CHEAP.hash(PASSWORD), Grants())})
    elif change == "disabled":
        with_alice(here, enabled=False)
    else:
        here.tokens.configure(here.signer, {})
    with pytest.raises(Unauthenticated):
        await here.login.refresh(issued.refresh_token, "192.0.2.1")
    with pytest.raises(Unauthenticated):
        await here.find(issued.access_token)


async def test_a_login_that_ended_with_its_user_stays_ended(url: str) -> None:
    """Who is disabled and enabled again logs in anew: whoever held the old tokens does not come back with the user."""
    async with instance(url) as here, instance(url) as there:
        for name in ("bob", "eve"):
            await here.users.add(name, CHEAP.hash(PASSWORD), {})
        await here.directory.look()
        bobs, other, eves = [await here.login.login(name, PASSWORD, "192.0.2.1") for name in ("bob", "bob", "eve")]
        for enabled in (False, True):
            await here.users.update("bob", {"enabled": enabled})
        for each in (here, there):
            await each.directory.look()
            for old in (bobs, other):
                with pytest.raises(Unauthenticated):
                    await each.find(old.access_token)
            await each.find(eves.access_token)
        with pytest.raises(Unauthenticated):
            await here.login.refresh(bobs.refresh_token, "192.0.2.1")
        await here.find((await here.login.login("bob", PASSWORD, "192.0.2.1")).access_token)


async def test_an_instance_that_starts_later_knows_what_has_ended(url: str) -> None:
    async with instance(url) as here:
        with_alice(here)
        issued = await log_in(here)
        await here.login.logout(None, issued.refresh_token)
        async with instance(url) as later:
            with_alice(later)
            with pytest.raises(Unauthenticated):
                await later.find(issued.access_token)


async def test_another_secret_ends_every_access_token(tmp_path: Path) -> None:
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        with_alice(here)
        issued = await log_in(here)
        here.tokens.configure(type(here.signer)(b"another"), {"alice": User("alice", HASH, Grants())})
        with pytest.raises(Unauthenticated):
            await here.find(issued.access_token)


async def test_what_has_run_out_is_forgotten(url: str) -> None:
    """Families, their tokens, tries and changes; what is live stays."""
    async with instance(url) as here:
        with_alice(here)
        old = await log_in(here)
        await here.login.logout(None, old.refresh_token)
        await refused(here, "alice", "wrong")
        here.clock.now += 32 * 86400
        await log_in(here)
        await here.directory._prune()
        async with here.database.connect() as connection:
            counts = {
                table: await connection.scalar(text(f"SELECT count(*) FROM {table}"))
                for table in ("token_families", "refresh_tokens", "login_tries", "identity_changes")
            }
        assert counts == {"token_families": 1, "refresh_tokens": 1, "login_tries": 2, "identity_changes": 0}
        assert here.directory.revoked == {}


async def test_without_the_database_nobody_logs_in_and_tokens_in_memory_work(
    postgres_url: str, postgres_server: Postgres
) -> None:
    """For the grace; then they get 503. An instance that started alone heals alone."""
    async with instance(postgres_url, grace=600.0) as here:
        with_alice(here)
        issued = await log_in(here)
        await here.find(issued.access_token)
        await postgres_server.stop()
        try:
            await here.directory.look()
            for attempt in (log_in(here), here.login.refresh(issued.refresh_token, "x"), here.login.logout("f", None)):
                with pytest.raises(DatabaseAwayError):
                    await attempt
            here.clock.now += 500
            await here.find(issued.access_token)
            here.clock.now += 101
            with pytest.raises(Exception, match="cannot tell"):
                await here.find(issued.access_token)
        finally:
            await postgres_server.start()
        await here.directory.look()
        await here.find(issued.access_token)
        await log_in(here)


@pytest.mark.parametrize("password", ["short", "password", "PASSWORD1", "x" * 1025, ""])
def test_a_password_that_anybody_would_try_is_refused(password: str) -> None:
    with pytest.raises(BadRequest):
        check_password(password)


def test_only_argon2id_hashes_are_taken() -> None:
    assert what_is_wrong(HASH) is None
    other = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=argon2.Type.I)
    for bad in ("", "plain", "$2b$12$abcdefghijklmnopqrstuv", other.hash("x")):
        assert what_is_wrong(bad)
