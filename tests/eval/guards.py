"""How good the injection guard is: `python tests/eval/guards.py`, part of `make eval`.

Reads `guards/dev.jsonl` and `guards/train.jsonl` from the folder named by LOCKGATE_DATA (absent: says so, exit code 0),
writes `bench/results/eval-guards-<date>.json`, the tables between the marks in `docs/guards.md` and the score histograms
in `docs/guards-scores.svg`. Nothing here changes weights or thresholds.
"""

import argparse
import base64
import codecs
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path

import msgspec
from guards_plot import histograms

from policies.guards.injection import Injection
from policies.guards.settings import InjectionConfig, Thresholds
from policies.guards.verdict import Role, Verdict, finish

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guards.md"
MARKS = ("<!-- measured: python tests/eval/guards.py -->\n", "<!-- end -->\n")
COMMAND = "make eval"
PLAIN_ENOUGH = 400  # attacks of the training sets that are disguised


class Row(msgspec.Struct):
    text: str
    label: str
    set: str


class SetResult(msgspec.Struct):
    """One set's share of texts flagged (or blocked), with its 95 % Wilson interval."""

    name: str
    label: str
    texts: int
    flagged: float
    flagged_interval: tuple[float, float]
    blocked: float


class Timing(msgspec.Struct):
    """Milliseconds, wall clock and CPU of the thread."""

    what: str
    p50: float
    p99: float
    cpu_p50: float


class Results(msgspec.Struct):
    date: str
    command: str
    weights: str
    sets: list[SetResult]
    disguises: dict[str, float]
    timings: list[Timing]


def wilson(found: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, found / count
    centre, spread = share + z * z / (2 * count), z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (centre - spread) / (1 + z * z / count)), min(1.0, (centre + spread) / (1 + z * z / count))


def spread_out(text: str) -> str:
    return " ".join(text)


def marked(text: str) -> str:
    return "".join(f"{char}\u0336" for char in text)


HOMOGLYPHS = str.maketrans("aeopcxyijs", "аеорсхуіјѕ")
FULLWIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
BOLD = {ord("a") + i: 0x1D41A + i for i in range(26)} | {ord("A") + i: 0x1D400 + i for i in range(26)}
DISGUISES: dict[str, Callable[[str], str]] = {
    "zero-width": "\u200b".join,
    "homoglyphs": lambda text: text.translate(HOMOGLYPHS),
    "fullwidth": lambda text: text.translate(FULLWIDTH),
    "bold letters": lambda text: text.translate(BOLD),
    "combining marks": marked,
    "tag characters": lambda text: (
        "Hello " + "".join(chr(0xE0000 + ord(char)) for char in text if char.isascii() and char.isprintable())
    ),
    "soft hyphens": "\u00ad".join,
    "leet": lambda text: text.translate(str.maketrans("aeiost", "4310$7")),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "spaced": spread_out,
}


def read(path: Path) -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]


def judge(guard: Injection, rows: list[Row], role: Role = "user") -> list[Verdict]:
    return [finish(guard.scan(row.text, role)) for row in rows]


def by_set(rows: list[Row], verdicts: list[Verdict]) -> list[SetResult]:
    """Every set, and all harmless texts pooled: with the one that was made to be mistaken for attacks, and without."""
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for row, verdict in zip(rows, verdicts, strict=True):
        groups[row.set, row.label].append(verdict)
        if row.label == "benign":
            groups["all harmless, pooled", row.label].append(verdict)
            if row.set != "notinject":
                groups["all harmless but notinject, pooled", row.label].append(verdict)
    results = []
    for (name, label), found in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        flagged = sum(verdict.action != "allow" for verdict in found)
        blocked = sum(verdict.action == "block" for verdict in found)
        results.append(
            SetResult(name, label, len(found), flagged / len(found), wilson(flagged, len(found)), blocked / len(found))
        )
    return results


