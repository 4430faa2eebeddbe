"""How good the semantic cache is: `python tests/eval/cache.py`, part of `make eval`.

Reads `cache/dev.jsonl` from the folder named by LOCKGATE_DATA (absent: says so, exit code 0), writes
`bench/results/eval-cache-<date>.json`, the tables between the marks in `docs/evaluation.md`, and the plot
`docs/semantic_cache-roc.svg`. Nothing here changes a table or a threshold.

Pairs fall into two halves by a checksum: rules were written looking at the first and are judged on the second. Labels of
QQP are wrong for about half of its most similar "different" pairs: those that were served were read, and
`cache_audit.json` says which have the same answer after all, by checksum. `own_pairs.jsonl` is ours: questions as people
ask them, paraphrased lightly, more, and freely, and changed so that the answer is another.
"""

import argparse
import asyncio
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import msgspec
from cache_partitions import PartitionResult, partitions
from cache_plot import Curve, plot

from adapters.embedder_models import MINILM, USE, Model
from policies.calibration import Calibration, shipped
from policies.pair_guard.compare import Judgement, PairGuard
from policies.pair_guard.tables import Tables
from policies.semantic_kept import wilson
from policies.semantic_text import Eligibility, Words, canonical_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evaluation.md"
MARKS = ("<!-- measured: python tests/eval/cache.py -->\n", "<!-- end of cache -->\n")
COMMAND = "make eval"
AUDIT = Path(__file__).with_name("cache_audit.json")
OWN = Path(__file__).with_name("own_pairs.jsonl")
ONE_LANGUAGE = (
    "fow",
    "qqp",
    "checklist",
    "paws_qqp",
    "stsb_fr",
    "mqp",
    "advglue_qqp",
    "own_fr",
    "own_light",
    "own_medium",
    "own_free",
    "own_traps",
)
ADVERSARIAL = ("fow", "checklist", "paws_qqp")
SHOWN = (("second", "cosine ≥ 0.90 alone"), ("second", "as shipped"), ("both", "as shipped"), ("both", "strict"))
LEAST_HITS = 0.9
COSINES = [0.5 + 0.01 * step for step in range(50)]


class Row(msgspec.Struct):
    """A pair; `similarity` and `judged` are filled in."""

    set: str
    category: str
    a: str
    b: str
    same_answer: bool
    similarity: float = 0.0
    judged: Judgement = Judgement("different")
    fit: bool = True

    @property
    def checksum(self) -> int:
        return zlib.crc32(f"{self.a}\n{self.b}".encode())

    @property
    def half(self) -> str:
        return "second" if self.checksum & 1 else "first"


class Share(msgspec.Struct):
    """Found of all, with the 95 % interval (Wilson)."""

    found: int
    count: int
    low: float
    high: float

    @classmethod
    def of(cls, found: int, count: int) -> "Share":
        return cls(found, count, *wilson(found, count))

    def __str__(self) -> str:
        if not self.count:
            return "–"
        return f"{self.found}/{self.count} = {self.found / self.count:.1%} ({self.low:.1%} to {self.high:.1%})"


class SetResult(msgspec.Struct):
    """Hits among pairs with the same answer, and traps served, of one set."""

    name: str
    half: str
    way: str
    hits: Share
    traps: Share
    wrong_of_served: Share


class EmbedderResult(msgspec.Struct):
    embedder: str
    calibration: dict[str, float]
    results: list[SetResult]


class Results(msgspec.Struct):
    date: str
    command: str
    embedders: list[EmbedderResult]
    checklist: dict[str, Share]
    guard_microseconds: dict[str, float]
    partitions: PartitionResult | None = None
    missing: list[str] = []


Serves = Callable[[Row], bool]


def read(path: Path) -> list[Row]:
    audit: dict[str, bool] = json.loads(AUDIT.read_text())
    rows = [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]
    for row in rows:
        row.same_answer = audit.get(f"{row.checksum:08x}", row.same_answer)
    return rows


