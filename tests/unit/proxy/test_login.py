"""Logins: what a password gives, how it ends, and that nobody learns anything by trying."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import argon2
import pytest
from sqlalchemy import text
from support.calls import Clock
from support.identity import ADMIN_KEY, NOW, Instance, digest, instance

from proxy.authority import LoginConfig
from proxy.errors import BadRequest, RateLimited, Unauthenticated
from proxy.grants import Grants
from proxy.login import Issued
from proxy.passwords import Passwords, check_password, stamp_of, what_is_wrong
from proxy.user_store import User

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse"
HASH = CHEAP.hash(PASSWORD)
HERE, THERE = "192.0.2.1", "192.0.2.2"


def know(here: Instance, *names: str, grants: Grants | None = None) -> None:
    """These users stand in the configuration."""
    grants = grants or Grants(models=("*",), owner="acme")
    here.tokens.configure(here.signer, {name: User(name, HASH, grants) for name in names})


async def log_in(here: Instance, name: str = "alice", password: str = PASSWORD, address: str = HERE) -> Issued:
    return await here.login.login(name, password, address)


async def fails(here: Instance, name: str, password: str = "wrong", address: str = HERE) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await log_in(here, name, password, address)
    return caught.value


async def refused(here: Instance, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await here.find(token)
    return caught.value


async def no_refresh(here: Instance, token: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await here.login.refresh(token, THERE)
    assert caught.value.code == "invalid_refresh_token"


async def test_a_password_gives_a_token_that_is_its_user(url: str) -> None:
    """For an hour; the refresh token is nothing to a call."""
    async with instance(url) as here:
        know(here, "alice")
        issued = await log_in(here)
        assert (issued.token_type, issued.expires_in) == ("bearer", 3600)
        caller = await here.find(issued.access_token)
        assert (caller.id, caller.owner, caller.partition) == ("user:alice", "acme", "owner:acme")
        await refused(here, issued.refresh_token)


async def test_users_of_the_database_log_in_too(url: str) -> None:
    """As soon as they are added, until they are removed."""
    async with instance(url) as here:
        await here.users.add("bob", HASH, {"models": ["gpt-*"], "role": "admin"})
        await here.directory.look()
        issued = await log_in(here, "bob")
        caller = await here.find(issued.access_token)
        assert (caller.id, caller.models, caller.is_admin) == ("user:bob", ("gpt-*",), True)
        await here.users.remove("bob")
        await here.directory.look()
        await refused(here, issued.access_token)
        await no_refresh(here, issued.refresh_token)
        await fails(here, "bob", PASSWORD)


async def test_a_refresh_token_works_once_and_brings_the_next(url: str) -> None:
    async with instance(url) as here:
        know(here, "alice")
        issued = await log_in(here)
        seen = {issued.refresh_token}
        for _ in range(5):
            here.clock.now += 3000
            await here.directory.look()
            issued = await here.login.refresh(issued.refresh_token, HERE)
            assert issued.refresh_token not in seen
            seen.add(issued.refresh_token)
            await here.find(issued.access_token)


async def test_a_replayed_refresh_token_ends_the_whole_login_everywhere(url: str) -> None:
    """Here at once, also for tokens whose verification is remembered; on another instance at its next look."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        know(here, "alice")
        know(there, "alice")
        stolen = await log_in(here)
        other = await log_in(here)
        newer = await here.login.refresh(stolen.refresh_token, HERE)
        for each in (here, there):
            for token in (stolen.access_token, newer.access_token, other.access_token):
                await each.find(token)
        await no_refresh(here, stolen.refresh_token)
        await there.directory.look()
        for each in (here, there):
            for token in (stolen.access_token, newer.access_token):
                assert (await refused(each, token)).code == "invalid_api_key"
            await each.find(other.access_token)
        await no_refresh(here, newer.refresh_token)
        await here.login.refresh(other.refresh_token, HERE)


async def test_two_refreshes_at_once_are_a_replay(url: str) -> None:
    """Never do both get a token."""
    async with instance(url) as here:
        know(here, "alice")
        issued = await log_in(here)
        both = (here.login.refresh(issued.refresh_token, address) for address in (HERE, THERE))
        outcomes = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(isinstance(each, Unauthenticated) for each in outcomes) == [False, True]
        await refused(here, issued.access_token)


async def test_refresh_tokens_run_out(url: str) -> None:
    async with instance(url, login=LoginConfig(refresh_ttl=7200.0)) as here:  # type: ignore[arg-type]
        know(here, "alice")
        issued = await log_in(here)
        here.clock.now += 7200
        await here.directory.look()
        await no_refresh(here, issued.refresh_token)


