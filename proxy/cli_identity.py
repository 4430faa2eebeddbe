"""The commands for keys, users and owners: what they are given. What they do is loaded only when one is run."""

import argparse
import importlib
from typing import Any

from proxy.config import Config

COMMANDS = ("keys", "users", "owners")
NONE = "none"
"""Takes away what was set before."""
Parsers = Any
"""What argparse calls a special action of sub-parsers."""


def add_identity_commands(commands: Parsers, with_config: argparse.ArgumentParser) -> None:
    """Describe them."""
    settings, budget, form = _settings(), _budget(), argparse.ArgumentParser(add_help=False)
    form.add_argument("--json", action="store_true", help="print JSON, a line each")

    keys = commands.add_parser("keys", help="make, list, change and revoke virtual keys").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", help="what it is for")
    limits = [with_config, form, named, settings, budget]
    keys.add_parser("create", parents=limits, help="make a key; its secret is printed this once")
    listed = keys.add_parser("list", parents=[with_config, form], help="list keys")
    listed.add_argument("--owner", dest="of_owner", metavar="OWNER", help="of this owner only")
    listed.add_argument("--revoked", action="store_true", help="revoked ones too")
    for action, parents, text in (
        ("update", limits, "change a key; what is not named stays"),
        ("revoke", [with_config, form], "end a key for good"),
    ):
        keys.add_parser(action, parents=parents, help=text).add_argument("id")

    users = commands.add_parser("users", help="add, list, change and remove users who log in").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    for action, parents, text in (
        ("add", [with_config, form, settings, budget], "add a user; the password is asked for, or read from a pipe"),
        ("update", [with_config, form, settings, budget], "change a user; what is not named stays"),
        ("password", [with_config, form], "give a user a new password, which ends every login"),
        ("remove", [with_config, form], "remove a user, which ends every login"),
    ):
        users.add_parser(action, parents=parents, help=text).add_argument("user")
    users.add_parser("list", parents=[with_config, form], help="list the users of the database")
    users.add_parser("hash", parents=[with_config], help="print the hash of a password, for the configuration")

    owners = commands.add_parser("owners", help="set, list and remove the budgets of owners").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    owners.add_parser("set", parents=[with_config, form, budget], help="set a budget").add_argument("owner")
    owners.add_parser("list", parents=[with_config, form], help="list owners with a budget")
    owners.add_parser("remove", parents=[with_config, form], help="take a budget away").add_argument("owner")


def run_identity(config: Config, options: argparse.Namespace) -> int:
    """Run one of them."""
    run: int = importlib.import_module("proxy.commands_identity").run(config, options)
    return run


def _settings() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--owner", help="who it belongs to: one budget, one tenant of the caches")
    parser.add_argument(
        "--models", help="routes it may use, with commas between them; * is all (keys: none unless said)"
    )
    parser.add_argument("--rpm", type=_count, help="requests a minute; none: as configured")
    parser.add_argument("--tpm", type=_count, help="tokens a minute; none: as configured")
    parser.add_argument("--parallel", type=_count, help="calls at a time; none: as configured")
    parser.add_argument("--expires", help="30d, 2027-01-31T00:00:00Z or Unix seconds; never: it does not expire")
    parser.add_argument("--tags", help="words for its records, with commas between them")
    parser.add_argument(
        "--bodies", choices=["full", "redacted", "off", NONE], help="how much of its texts may be logged"
    )
    parser.add_argument(
        "--bounds",
        action="append",
        metavar="PARAMETER=LOW:HIGH",
        help="bounds of a parameter, in place of those it had; may be repeated; none: takes them away",
    )
    parser.add_argument(
        "--clamp",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="move a parameter outside of its bounds to the nearest one, or refuse it",
    )
    parser.add_argument(
        "--guards",
        action="append",
        metavar="GUARD=ACTION",
        help="a stricter action of a guard (shadow, flag, redact, block), in place of those it had; may be repeated; "
        "none: takes them away",
    )
    parser.add_argument("--role", choices=["user", "admin"], help="admin opens the operator's routes")
    parser.add_argument("--enabled", action=argparse.BooleanOptionalAction, default=None, help="whether it works")
    return parser


def _count(said: str) -> int | str:
    return said if said == NONE else int(said)


def _budget() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--budget", help="what may be spent in the period, in USD; none: no bound")
    parser.add_argument("--period", choices=["day", "week", "month", "total"], help="default: total")
    return parser
