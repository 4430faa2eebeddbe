"""Sealed records for tests of what reads them."""

import msgspec

from proxy.call import Attempt, Record, Usage


def sealed(**facts: object) -> Record:
    """A good whole chat call, but for these facts."""
    record = Record(
        id="c" * 32,
        endpoint="chat",
        started=1000.0,
        caller="anyone",
        model="chat",
        route="chat",
        provider="openai",
        upstream_model="gpt-4o",
        attempts=[Attempt("openai", "gpt-4o", "openai/gpt-4o", 200, "ok", seconds=0.4)],
        usage=Usage(200, 120),
        status=200,
        outcome="complete",
        first_content=0.41,
        upstream=0.4,
        duration=0.5,
    )
    return msgspec.structs.replace(record, **facts)
