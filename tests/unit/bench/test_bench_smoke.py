"""The load harness itself: it must run, and judge, before anyone trusts its figures."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[3] / "bench"


def run(script: str, *arguments: str) -> str:
    """What the script prints; its failure fails the test with its errors."""
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_quick_run_measures_every_control() -> None:
    """The mock, the load and C1 to C3 work together, whole and streamed, and every call is answered in full."""
    printed = run("run.py", "--quick", "--part", "controls")
    lines = [line for line in printed.splitlines() if " µs | " in line]
    figures = [float(line.split("|")[2].split()[0]) for line in lines]
    assert len(figures) >= 5
    assert all(figure > 0 for figure in figures)


def test_the_micro_benchmarks_run() -> None:
    """Cases are found by their file, timed plain and awaited, and printed with a figure each."""
    printed = run("micro.py", "--quick", "baseline")
    assert printed.count("| baseline: ") >= 3


LAWS = """
from load import Tally
from measure import percentile
from rows import CALL, Row, judge
from samples import Sample
print(percentile([3, 1, 2, 4], 0.5), percentile(range(1, 1001), 0.999))
mine, theirs = Sample("cpu_call", "gateway:x", CALL), Sample("cpu_call", "C3", CALL)
taken = {mine: [100.0, 300.0, 110.0], theirs: [100.0, 200.0, 100.0]}
for must, aim in ((1.2, 1.05), (1.2, 1.15), (1.05, 1.0)):
    result = judge(Row("row", "part", "us", mine, theirs, "ratio", must, aim), taken)
    print(result.value, result.control, result.compared, result.verdict)
tally = Tally(calls=9)
tally.errors["status 500"] += 1
try:
    tally.check()
except RuntimeError as error:
    print(error)
"""


def test_figures_are_judged_as_written() -> None:
    """Nearest-rank percentiles; ratios are taken within a round; a run with a failed call gives no figure."""
    done = subprocess.run(
        [sys.executable, "-c", LAWS], capture_output=True, text=True, timeout=30, check=True, cwd=BENCH
    )
    assert done.stdout.splitlines() == [
        "2 999",
        "110.0 100.0 1.1 must",
        "110.0 100.0 1.1 aim",
        "110.0 100.0 1.1 NOT MET",
        "calls failed: {'status 500': 1}",
    ]
