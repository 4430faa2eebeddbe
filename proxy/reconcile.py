"""Our ledger beside a provider's own account of itself: the differences, by day and model."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from proxy.call import NANO
from proxy.usage_report import usd

FIGURES = ("calls", "input", "output", "cost")
_OPENAI_USAGE = {"day": "start_time_iso", "model": "model", "calls": "num_model_requests", "input": "input_tokens",
                 "output": "output_tokens"}  # fmt: skip
_OPENAI_COST = {"day": "start_time_iso", "model": "line_item", "cost": "amount_value"}
KNOWN = (_OPENAI_USAGE, _OPENAI_COST)
"""Exports that are told by their columns: OpenAI's usage (per minute, hour or day) and its costs."""
_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")


class Figures(NamedTuple):
    """Calls, tokens and nano-USD; None for what a side does not tell."""

    calls: int | None = None
    input: int | None = None
    output: int | None = None
    cost: int | None = None

    def plus(self, other: "Figures") -> "Figures":
        """The sum; what only one side tells counts."""
        return Figures(*(_plus(mine, theirs) for mine, theirs in zip(self, other, strict=True)))


Account = dict[tuple[str, str], Figures]
"""By day and model."""


class Line(NamedTuple):
    """One day of one model on both sides."""

    day: str
    model: str
    ours: Figures
    theirs: Figures

    def differs(self, tolerance: Decimal) -> bool:
        """Whether something that both sides tell is further apart than this share of the larger one."""
        return any(
            abs(mine - their) > tolerance * max(abs(mine), abs(their))
            for mine, their in zip(self.ours, self.theirs, strict=True)
            if mine is not None and their is not None
        )


def read_export(lines: Iterable[str], columns: Mapping[str, str]) -> Account:
    """Sum an export by day and model; `columns` names what holds day, model, calls, input, output and cost where it is
    not an export that is known. Raises ValueError.
    """
    reader = csv.DictReader(lines)
    head = reader.fieldnames or []
    named = dict(columns) or next((each for each in KNOWN if set(each.values()) <= set(head)), {})
    missing = [name for name in named.values() if name not in head]
    if missing:
        raise ValueError(f"the file has no column {missing[0]!r}; it has {', '.join(head)}")
    if "day" not in named or not named.keys() & set(FIGURES):
        raise ValueError(f"not an export that is known: name its columns. It has {', '.join(head)}")
    account: Account = {}
    costs: dict[tuple[str, str], Decimal] = {}
    for number, row in enumerate(reader, 2):
        figures = {name: _number(row[column], number) for name, column in named.items() if name in FIGURES}
        if all(value is None for value in figures.values()):
            continue  # a stretch of time without anything
        model = row.get(named.get("model", ""), "") or ""
        key = (_day_of(row[named["day"]], number), model.partition(",")[0].strip())
        counts = {name: int(value) for name, value in figures.items() if value is not None and name != "cost"}
        account[key] = account.get(key, Figures()).plus(Figures(**counts))
        if figures.get("cost") is not None:
            costs[key] = costs.get(key, Decimal(0)) + (figures["cost"] or 0)
    for key, cost in costs.items():  # rounded once, as an invoice is
        account[key] = account[key]._replace(cost=round(cost * NANO))
    return account


def our_account(rows: Sequence[Mapping[str, Any]]) -> Account:
    """The same of an answer by day and model."""
    return {
        (row["day"], row["model"]): Figures(
            row["calls"], row["prompt"], row["completion"], int(Decimal(row["cost_usd"]) * NANO)
        )
        for row in rows
    }


def compare(ours: Account, theirs: Account) -> list[Line]:
    """Both sides by day and model. A provider's dated snapshot counts as the model that we know it by; where an export
    does not tell models apart, neither do we.
    """
    if theirs and not any(model for _, model in theirs):
        ours = _merged({(day, ""): figures} for (day, _), figures in ours.items())
    known = {model for _, model in ours}
    theirs = _merged({(day, _known_as(model, known)): figures} for (day, model), figures in theirs.items())
    return [Line(*key, ours.get(key, _NOTHING), theirs.get(key, _NOTHING)) for key in sorted({*ours, *theirs})]


def row_of(line: Line, tolerance: Decimal) -> dict[str, Any]:
    """A line for a table."""
    row: dict[str, Any] = {"day": line.day, "model": line.model or "(all)"}
    for name, mine, their in zip(FIGURES, line.ours, line.theirs, strict=True):
        spelt = [_spelt(name, value) for value in (mine, their)]
        row[name], row[f"their {name}"] = spelt
    row["differs"] = "yes" if line.differs(tolerance) else ""
    return row


_NOTHING = Figures(0, 0, 0, 0)


def _spelt(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    return f"{usd(value):f}" if name == "cost" else str(value)


def _merged(parts: Iterable[Account]) -> Account:
    merged: Account = {}
    for part in parts:
        for key, figures in part.items():
            merged[key] = merged.get(key, Figures()).plus(figures)
    return merged


def _known_as(model: str, known: set[str]) -> str:
    plain = _SNAPSHOT.sub("", model)
    return model if model in known or plain not in known else plain


def _plus(mine: int | None, theirs: int | None) -> int | None:
    if mine is None or theirs is None:
        return mine if theirs is None else theirs
    return mine + theirs


def _number(text: str | None, line: int) -> Decimal | None:
    if not text or not text.strip():
        return None
    try:
        return Decimal(text.strip().lstrip("$").replace(",", ""))
    except InvalidOperation:
        raise ValueError(f"line {line}: {text!r} is no number") from None


def _day_of(text: str, line: int) -> str:
    """The day in UTC of a date, a time or Unix seconds."""
    text = text.strip()
    try:
        if text.isdecimal() and len(text) > len("20261130"):
            return datetime.fromtimestamp(int(text), UTC).date().isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"line {line}: {text!r} is no day") from None
    return (moment.astimezone(UTC) if moment.tzinfo is not None else moment).date().isoformat()
