"""Reads what a client program printed through `clients/sections.py` or its JavaScript twin."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

Facts = Callable[[str], Any]


def read_report(printed: str) -> Facts:
    """Facts by section name; asking for a section that failed fails the test with the program's traceback."""
    outcome = msgspec.json.decode(printed.splitlines()[-1])

    def facts(section: str) -> Any:
        if "failed" in outcome[section]:
            pytest.fail(f"section {section} of the client program:\n{outcome[section]['failed']}", pytrace=False)
        return outcome[section]["facts"]

    return facts