def disguised(guard: Injection, rows: list[Row]) -> dict[str, float]:
    """For each disguise the share of plainly detected short ASCII attacks that are still detected."""
    plain = [row.text for row in rows if row.label == "attack" and row.text.isascii() and 20 <= len(row.text) <= 500]
    random.Random(1).shuffle(plain)
    known = [text for text in plain if finish(guard.scan(text, "user")).action != "allow"][:PLAIN_ENOUGH]
    return {
        name: sum(finish(guard.scan(disguise(text), "user")).action != "allow" for text in known) / len(known)
        for name, disguise in DISGUISES.items()
    }


def timed(what: str, texts: list[str]) -> Timing:
    """Every text once after a warm-up by half of them, with nothing blocked early."""
    guard = Injection.load(InjectionConfig(thresholds=Thresholds(2, 2)))
    for text in texts[: len(texts) // 2]:
        finish(guard.scan(text, "user"))
    wall, cpu = [], []
    for text in texts[len(texts) // 2 :]:
        start, start_cpu = time.perf_counter(), time.thread_time()
        finish(guard.scan(text, "user"))
        cpu.append(time.thread_time() - start_cpu)
        wall.append(time.perf_counter() - start)
    wall.sort()
    cpu.sort()
    return Timing(what, 1e3 * wall[len(wall) // 2], 1e3 * wall[int(0.99 * len(wall))], 1e3 * cpu[len(cpu) // 2])


def timings(rows: list[Row]) -> list[Timing]:
    """Harmless text of the development sets in pieces; no piece is met twice."""
    text = " ".join(row.text for row in rows if row.label == "benign")
    starts = list(range(0, len(text) - 2_000, 650))
    random.Random(2).shuffle(starts)
    return [
        timed("2,000 characters", [text[start : start + 2_000] for start in starts]),
        timed("1,000 characters", [text[start : start + 1_000] for start in starts]),
        timed("100,000 characters", [text[start : start + 100_000] for start in range(0, 200_000, 10_000)]),
    ]


def tables(results: Results) -> str:
    """The results as Markdown."""
    lines = [
        f"Weights `{results.weights}`, {results.date}, `{results.command}`.\n",
        "| set | texts | flagged (95 % interval) | blocked |",
        "|---|---|---|---|",
    ]
    for label in ("attack", "benign"):
        lines.append(f"| **{'attacks' if label == 'attack' else 'harmless'}** | | | |")
        for row in (row for row in results.sets if row.label == label):
            low, high = row.flagged_interval
            lines.append(
                f"| {row.name} | {row.texts} | {row.flagged:.1%} ({low:.1%} to {high:.1%}) | {row.blocked:.1%} |"
            )
    lines += [
        "",
        "| disguise | still detected |",
        "|---|---|",
        *(f"| {name} | {share:.1%} |" for name, share in results.disguises.items()),
    ]
    lines += ["", "| text | p50 ms | p99 ms | CPU p50 ms |", "|---|---|---|---|"]
    lines += [f"| {t.what} | {t.p50:.2f} | {t.p99:.2f} | {t.cpu_p50:.2f} |" for t in results.timings]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    dry: bool = parser.parse_args().dry
    folder = Path(os.environ.get("LOCKGATE_DATA", "")) / "guards"
    if not os.environ.get("LOCKGATE_DATA") or not (folder / "dev.jsonl").is_file():
        print("LOCKGATE_DATA names no folder with guards/dev.jsonl: the guards are not evaluated")
        return 0
    guard = Injection.load(InjectionConfig())
    rows = read(folder / "dev.jsonl")
    verdicts = judge(guard, rows)
    results = Results(datetime.now(UTC).date().isoformat(), COMMAND, guard.weights, by_set(rows, verdicts),
                      disguised(guard, read(folder / "train.jsonl")), timings(rows))  # fmt: skip
    print(tables(results))
    if dry:
        return 0
    (ROOT / "bench" / "results" / f"eval-guards-{results.date}.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(results)) + b"\n"
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}{tables(results)}{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")
    scores = [(row.set, row.label, verdict.score) for row, verdict in zip(rows, verdicts, strict=True)]
    histograms(scores, guard.limits("user"), PAGE.with_name("guards-scores.svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