@pytest.mark.parametrize("by", ["access", "refresh"])
async def test_logging_out_ends_the_login(url: str, by: str) -> None:
    """By either token; elsewhere within one look; a second time does nothing."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        know(here, "alice")
        know(there, "alice")
        issued = await log_in(here)
        await there.find(issued.access_token)
        await here.find(issued.access_token)
        known = here.tokens.remembered(digest(issued.access_token))
        assert known is not None
        ends = (known.family, None) if by == "access" else (None, issued.refresh_token)
        await here.login.logout(*ends)
        await here.login.logout(*ends)
        await there.directory.look()
        for each in (here, there):
            await refused(each, issued.access_token)
        await no_refresh(here, issued.refresh_token)


async def test_an_instance_that_starts_later_knows_what_has_ended(url: str) -> None:
    async with instance(url) as here:
        know(here, "alice")
        issued = await log_in(here)
        await here.login.logout(None, issued.refresh_token)
        async with instance(url) as later:
            know(later, "alice")
            await refused(later, issued.access_token)


@pytest.mark.parametrize("change", ["password", "disabled", "expired"])
async def test_a_change_of_the_user_ends_every_login(url: str, change: str) -> None:
    async with instance(url) as here:
        await here.users.add("bob", HASH, {})
        await here.directory.look()
        issued = await log_in(here, "bob")
        await here.find(issued.access_token)
        if change == "password":
            await here.users.update("bob", {}, CHEAP.hash("another one"))
        else:
            await here.users.update("bob", {"enabled": False} if change == "disabled" else {"expires": int(NOW)})
        await here.directory.look()
        await refused(here, issued.access_token)
        await no_refresh(here, issued.refresh_token)


async def test_the_database_holds_neither_tokens_nor_names_that_were_tried(url: str) -> None:
    """Digests only."""
    async with instance(url) as here:
        know(here, "alice")
        issued = await log_in(here)
        await fails(here, "mallory-was-here", "hunter2-hunter2")
        async with here.database.connect() as connection:
            for table in ("token_families", "refresh_tokens", "login_tries", "identity_changes"):
                rows = str((await connection.execute(text(f"SELECT * FROM {table}"))).all())
                for secret in (issued.refresh_token, issued.access_token, PASSWORD, "hunter2", "mallory", HERE):
                    assert secret not in rows


async def test_five_tries_a_minute_for_a_name_from_an_address(url: str) -> None:
    """The sixth is refused, the right password too, on every instance; other addresses and names are not touched."""
    clock = Clock(NOW)
    async with instance(url, clock) as here, instance(url, clock) as there:
        know(here, "alice", "bob")
        know(there, "alice", "bob")
        for turn in range(5):
            await fails((here, there)[turn % 2], "alice")
        for each in (here, there):
            with pytest.raises(RateLimited) as caught:
                await log_in(each)
            assert 1 <= int(caught.value.headers["retry-after"]) <= 60
        await log_in(here, address=THERE)
        await log_in(here, "bob")
        clock.now += 60
        await here.directory.look()
        await log_in(here)


async def test_many_tries_at_once_are_counted_one_by_one(url: str) -> None:
    """Five get an answer, whichever come first."""
    async with instance(url) as here:
        know(here, "alice")
        outcomes = await asyncio.gather(*(log_in(here, password="wrong") for _ in range(15)), return_exceptions=True)
        assert sum(isinstance(each, Unauthenticated) for each in outcomes) == 5
        assert sum(isinstance(each, RateLimited) for each in outcomes) == 10


async def test_who_gets_in_has_not_tried(url: str) -> None:
    """A client that logs in often is no guesser."""
    async with instance(url) as here:
        know(here, "alice")
        for _ in range(12):
            await log_in(here)


async def test_a_name_alone_is_slowed_and_never_locked(url: str) -> None:
    """However many addresses try it, its owner gets in, at most five seconds later."""
    config = LoginConfig(slow_after=3)
    async with instance(url, login=config) as here:
        know(here, "alice")
        for guess in range(30):
            await fails(here, "alice", address=f"198.51.100.{guess}")
        assert here.clock.slept[:3] == [0.25, 0.5, 0.75]
        assert max(here.clock.slept) == 5.0
        before = here.clock.now
        await log_in(here)
        assert here.clock.now - before <= 5.0


async def test_an_address_that_fails_with_many_names_waits(tmp_path: Path) -> None:
    """Thirty a minute, keys and passwords together; nor does it find out whether a key is good."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        know(here, "alice")
        for guess in range(30):
            await fails(here, f"user{guess}")
        for attempt in (log_in(here), here.login.refresh("guess", HERE), here.find(ADMIN_KEY, HERE)):
            with pytest.raises(RateLimited):
                await attempt
        await log_in(here, address=THERE)


