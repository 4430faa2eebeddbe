"""What the commands for keys, users and owners do: on the database itself, beside a running gateway or without one.

A gateway that runs sees what was changed within ten seconds.
"""

import argparse
import asyncio
import getpass
import json
import sys
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from proxy.admin_keys import describe_key, describe_owner, describe_user, owner_budget_of
from proxy.audit import audit_command
from proxy.cli_identity import NONE
from proxy.config import Config
from proxy.errors import BadRequest, GatewayError
from proxy.grants import user_name
from proxy.identity import open_database
from proxy.key_store import KeyStore
from proxy.logs import plain
from proxy.passwords import Passwords
from proxy.state import Database
from proxy.user_store import OwnerStore, UserStore

Json = dict[str, Any]

_encoder = msgspec.json.Encoder(decimal_format="number")
_DIRECT = ("name", "owner", "rpm", "tpm", "parallel", "bodies", "role", "enabled", "period", "clamp")
_UNSET = ("rpm", "tpm", "parallel", "bodies")
_LISTS = ("models", "tags")


def run(config: Config, options: argparse.Namespace) -> int:
    """Run one command; 1 when it could not be done, with the reason on standard error. Raises OSError."""
    try:
        return asyncio.run(_run(config, options))
    except GatewayError as error:
        print(f"lockgate: {error.message}", file=sys.stderr)
        return 1


async def _run(config: Config, options: argparse.Namespace) -> int:
    if (options.command, options.action) == ("users", "hash"):
        print(await _hash(_password()))
        return 0
    _check_guards(config, getattr(options, "guards", None) or [])
    database = open_database(config)
    try:
        await database.start()
        lines = await _COMMANDS[options.command](database, options, config)
    finally:
        await database.aclose()
    for line in lines:
        print(_encoder.encode(line).decode() if options.json else _plain(line))
    return 0


async def _keys(database: Database, options: argparse.Namespace, _config: Config) -> list[Json]:
    store = KeyStore(database, time.time)
    if options.action == "list":
        return await _all_keys(store, options)
    if options.action == "create":
        members = _members(options)
        key, secret = await store.create(members)
        _audit("create key", key.id, members)
        return [{"key": secret, **describe_key(key)}]
    if options.action == "update":
        members = _members(options)
        key = await store.update(options.id, members)
        _audit("update key", key.id, members)
    else:
        key = await store.revoke(options.id)
        _audit("revoke key", key.id, {})
    return [describe_key(key)]


async def _all_keys(store: KeyStore, options: argparse.Namespace) -> list[Json]:
    found: list[Json] = []
    after = ""
    while page := await store.list(owner=options.of_owner, after=after, revoked=options.revoked):
        found += map(describe_key, page)
        after = page[-1].id
    return found


async def _users(database: Database, options: argparse.Namespace, config: Config) -> list[Json]:
    login = config.authenticate.login if config.authenticate is not None else None
    names = frozenset(each.name for each in login.users) if login is not None else frozenset[str]()
    store = UserStore(database, time.time, lambda: names)
    if options.action == "list":
        return [describe_user(user) for user in await store.list()]
    if options.action == "remove":
        await store.remove(options.user)
        _audit("remove user", options.user, {})
        return [{"name": options.user, "removed": True}]
    if options.action == "password":
        user = await store.update(options.user, {}, await _hash(_password()))
        _audit("update user", user.name, {"password": ""})
        return [describe_user(user)]
    members = _members(options)
    if options.action == "update":
        user = await store.update(options.user, members)
    else:
        user = await store.add(user_name(options.user), await _hash(_password()), members)
    _audit(f"{options.action} user", user.name, members)
    return [describe_user(user)]


async def _owners(database: Database, options: argparse.Namespace, _config: Config) -> list[Json]:
    store = OwnerStore(database, time.time)
    if options.action == "list":
        return [describe_owner(name, budget) for name, budget in (await store.list()).items()]
    if options.action == "remove":
        await store.remove(options.owner)
        _audit("remove owner", options.owner, {})
        return [{"name": options.owner, "removed": True}]
    members = {"budget": _usd(options.budget)} | ({"period": options.period} if options.period else {})
    budget = owner_budget_of(options.owner, members)
    await store.set(options.owner, budget)
    _audit("set owner", options.owner, members)
    return [describe_owner(options.owner, budget)]


_COMMANDS = {"keys": _keys, "users": _users, "owners": _owners}


def _members(options: argparse.Namespace) -> Json:
    """What was said on the command line, as the body of a request would say it."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    members: Json = {name: _said(name, given[name]) for name in _DIRECT if name in given}
    members |= {
        name: [each.strip() for each in given[name].split(",") if each.strip()] for name in _LISTS if name in given
    }
    if "budget" in given:
        members["budget"] = _usd(given["budget"])
    if "expires" in given:
        said = given["expires"]
        members["expires"] = None if said == "never" else int(said) if said.isdigit() else said
    if "bounds" in given:
        members["bounds"] = {} if given["bounds"] == [NONE] else dict(_bounds(each) for each in given["bounds"])
    if "guards" in given:
        members["guards"] = {} if given["guards"] == [NONE] else dict(_guard(each) for each in given["guards"])
    return members


def _said(name: str, value: object) -> object:
    """What was set before may be taken away again."""
    return None if name in _UNSET and value == NONE else value


def _usd(said: str | None) -> Decimal | None:
    if said is None or said == NONE:
        return None
    try:
        return Decimal(said)
    except InvalidOperation:
        raise BadRequest(f"--budget: {said!r} is no amount in USD.") from None


def _bounds(said: str) -> tuple[str, list[float]]:
    name, _, both = said.partition("=")
    try:
        low, high = (float(each) for each in both.split(":"))
    except ValueError:
        raise BadRequest(f"--bounds: expected PARAMETER=LOW:HIGH, got {said!r}.") from None
    return name, [low, high]


def _guard(said: str) -> tuple[str, str]:
    name, found, action = said.rpartition("=")
    if not found:
        raise BadRequest(f"--guards: expected GUARD=ACTION, got {said!r}.")
    return name, action


def _check_guards(config: Config, said: list[str]) -> None:
    """Raises BadRequest: a guard that does not exist guards nobody, and nobody would be told."""
    if said == [NONE]:
        return
    known = config.guard_names
    for name, _ in map(_guard, said):
        if name not in known:
            raise BadRequest(f"--guards: there is no guard {name!r}; there are: {', '.join(sorted(known)) or 'none'}.")


async def _hash(password: str) -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def _password() -> str:
    """From a pipe, or asked for twice. It never stands on the command line, where other users could see it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise BadRequest("The two are not the same.")
    return password


def _audit(action: str, subject: str, members: Mapping[str, object]) -> None:
    audit_command(action, subject, tuple(sorted(members)))


def _plain(line: Json) -> str:
    """The members that say something, for people; none of them commands their terminal."""
    return "  ".join(
        f"{name}={json.dumps(value, default=str) if isinstance(value, (list, tuple, dict)) else plain(str(value))}"
        for name, value in line.items()
        if value not in (None, "", (), [], {})
    )