def embed(rows: Iterable[Row], model: Model) -> dict[str, Sequence[float]]:
    encode = import_module(model.module).load()
    return {text: encode(canonical_text(text)) for row in rows for text in (row.a, row.b)}


def served_by(calibration: Calibration, *, strict: bool = False, eligible: bool = False) -> Serves:
    def serves(row: Row) -> bool:
        if (strict and row.judged.closeness != "same") or (eligible and not row.fit):
            return False
        return row.similarity >= calibration.threshold(row.judged.closeness)

    return serves


def above(similarity: float) -> Serves:
    return lambda row: row.similarity >= similarity


def measured(rows: list[Row], name: str, half: str, way: str, serves: Serves) -> SetResult:
    chosen = [row for row in rows if row.set == name and half in ("both", row.half)]
    hits = [serves(row) for row in chosen if row.same_answer]
    traps = [serves(row) for row in chosen if not row.same_answer]
    return SetResult(
        name, half, way, Share.of(sum(hits), len(hits)), Share.of(sum(traps), len(traps)),
        Share.of(sum(traps), sum(hits) + sum(traps)),
    )  # fmt: skip


def evaluate(
    rows: list[Row], model: Model, guards: dict[str, PairGuard], fit: Eligibility
) -> tuple[EmbedderResult, list[Curve]]:
    vectors = embed(rows, model)
    for row in rows:
        row.similarity = sum(x * y for x, y in zip(vectors[row.a], vectors[row.b], strict=True))
        row.judged = guards["any" if row.set == "own_enfr" else "same"].judge(
            canonical_text(row.a), canonical_text(row.b)
        )
        row.fit = fit.why_not(row.a) is None and fit.why_not(row.b) is None
    calibration = shipped(model.id) or Calibration(same=2, near=2, across=2)
    ways: dict[str, Serves] = {
        "cosine ≥ 0.80 alone": above(0.8),
        "cosine ≥ 0.90 alone": above(0.9),
        "as shipped": served_by(calibration),
        "strict": served_by(calibration, strict=True),
        "as shipped, eligible texts": served_by(calibration, eligible=True),
    }
    results = [
        measured(rows, name, half, way, serves)
        for name in (*ONE_LANGUAGE, "own_enfr")
        for half in ("second", "both")
        for way, serves in ways.items()
    ]
    curves = [curve(rows, f"{model.id.partition('/')[0]}: {label}", guarded=guarded)
              for label, guarded in (("cosine", False), ("with the pair guard", True))]  # fmt: skip
    return EmbedderResult(model.id, msgspec.structs.asdict(calibration), results), curves


def curve(rows: list[Row], label: str, *, guarded: bool) -> Curve:
    """Hits over traps served on the adversarial sets, pooled, for every similarity."""
    chosen = [row for row in rows if row.set in ADVERSARIAL]
    hits = [row for row in chosen if row.same_answer]
    traps = [row for row in chosen if not row.same_answer]

    def share(of: list[Row], least: float) -> float:
        return sum(row.similarity >= least and (not guarded or row.judged.closeness == "same") for row in of) / len(of)

    return Curve(label, [(share(traps, least), share(hits, least)) for least in COSINES])


def by_checklist(rows: list[Row], serves: Serves) -> dict[str, Share]:
    """Traps served by kind: what the goals name, and the rest of the checklist's."""
    kinds: dict[str, Serves] = {
        "numbers": lambda row: "numbers" in row.category,
        "negation": lambda row: row.category.startswith("Negation"),
        "entities": lambda row: row.category.startswith("NER") and "numbers" not in row.category,
        "others": lambda row: not row.category.startswith(("Negation", "NER")),
    }
    traps = [row for row in rows if row.set == "checklist" and not row.same_answer]
    return {
        kind: Share.of(sum(serves(row) for row in traps if is_kind(row)), sum(map(is_kind, traps)))
        for kind, is_kind in kinds.items()
    }