async def test_names_that_are_not_there_get_the_same_answer(tmp_path: Path) -> None:
    """As a wrong password, a disabled user's and an expired one's right one."""
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        off, over = Grants(enabled=False), Grants(expires=1)
        users = {
            "alice": User("alice", HASH, Grants()),
            "off": User("off", HASH, off),
            "over": User("over", HASH, over),
        }
        here.tokens.configure(here.signer, users)
        answers = [
            await fails(here, "alice"), await fails(here, "nobody"), await fails(here, "nobody", PASSWORD),
            await fails(here, "", PASSWORD), await fails(here, "alice", ""), await fails(here, "ALICE", PASSWORD),
            await fails(here, "off", PASSWORD), await fails(here, "over", PASSWORD), await fails(here, "alice\x00"),
        ]  # fmt: skip
        assert len({(each.body(), tuple(each.headers.items()), each.http_status) for each in answers}) == 1


async def test_names_that_are_not_there_take_the_same_time(tmp_path: Path) -> None:
    """Statistically: the medians of interleaved tries lie within a third of each other."""
    hasher = argon2.PasswordHasher(time_cost=2, memory_cost=4096, parallelism=1)
    async with instance(f"sqlite:///{tmp_path}/a.db", login=LoginConfig(tries=1000, slow_after=1000)) as here:
        here.failures.limit = 1000
        here.tokens.configure(here.signer, {"alice": User("alice", hasher.hash(PASSWORD), Grants())})
        times: dict[str, list[float]] = {"alice": [], "nobody": []}
        for _ in range(40):
            for name, taken in times.items():
                began = time.process_time()
                await fails(here, name)
                taken.append(time.process_time() - began)
        there, absent = (statistics.median(taken[2:]) for taken in times.values())
        assert 2 / 3 < there / absent < 3 / 2


async def test_the_first_login_of_all_tells_nothing_either(tmp_path: Path) -> None:
    """The decoy is made whether or not the name is there."""
    for name in ("alice", "nobody"):
        passwords = Passwords()
        try:
            await passwords.is_right("wrong", HASH if name == "alice" else None, [HASH])
            assert len(passwords._decoys) == 1
        finally:
            passwords.close()


async def test_the_loop_goes_on_while_passwords_are_hashed(tmp_path: Path) -> None:
    """They are in threads: a login of a tenth of a second holds up no call."""
    hasher = argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
    passwords = Passwords()
    real = hasher.hash(PASSWORD)
    ticks = 0
    checking = asyncio.gather(*(passwords.is_right("wrong", real, [real]) for _ in range(2)))
    try:
        while not checking.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert await checking == [False, False]
        assert ticks > 5
    finally:
        passwords.close()


@pytest.mark.parametrize("password", ["short", "password", "x" * 1025, "ChangeMe"])
def test_passwords_that_anybody_would_try_are_refused(password: str) -> None:
    with pytest.raises(BadRequest):
        check_password(password)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "plain",
        "$2b$12$abcdefghijklmnopqrstuv",
        argon2.PasswordHasher(type=argon2.Type.I, time_cost=1, memory_cost=8, parallelism=1).hash("x" * 8),
    ],
    ids=["empty", "plain", "bcrypt", "argon2i"],
)
def test_only_argon2id_hashes_are_taken(bad: str) -> None:
    """`lockgate users hash` makes them."""
    assert "lockgate users hash" in str(what_is_wrong(bad))
    assert what_is_wrong(HASH) is None


async def test_what_we_make_is_argon2id_as_recommended() -> None:
    """RFC 9106 §4, second recommendation."""
    passwords = Passwords()
    try:
        made = await passwords.hash(PASSWORD)
        assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await passwords.is_right(PASSWORD, made, [])
        assert stamp_of(made) not in made
    finally:
        passwords.close()


async def test_an_overlong_name_or_password_costs_nothing(tmp_path: Path) -> None:
    async with instance(f"sqlite:///{tmp_path}/a.db") as here:
        for name, password in (("x" * 257, PASSWORD), ("alice", "x" * 1025)):
            with pytest.raises(BadRequest):
                await log_in(here, name, password)
        async with here.database.connect() as connection:
            counted: Any = await connection.scalar(text("SELECT count(*) FROM login_tries"))
            assert counted == 0
