"""The command line: `lockgate --help` lists the commands."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import uvloop

from proxy.cache_commands import add_cache_parser, cache_command, cache_work
from proxy.cli_identity import COMMANDS as IDENTITY
from proxy.cli_identity import add_identity_commands, run_identity
from proxy.commands import check, explain, fake, guard_test, import_litellm, serve
from proxy.commands_money import COMMANDS as MONEY
from proxy.commands_money import add_money_commands, run_money
from proxy.commands_records import records, show_mlflow
from proxy.commands_request import request
from proxy.config import Config
from proxy.config_file import ConfigError, load_config, schema
from proxy.logs import LogConfig, set_up_logs
from proxy.version import VERSION

_BAD_CONFIG = 2
_DEFAULT_FILE = Path("lockgate.yaml")


class Source(msgspec.Struct, frozen=True):
    """Where the configuration comes from; None is the built-in one."""

    path: Path | None

    def load(self) -> Config:
        """Read it. Raises ConfigError."""
        return load_config(self.path, os.environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. 2 means that the configuration is at fault."""
    options = _parser().parse_args(arguments)
    set_up_logs(LogConfig(), os.environ)
    path = getattr(options, "config", None) or (_DEFAULT_FILE if _DEFAULT_FILE.exists() else None)
    try:
        return _COMMANDS[options.command](options, Source(path))
    except ConfigError as error:
        for problem in error.problems:
            print(f"config error: {problem}", file=sys.stderr)
        return _BAD_CONFIG
    except OSError as error:
        print(f"lockgate: {error}", file=sys.stderr)
        return 1


def _serve(_options: argparse.Namespace, source: Source) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(source.load, source.path))


def _fake(options: argparse.Namespace, _source: Source) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(fake(options.host, options.port))


def _schema(_options: argparse.Namespace, _source: Source) -> int:
    print(json.dumps(schema(), indent=2))
    return 0


def _guard(options: argparse.Namespace, source: Source) -> int:
    config = source.load()
    if options.file == "-":
        return guard_test(config, sys.stdin.buffer, "standard input", options.route)
    with Path(options.file).open("rb") as file:
        return guard_test(config, file, options.file, options.route)


def _cache(options: argparse.Namespace, source: Source) -> int:
    if options.action not in ("migrate", "calibrate"):
        return cache_command(options, source.load())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(cache_work(options, source.load()))


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Source], int]] = {
    "serve": _serve,
    "check": lambda _, source: check(source.load(), source.path),
    "explain": lambda options, source: explain(source.load(), options.model),
    "records": lambda options, source: records(source.load(), follow=options.follow),
    "request": lambda options, source: request(source.load(), options.id, options.url),
    **dict.fromkeys(IDENTITY, lambda options, source: run_identity(source.load(), options)),
    **dict.fromkeys(MONEY, lambda options, source: run_money(source.load(), options)),
    "cache": _cache,
    "mlflow": lambda options, source: show_mlflow(source.load(), options.port),
    "schema": _schema,
    "guard": _guard,
    "import": lambda options, _: import_litellm(Path(options.file), os.environ),
    "fake": _fake,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lockgate", description="An OpenAI-compatible gateway.")
    parser.add_argument("--version", action="version", version=f"lockgate {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    with_config = argparse.ArgumentParser(add_help=False)
    with_config.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ["LOCKGATE_CONFIG"]) if os.environ.get("LOCKGATE_CONFIG") else None,
        help="the configuration (default: $LOCKGATE_CONFIG, ./lockgate.yaml, or the built-in one)",
    )
    commands.add_parser("serve", parents=[with_config], help="run the gateway")
    commands.add_parser("check", parents=[with_config], help="check the configuration and print the resolved chain")
    one = commands.add_parser("explain", parents=[with_config], help="say where a call for a model would go, and why")
    one.add_argument("model")
    kept = commands.add_parser("records", parents=[with_config], help="print the records of calls, a line of JSON each")
    kept.add_argument("--follow", action="store_true", help="wait for more")
    why = commands.add_parser("request", parents=[with_config], help="say why one call went the way it did")
    why.add_argument("id", nargs="?", help="its x-request-id; without one the last calls are listed")
    why.add_argument("--url", help="of the gateway (default: where the configuration says that it listens)")
    add_identity_commands(commands, with_config)
    add_money_commands(commands, with_config)
    shown = commands.add_parser("mlflow", parents=[with_config], help="open MLflow on the local store")
    shown.add_argument("--port", type=int, default=5001)
    add_cache_parser(commands, with_config)
    commands.add_parser("schema", help="print the JSON schema of the configuration")
    guard = commands.add_parser(
        "guard", parents=[with_config], help="say what the input guards make of texts: one a line, from a file or -"
    )
    guard.add_argument("action", choices=["test"])
    guard.add_argument("file", help="a file, or - for standard input")
    guard.add_argument("--route", default="", help="with the guards of this route (default: those of every route)")
    other = commands.add_parser("import", help="turn another gateway's configuration into lockgate.yaml")
    other.add_argument("gateway", choices=["litellm"])
    other.add_argument("file", help="its config.yaml")
    scripted = commands.add_parser("fake", help="serve the scripted provider over HTTP")
    scripted.add_argument("--host", default="127.0.0.1")
    scripted.add_argument("--port", type=int, default=9100)
    return parser


if __name__ == "__main__":
    sys.exit(main())
