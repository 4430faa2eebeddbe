"""Runs the sections of a client program and prints one JSON object: per section its facts, or how it failed."""

import asyncio
import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Section = Callable[[], Any]


def _facts(section: Section) -> Any:
    return asyncio.run(section()) if inspect.iscoroutinefunction(section) else section()


def report(sections: Mapping[str, Section]) -> None:
    """Run every section, whatever the others do, and print `{"name": {"facts": …} | {"failed": traceback}}`."""
    outcome: dict[str, Any] = {}
    with ThreadPoolExecutor(max_workers=1) as pool:
        for name, section in sections.items():
            future = pool.submit(_facts, section)
            failure = future.exception()
            outcome[name] = (
                {"failed": "".join(traceback.format_exception(failure))} if failure else {"facts": future.result()}
            )
    print(json.dumps(outcome))
