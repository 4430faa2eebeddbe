"""Measure the gateway beside its controls, print the table and keep it under `bench/results/`.

`python bench/run.py` takes some ten minutes and wants a quiet machine with two cores; `--part calls streams` takes
some parts only; `--quick` is a smoke test of seconds whose figures mean nothing and are not kept.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import measure
import uvloop
from rows import PLAIN, REQUESTS, ROWS, SHORT, Result, Row, judge
from samples import KINDS, QUICK, Effort, Laboratory, Sample, cpu_call
from servers import Farm

HALF = 0.5
QUIET = 0.1  # cores


def in_order(rows: Sequence[Row]) -> list[Sample]:
    """Every sample the rows need, once; those under the same load side by side, so that they share their moment."""
    groups: dict[object, dict[Sample, None]] = {}
    for sample in (sample for row in rows for sample in (row.value, row.control) if sample):
        groups.setdefault((sample.kind, sample.request, sample.concurrency), {})[sample] = None
    return [sample for group in groups.values() for sample in group]


async def take(rows: Sequence[Row], effort: Effort) -> dict[Sample, list[float]]:
    """Every sample the rows need, `effort.rounds` times, round by round: neighbours in time are compared."""
    needed = in_order(rows)
    taken: dict[Sample, list[float]] = {sample: [] for sample in needed}
    with Farm(request.model for request in REQUESTS) as farm:
        lab = Laboratory(farm, effort)
        if any(sample.kind == "first_p99" for sample in needed):
            settled = Laboratory(farm, replace(effort, warm=max(effort.warm, 0.5), cpu=max(effort.cpu, 0.5)))
            cost = await cpu_call(settled, Sample("cpu_call", PLAIN, SHORT, 64))
            lab.rates[SHORT.name] = HALF * 1e6 / cost
        for number in range(effort.rounds):
            for sample in needed:
                figure = await KINDS[sample.kind](lab, sample)
                taken[sample].append(figure)
                print(f"round {number + 1}: {sample.kind} {sample.target} ({sample.request.name}) {figure:.2f}",
                      file=sys.stderr)  # fmt: skip
    return taken


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| metric | value | control | compared | must | aim | met |", "|---|---|---|---|---|---|---|"]
    for result in results:
        row = result.row
        lines.append(
            f"| {row.name} | {_figure(result.value)} {row.unit} | {_figure(result.control)} | {_compared(result)} "
            f"| {_figure(row.must)} | {_figure(row.aim)} | {result.verdict} |"
        )
    return "\n".join(lines)


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


def _compared(result: Result) -> str:
    match result.row.compare:
        case "ratio":
            return f"{result.compared:.2f} x"
        case "difference":
            return f"{result.compared:+.4g} {result.row.unit}"
        case _:
            return ""


def keep(name: str, results: Sequence[Result], taken: dict[Sample, list[float]], facts: dict[str, object]) -> Path:
    """Write the results with all rounds and the facts of the run; returns the file."""
    rows = [
        asdict(result)
        | {"rounds": taken[result.row.value], "control_rounds": taken[result.row.control] if result.row.control else []}
        for result in results
    ]
    path = Path(__file__).parent / "results" / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"
    path.write_text(json.dumps(facts | {"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    return path


def main() -> int:
    """Exit status 1 when a goal is not met (never in a quick run)."""
    parts = sorted({row.part for row in ROWS})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--name", default="load")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if row.part in arguments.part]
    measure.pin(measure.LOAD_CORE)
    measure.allow_open_files()
    facts: dict[str, object] = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": measure.commit(),
        "machine": measure.machine(),
    }
    others = measure.Bystanders()
    taken = uvloop.run(take(rows, QUICK if arguments.quick else Effort(rounds=arguments.rounds)))
    taken_by_others = round(others.cores(), 3)
    facts["cores_taken_by_others"] = taken_by_others
    results = [judge(row, taken) for row in rows]
    print(table(results))
    print(
        f"\nother processes took {taken_by_others} cores meanwhile{', do not trust this run' * (taken_by_others > QUIET)}"
    )
    if arguments.quick:
        return 0
    print(f"kept in {keep(arguments.name, results, taken, facts)}")
    return int(any(result.verdict == "NOT MET" for result in results))


if __name__ == "__main__":
    sys.exit(main())