def timed(rows: list[Row], tables: Tables) -> dict[str, float]:
    """Microseconds of CPU a pair: both texts new, and both read before, as those of entries mostly are."""
    short = [row for row in rows if len(row.a) + len(row.b) < 300]
    guard = PairGuard(tables)
    for row in short[:300]:
        guard.judge(row.a, row.b)
    guard = PairGuard(tables)
    found = {}
    for name in ("new", "read before"):
        start = time.thread_time()
        for row in short[300:1500]:
            guard.judge(row.a, row.b)
        found[name] = 1e6 * (time.thread_time() - start) / len(short[300:1500])
    return found


def tables(results: Results) -> str:
    """The results as Markdown."""
    lines = [f"{results.date}, `{results.command}`. Intervals are 95 % (Wilson).\n"]
    for each in results.embedders:
        lines += [f"**{each.embedder}**, thresholds {each.calibration}\n",
                  "| set | pairs | way | hits of those with the same answer | traps served | wrong among served |", "|---|---|---|---|---|---|"]  # fmt: skip
        lines += [f"| {r.name} | {r.half} | {r.way} | {r.hits} | {r.traps} | {r.wrong_of_served} |"
                  for r in each.results if r.hits.count + r.traps.count and (r.half, r.way) in SHOWN]  # fmt: skip
        lines.append("")
    lines += ["| traps of the checklist, all pairs, as shipped | served |", "|---|---|"]
    lines += [f"| {kind} | {share} |" for kind, share in results.checklist.items()]
    lines += ["", "| pair guard, CPU | µs a pair |", "|---|---|"]
    lines += [f"| texts {name} | {micro:.0f} |" for name, micro in results.guard_microseconds.items()]
    if results.partitions is not None:
        p = results.partitions
        lines += ["", "| partitions, through the policy | |", "|---|---|",
                  f"| pairs of calls that differ in caller, namespace, route, system prompt, tools, history or sampling | {p.pairs} |",
                  f"| of these answered from the other's entry | {p.leaks} |",
                  f"| same last message, other history: answered from the other's entry | {p.conversation_leaks} of {p.conversations} |",
                  f"| paraphrases with everything else equal: hits | {p.hits} of {p.paraphrases} |"]  # fmt: skip
    lines += [f"\nNot measured: {', '.join(results.missing)}." for _ in results.missing[:1]]
    return "\n".join(lines) + "\n"


def installed(model: Model) -> bool:
    try:
        import_module(model.module).load()
    except ImportError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    parser.add_argument("--pairs", type=int, default=10_000, help="of the partition test")
    options = parser.parse_args()
    path = Path(os.environ.get("LOCKGATE_DATA", "")) / "cache" / "dev.jsonl"
    if not os.environ.get("LOCKGATE_DATA") or not path.is_file():
        print("LOCKGATE_DATA names no folder with cache/dev.jsonl: the semantic cache is not evaluated")
        return 0
    rows, known = read(path) + read(OWN), Tables.load()
    guards = {"same": PairGuard(known), "any": PairGuard(known, "any")}
    fit = Eligibility(Words.load(), 256)
    models = [model for model in (MINILM, USE) if installed(model)]
    found = [evaluate(rows, model, guards, fit) for model in models]  # the default last: its figures stay in the rows
    default = shipped(USE.id) or Calibration(same=2, near=2, across=2)
    results = Results(
        datetime.now(UTC).date().isoformat(),
        COMMAND,
        [result for result, _ in reversed(found)],
        by_checklist(rows, served_by(default)),
        timed(rows, known),
        asyncio.run(partitions(options.pairs)) if options.pairs else None,
        [model.id for model in (MINILM, USE) if model not in models],
    )
    print(tables(results))
    if results.partitions is not None and results.partitions.hits < LEAST_HITS * results.partitions.paraphrases:
        print("the partition test says nothing: hardly any paraphrase was a hit")
        return 1
    if options.dry:
        return 0
    (ROOT / "bench" / "results" / f"eval-cache-{results.date}.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(results)) + b"\n"
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}{tables(results)}{MARKS[1]}{rest.partition(MARKS[1])[2]}", encoding="utf-8")
    plot([each for _, curves in reversed(found) for each in curves], ROOT / "docs" / "semantic_cache-roc.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
