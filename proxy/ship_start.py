"""How the process that ships records begins: `python -m proxy.ship_start`.

It stands back before it loads anything: that alone takes a core for a second, in which the instance is new as well.
"""

import contextlib
import importlib
import os
import sys

_NICE = 10


def main() -> int:
    """Stand back, and be `proxy.ship`."""
    stand_back()
    status: int = importlib.import_module("proxy.ship").main()
    return status


def stand_back() -> None:
    """Take the processor only while the instance does not want it.

    A low priority alone is not enough: on one core a task that wakes up waits for the end of the running one's slice,
    3 ms, unless that one is SCHED_IDLE (Linux, `sched(7)`).
    """
    os.nice(_NICE)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it, or not know it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    sys.exit(main())
