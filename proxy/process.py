"""What the operating system says of this process. Where it has no /proc, nothing."""

import os
from pathlib import Path

_SELF = Path("/proc/self")


def resident() -> int | None:
    """Bytes of memory that are really there."""
    try:
        return int((_SELF / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return None


def open_files() -> int | None:
    """Open files, sockets included."""
    try:
        return len(os.listdir(_SELF / "fd"))  # noqa: PTH208 - a hundred thousand sockets need no Path each
    except OSError:
        return None


def cpu_seconds() -> float:
    """Processor time spent so far."""
    times = os.times()
    return times.user + times.system
