"""What a process costs: CPU time, memory, where it runs, and on what machine."""

import math
import os
import platform
import resource
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the scheduler's nanosecond clock of a whole process


def pin(core: int) -> None:
    """Keep this process, and those it starts, on one core (modulo what the machine has)."""
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def allow_open_files() -> None:
    """Raise the limit of open files to what the system allows: 600 relayed streams are 1200 sockets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in children.read_text().split())
    return found


def cpu_ns(pid: int) -> int:
    """Nanoseconds of CPU that the process tree has used so far.

    Read from each process's own scheduler clock: the same figure as the sum over `/proc/PID/task/*/schedstat`,
    but it keeps the time of threads that have ended.
    """
    return sum(time.clock_gettime_ns((~member << 3) | _CPUCLOCK_SCHED) for member in tree(pid))


def cpu_alone_ns(pid: int) -> int:
    """The same of this one process."""
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


def rss_kb(pid: int) -> float:
    """Resident kilobytes of the process tree (pages shared between its processes count once for each)."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in tree(pid))
    return pages * _PAGE / 1024


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def machine() -> dict[str, object]:
    """The facts a reader needs to judge a result: hardware, versions, and how busy the machine was."""
    return {
        "cpu": _first_match("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _first_match("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "interpreter_ms": round(min(_interpreter() for _ in range(5)) * 1000, 2),
        "load_average": os.getloadavg(),
        "versions": {name: _version(name) for name in ("aiohttp", "litestar", "msgspec", "uvicorn", "uvloop")},
    }


def _interpreter() -> float:
    """Seconds for a fixed piece of pure Python: builds of one version differ (PGO and LTO, or not)."""

    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    began = time.perf_counter()
    fibonacci(22)
    return time.perf_counter() - began


def commit() -> str:
    """The commit that was measured, with `+changes` when the work tree differs from it."""
    root = Path(__file__).parent
    done = _output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])
    return done + ("+changes" if _output(["git", "-C", str(root), "status", "--porcelain", "-uno"]) else "")


class Bystanders:
    """How much of the machine others took: the reason to believe a run, or to repeat it."""

    def __init__(self) -> None:
        """Start watching."""
        self._started, self._busy, self._own = time.perf_counter(), _busy_ticks(), sum(os.times()[:4])

    def cores(self) -> float:
        """Cores' worth of CPU taken by other processes and the hypervisor since; our children count once reaped."""
        busy = (_busy_ticks() - self._busy) / os.sysconf("SC_CLK_TCK")
        return max(0.0, busy - (sum(os.times()[:4]) - self._own)) / (time.perf_counter() - self._started)


def _busy_ticks() -> int:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting_for_disk = fields[3:5]
    return sum(fields) - idle - waiting_for_disk


def _first_match(path: str, key: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
