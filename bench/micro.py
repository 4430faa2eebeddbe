"""In-process micro-benchmarks: nanoseconds a call of one small thing, on a quiet loop of its own.

    python bench/micro.py                 every registered case
    python bench/micro.py chain wire      the cases whose name contains one of these
    python bench/micro.py --quick         a smoke test

A file `bench/cases/<part>.py` offers one function. Each case builds what it needs once and returns what to time,
a plain function or a coroutine function:

    def register(cases: Cases) -> None:
        @cases.case("exact_cache: key of a 1 kB chat", goal_ns=30_000)
        def key() -> Timed:
            policy = ExactCache(...)
            return lambda: policy.key(call)

What an empty call costs by itself is taken off.
"""

import argparse
import asyncio
import gc
import importlib.util
import json
import shlex
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from pathlib import Path

import measure
import uvloop

Timed = Callable[[], object] | Callable[[], Awaitable[object]]
Build = Callable[[], Timed]


@dataclass(frozen=True)
class Case:
    """One thing to time. `goal_ns` is the most that a call may cost; None when it is only watched."""

    name: str
    build: Build
    goal_ns: float | None = None


@dataclass(frozen=True)
class Timing:
    """Nanoseconds a call: the median of the rounds, and the fastest of them."""

    name: str
    median_ns: float
    best_ns: float
    goal_ns: float | None

    @property
    def met(self) -> bool:
        """Whether the median is within the goal, if there is one."""
        return self.goal_ns is None or self.median_ns <= self.goal_ns


class Cases:
    """The cases, in the order they were registered."""

    def __init__(self) -> None:
        """Start empty."""
        self.all: list[Case] = []

    def case(self, name: str, goal_ns: float | None = None) -> Callable[[Build], Build]:
        """Register a function that builds the case. Raises ValueError when the name is taken."""

        def register(build: Build) -> Build:
            if any(known.name == name for known in self.all):
                raise ValueError(f"two cases are named {name!r}")
            self.all.append(Case(name, build, goal_ns))
            return build

        return register


def collect(folder: Path) -> list[Case]:
    """The cases of every file in `folder`; a file offers `register(cases: Cases) -> None`."""
    cases = Cases()
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"cases_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is no module")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.register(cases)
    return cases.all


async def clock(timed: Timed, seconds: float) -> float:
    """Nanoseconds a call over at least `seconds`, the loop's own overhead included; collection of garbage stays on."""
    count = 1
    while True:
        began = time.perf_counter_ns()
        if iscoroutinefunction(timed):
            for _ in range(count):
                await timed()
        else:
            for _ in range(count):
                timed()
        spent = time.perf_counter_ns() - began
        if spent >= seconds * 1e9:
            return spent / count
        count = max(count * 2, int(count * seconds * 1e9 / max(spent, 1)))


async def _nothing() -> None: ...


def _empty() -> None: ...


async def time_all(cases: Sequence[Case], rounds: int, seconds: float) -> list[Timing]:
    """Time every case `rounds` times, round by round, so that a noisy moment does not hit one case only."""
    built = [case.build() for case in cases]
    taken: list[list[float]] = [[] for _ in cases]
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for timed, figures in zip(built, taken, strict=True):
            overhead = await clock(_nothing if iscoroutinefunction(timed) else _empty, seconds / 10)
            figures.append(max(0.0, await clock(timed, seconds) - overhead))
    return [
        Timing(case.name, statistics.median(figures), min(figures), case.goal_ns)
        for case, figures in zip(cases, taken, strict=True)
    ]


def table(timings: Sequence[Timing]) -> str:
    """The timings as a Markdown table."""
    lines = ["| case | ns a call | best | goal | met |", "|---|---|---|---|---|"]
    for timing in timings:
        goal = "" if timing.goal_ns is None else f"{timing.goal_ns:,.0f}"
        met = "" if timing.goal_ns is None else "yes" if timing.met else "NO"
        lines.append(f"| {timing.name} | {timing.median_ns:,.0f} | {timing.best_ns:,.0f} | {goal} | {met} |")
    return "\n".join(lines)


def main() -> int:
    """Exit status 1 when a goal is not met (never in a quick run)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", metavar="NAME", help="write bench/results/NAME-DATE.json")
    arguments = parser.parse_args()
    here = Path(__file__).parent
    sys.path.insert(0, str(here.parent))  # the cases import the product from the work tree
    cases = [
        case
        for case in collect(here / "cases")
        if not arguments.names or any(name in case.name for name in arguments.names)
    ]
    measure.pin(measure.SERVER_CORE)
    rounds, seconds = (1, 0.01) if arguments.quick else (5, 0.4)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        timings = runner.run(time_all(cases, rounds, seconds))
    print(table(timings))
    if arguments.keep:
        facts = {"command": shlex.join(["python", *sys.argv]), "commit": measure.commit(), "machine": measure.machine()}
        path = here / "results" / f"{arguments.keep}-{datetime.now(UTC):%Y-%m-%d}.json"
        path.write_text(json.dumps(facts | {"cases": [asdict(timing) for timing in timings]}, indent=1) + "\n")
        print(f"kept in {path}")
    return int(not arguments.quick and not all(timing.met for timing in timings))


if __name__ == "__main__":
    sys.exit(main())
