"""The commands about money: `prices show`, `usage` and `reconcile`. They work beside a running instance and without one."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from proxy.accounting import open_store
from proxy.build import listens, plan, price_book
from proxy.config import Config
from proxy.errors import BadRequest
from proxy.money import Price, Rates
from proxy.prices import Table
from proxy.reconcile import FIGURES as COMPARED
from proxy.reconcile import compare, our_account, read_export, row_of
from proxy.sql import Sql
from proxy.usage_report import COLUMNS, FIGURES, Question, answer, as_csv, as_table, question

T = TypeVar("T")

COMMANDS = ("prices", "usage", "reconcile")
Parsers = Any
"""What argparse calls a special action of sub-parsers."""
_MILLION = 1_000_000
_DIFFERENT = 1
_BAD = 2
_encode = msgspec.json.Encoder(decimal_format="number").encode


def add_money_commands(commands: Parsers, with_config: argparse.ArgumentParser) -> None:
    """Describe them."""
    prices = commands.add_parser(
        "prices", parents=[with_config], help="show what a model costs, and where that is from"
    )
    prices.add_argument("action", choices=["show"])
    prices.add_argument("model", help="a route, PROVIDER/MODEL, or a model's name at any vendor")
    usage = commands.add_parser("usage", parents=[with_config], help="calls, tokens and cost from the ledger")
    usage.add_argument("--by", default="day", help=f"some of {','.join(COLUMNS)} (default: day)")
    _add_days(usage)
    for name in COLUMNS:
        if name != "day":
            usage.add_argument(f"--{name}", help=f"of this {name} only")
    usage.add_argument("--format", default="table", choices=["table", "csv", "json"], dest="form")
    other = commands.add_parser(
        "reconcile",
        parents=[with_config],
        help="compare the ledger with a provider's usage export (CSV); exit code 1 when they differ",
    )
    other.add_argument("file", type=Path, help="OpenAI's usage or cost export; for others name the columns")
    other.add_argument("--provider", help="compare with calls to this provider only")
    other.add_argument("--tolerance", type=Decimal, default=Decimal("0.005"), help="a share (default: 0.005)")
    for name in ("day", "model", *COMPARED):
        other.add_argument(f"--{name}-column", metavar="COLUMN", help=f"the column of the {name}")


def run_money(config: Config, options: argparse.Namespace) -> int:
    """Run one of them."""
    if options.command == "prices":
        return show_prices(config, options.model)
    if options.command == "usage":
        only = {name: getattr(options, name) for name in COLUMNS if name != "day"}
        try:
            asked = question(options.by, options.first, options.last, only, datetime.now(UTC).date())
        except BadRequest as error:
            print(f"lockgate: {error.message}", file=sys.stderr)
            return _BAD
        return show_usage(config, asked, options.form)
    given = {name: getattr(options, f"{name}_column") for name in ("day", "model", *COMPARED)}
    columns = {name: column for name, column in given.items() if column is not None}
    return reconcile(config, options.file, options.provider, columns, options.tolerance)


def show_prices(config: Config, model: str) -> int:
    """Print every price that this name may have here."""
    planned = plan(config, listens)
    book, found = price_book(config, planned), False
    route = planned.routes.get(model)
    places = [(each.provider, each.model, model) for each in route.deployments] if route is not None else []
    provider, _, rest = model.partition("/")
    if provider in planned.providers and rest:
        places.append((provider, rest, ""))
    for provider, name, of_route in places:
        price = book.find(provider, name, of_route)
        _say([f"{provider} {name}: " + ("no price" if price is None else price.source), *_spelt(price)])
        found = found or price is not None
    table = Table()
    if not places:
        for vendor, price in table.named(model):
            _say([f"{vendor} {model}: {price.source}", *_spelt(price)])
            found = True
    if not found:
        _say([f"nothing is known of {model!r}; the table is {table.about.source} of {table.about.made}"])
    return 0 if found else 1


def show_usage(config: Config, asked: Question, form: str) -> int:
    """Print what the ledger's sums say."""
    rows = _ask(config, partial(answer, asked=asked))
    columns = (*asked.by, *FIGURES)
    if form == "csv":
        sys.stdout.write(as_csv(rows, columns))
    elif form == "json":
        _say(_encode(row).decode() for row in rows)
    else:
        _say(as_table(rows, columns))
    return 0


def reconcile(config: Config, file: Path, provider: str | None, columns: dict[str, str], tolerance: Decimal) -> int:
    """Print both sides by day and model, of the days that the export has."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            theirs = read_export(lines, columns)
    except ValueError as error:
        print(f"lockgate: {file}: {error}", file=sys.stderr)
        return _BAD
    if not theirs:
        print(f"lockgate: {file}: nothing but empty rows", file=sys.stderr)
        return _BAD
    days = sorted(day for day, _ in theirs)
    only = {} if provider is None else {"provider": provider}
    asked = Question(("day", "model"), days[0], days[-1], only)
    lines_of_both = compare(our_account(_ask(config, partial(answer, asked=asked))), theirs)
    rows = [row_of(line, tolerance) for line in lines_of_both]
    _say(as_table(rows, ("day", "model", *(name for each in COMPARED for name in (each, f"their {each}")), "differs")))
    different = sum(line.differs(tolerance) for line in lines_of_both)
    _say([f"{different} of {len(rows)} differ by more than {tolerance:%}"])
    return _DIFFERENT if different else 0


def _add_days(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="first", metavar="DAY", help="the first day (default: the first of the last day's month)"
    )
    parser.add_argument("--to", dest="last", metavar="DAY", help="the last day (default: today)")


def _ask(config: Config, work: Callable[[Sql], T]) -> T:
    async def ask() -> T:
        store = open_store(config)
        await store.start()
        try:
            return await store.run(work)
        finally:
            await store.aclose()

    return asyncio.run(ask())


def _spelt(price: Price | None) -> list[str]:
    """USD a million tokens, a line for each level."""
    if price is None:
        return []
    lines = [f"  {_rates(price.rates)}"]
    lines += [f"  above {least} tokens of input: {_rates(rates)}" for least, rates in price.above]
    for name, tier in sorted(price.tiers.items()):
        lines.append(f"  {name}: {_rates(tier.rates)}")
        lines += [f"  {name}, above {least} tokens of input: {_rates(rates)}" for least, rates in tier.above]
    return lines


def _rates(rates: Rates) -> str:
    given = ((name, getattr(rates, name)) for name in Rates.__struct_fields__)
    return (
        ", ".join(f"{name} {Decimal(rate) / _MILLION:f}" for name, rate in given if rate is not None) + " USD/M tokens"
    )


def _say(lines: Sequence[str] | Any) -> None:
    for line in lines:
        print(line, flush=True)
