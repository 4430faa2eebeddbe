"""The command line: `lockgate serve | check | explain | cache | schema | guard | import | fake`."""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from proxy.cache_commands import add_cache_parser, cache_command, cache_work
from proxy.commands import check, explain, fake, guard_test, import_litellm, serve
from proxy.config import Config
from proxy.config_file import ConfigError, load_config, schema
from proxy.version import VERSION

_BAD_CONFIG = 2
_DEFAULT_FILE = Path("lockgate.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. 2 means that the configuration is at fault."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=os.environ.get("API_LOG_LEVEL", "info").upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return _run(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"config error: {problem}", file=sys.stderr)
        return _BAD_CONFIG
    except OSError as error:
        print(f"lockgate: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "schema":
        print(json.dumps(schema(), indent=2))
        return 0
    if options.command == "fake":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(fake(options.host, options.port))
    if options.command == "guard":
        lines = sys.stdin if options.file == "-" else Path(options.file).read_text(encoding="utf-8").splitlines()
        return guard_test(lines)
    if options.command == "import":
        return import_litellm(Path(options.file), os.environ)
    path = options.config or (_DEFAULT_FILE if _DEFAULT_FILE.exists() else None)

    def load() -> Config:
        return load_config(path, os.environ)

    if options.command == "check":
        return check(load(), path)
    if options.command == "explain":
        return explain(load(), options.model)
    if options.command == "cache" and options.action not in ("migrate", "calibrate"):
        return cache_command(options, load())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.command == "cache":
            return runner.run(cache_work(options, load()))
        return runner.run(serve(load, path))


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
    add_cache_parser(commands, with_config)
    commands.add_parser("schema", help="print the JSON schema of the configuration")
    guard = commands.add_parser("guard", help="score texts with the injection guard: one a line, from a file or -")
    guard.add_argument("action", choices=["test"])
    guard.add_argument("file", help="a file, or - for standard input")
    other = commands.add_parser("import", help="turn another gateway's configuration into lockgate.yaml")
    other.add_argument("gateway", choices=["litellm"])
    other.add_argument("file", help="its config.yaml")
    scripted = commands.add_parser("fake", help="serve the scripted provider over HTTP")
    scripted.add_argument("--host", default="127.0.0.1")
    scripted.add_argument("--port", type=int, default=9100)
    return parser


if __name__ == "__main__":
    sys.exit(main())
