"""The process that ships stands back before it costs anything."""

import subprocess
import sys

import pytest

LOOK = """
import os, sys
import proxy.ship_start
print("msgspec" in sys.modules, "proxy.ship" in sys.modules)
proxy.ship_start.stand_back()
print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the scheduling class is Linux's")
def test_it_stands_back_before_it_loads_what_it_needs() -> None:
    """Loading takes a core for a second: at full priority a gateway's first calls waited up to 0.7 s beside it."""
    done = subprocess.run([sys.executable, "-c", LOOK], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False False", "10 True"]
