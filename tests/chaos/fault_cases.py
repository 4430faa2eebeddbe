"""The fault matrix: each way an upstream can fail, and what follows. `docs/fault-matrix.md` is made from this table.

Run `python tests/chaos/fault_cases.py > docs/fault-matrix.md` after a change; a test compares the two.
"""

import sys

import msgspec

UP, REFUSED, UNTRUSTED, NO_HOST = "up", "refused", "untrusted", "nowhere"
"""Providers: the scripted one, a closed port, one whose certificate nobody signed, a host name that is not there."""


class Fault(msgspec.Struct, frozen=True):
    """One fault. `attempts` are those of a route without fallback; with one that works there is one more, if any.

    For a whole call: `status` and `code` are the client's. For a stream: the same, unless the fault comes after the
    first content: then `event` is the code of the error event that ends it.
    """

    name: str
    script: str
    status: int
    code: str | None
    kind: str
    """The attempt's label in the record."""
    attempts: int = 2
    falls_back: bool = True
    event: str | None = None
    provider: str = UP
    seconds: float = 3.0
    """Upper bound of a call's duration in the test's configuration."""
    stream_kind: str | None = None
    """The attempt's label when a stream was asked for, where it differs."""
    stream_ok: bool = False
    """The stream is not hurt by it: it ends as it should."""
    whole_ok: bool = False


BAD = "upstream_unavailable"
CUT = "upstream_interrupted"
LATE = "upstream_timeout"
LIMIT = "upstream_rate_limited"

FAULTS = (
    Fault("connection refused", "echo", 502, BAD, "connect", provider=REFUSED),
    Fault("TLS failure", "echo", 502, BAD, "tls", provider=UNTRUSTED),
    Fault("DNS failure", "echo", 502, BAD, "dns", provider=NO_HOST),
    Fault("reset before headers", "echo+fault=reset", 502, BAD, "reset"),
    Fault("closed before headers", "echo+fault=fin", 502, BAD, "reset"),
    Fault("bytes that are no HTTP", "echo+fault=garbage", 502, BAD, "protocol"),
    Fault("reset after headers", "echo+fault=reset-body", 502, BAD, "reset"),
    Fault("closed before the body", "echo+fault=fin-body", 502, BAD, "reset", stream_kind="reset"),
    Fault("stall before headers", "echo+fault=stall", 504, LATE, "timeout", stream_kind="first_content"),
    Fault("stall before the body", "echo+fault=stall-body", 504, LATE, "timeout", stream_kind="first_content"),
    Fault("stall before content", "echo+fault=stall-content", 504, LATE, "timeout", stream_kind="first_content"),
    Fault("stall in the middle", "echo+fault=stall-mid+chunks=4+every=30ms", 504, LATE, "timeout", event=CUT, stream_kind="ok"),
    Fault("cut at half", "echo+fault=cut+chunks=4+every=30ms", 502, BAD, "reset", event=CUT, stream_kind="ok"),
    Fault("reset at half", "echo+fault=cut-reset+chunks=4+every=30ms", 502, BAD, "reset", event=CUT, stream_kind="ok"),
    Fault("ended cleanly at half", "echo+fault=cut-clean+chunks=4+every=30ms", 502, BAD, "bad_json", event=CUT, stream_kind="ok"),
    Fault("malformed event", "echo+fault=malformed+chunks=4+every=30ms", 502, BAD, "bad_json", event=CUT, stream_kind="ok"),
    Fault("first event is an error", "echo+fault=error-first", 502, BAD, "error_body", stream_kind="error_event"),
    Fault("error event in the middle", "echo+fault=error-mid+chunks=4+every=30ms", 502, BAD, "error_body", event=CUT, stream_kind="ok"),
    Fault("200 with an error body", "echo+fault=error-200", 502, BAD, "error_body", stream_kind="not_a_stream"),
    Fault("200 with HTML", "echo+fault=html", 502, BAD, "bad_json", stream_kind="html"),
    Fault("invalid JSON", "echo+fault=json-invalid", 502, BAD, "bad_json", stream_kind="not_a_stream"),
    Fault("short body", "echo+fault=short", 502, BAD, "reset", stream_kind="not_a_stream"),
    Fault("empty body, empty stream", "echo+fault=empty", 502, BAD, "bad_json", stream_kind="empty"),
    Fault("slow drip", "echo+drip=40+pace=5ms", 200, None, "ok", attempts=1, falls_back=False, stream_ok=True, whole_ok=True),
    Fault("400", "echo+status=400", 400, None, "refused", attempts=1, falls_back=False),
    Fault("401", "echo+status=401", 502, "upstream_auth_failed", "denied", attempts=1),
    Fault("402", "echo+status=402", 502, "upstream_auth_failed", "denied", attempts=1),
    Fault("403", "echo+status=403", 502, "upstream_auth_failed", "denied", attempts=1),
    Fault("404", "echo+status=404", 502, "upstream_model_missing", "missing", attempts=1),
    Fault("408", "echo+status=408", 502, BAD, "status"),
    Fault("409", "echo+status=409", 502, BAD, "status"),
    Fault("413", "echo+status=413", 413, None, "refused", attempts=1, falls_back=False),
    Fault("422", "echo+status=422", 422, None, "refused", attempts=1, falls_back=False),
    Fault("425", "echo+status=425", 502, BAD, "status"),
    Fault("429", "echo+status=429", 429, LIMIT, "limited"),
    Fault("429, retry-after-ms", "echo+status=429+retry-after-ms=50", 429, LIMIT, "limited"),
    Fault("429, x-ms-retry-after-ms", "echo+status=429+x-ms-retry-after-ms=50", 429, LIMIT, "limited"),
    Fault("429, Retry-After in seconds", "echo+status=429+retry-after=1", 429, LIMIT, "limited"),
    Fault("429, Retry-After as a date", "echo+status=429+retry-date=1", 429, LIMIT, "limited"),
    Fault("429, Retry-After past the deadline", "echo+status=429+retry-after=60", 429, LIMIT, "limited", attempts=1),
    Fault("429, quota spent", "echo+error=insufficient_quota", 429, LIMIT, "quota", attempts=1),
    Fault("500", "echo+status=500", 502, BAD, "status"),
    Fault("502", "echo+status=502", 502, BAD, "status"),
    Fault("503", "echo+status=503", 502, BAD, "status"),
    Fault("504", "echo+status=504", 502, BAD, "status"),
    Fault("529", "echo+status=529", 502, BAD, "status"),
)  # fmt: skip

_SDK = {
    200: "nothing",
    400: "BadRequestError",
    413: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    502: "InternalServerError",
    504: "InternalServerError",
}


class Expected(msgspec.Struct, frozen=True):
    """What one cell of the matrix promises."""

    status: int
    code: str | None
    event: str | None
    attempts: int
    kinds: tuple[str, ...]
    """The attempts' labels in the record, in order."""
    outcome: str
    sdk: str
    """What the OpenAI SDK raises."""


def expected(fault: Fault, *, stream: bool, fallback: bool) -> Expected:
    """The cell for this fault."""
    kind = (fault.stream_kind or fault.kind) if stream else fault.kind
    if (stream and fault.stream_ok) or (not stream and fault.whole_ok):
        return Expected(200, None, None, 1, ("ok",), "complete", "nothing")
    if stream and fault.event is not None:
        return Expected(200, None, fault.event, 1, ("ok",), "upstream_interrupted", "APIError")
    if fallback and fault.falls_back:
        kinds = (*(kind,) * fault.attempts, "ok")
        return Expected(200, None, None, fault.attempts + 1, kinds, "complete", "nothing")
    return Expected(
        fault.status, fault.code, None, fault.attempts, (kind,) * fault.attempts, "error", _SDK[fault.status]
    )


def page() -> str:
    """The matrix for readers."""
    lines = [
        "# The fault matrix",
        "",
        "What follows when a provider fails, for whole answers and streams, with a fallback that works and without one.",
        "Each cell: the status the client sees (or the error event that ends its stream), attempts made, what the OpenAI",
        "Python SDK raises. Two tries a deployment. Every row is a test over real sockets: `tests/chaos/test_fault_matrix.py`.",
        "This page is made from its table: `python tests/chaos/fault_cases.py > docs/fault-matrix.md`.",
        "",
        "| fault | whole | whole, fallback | stream | stream, fallback | in the record |",
        "|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        cells = [
            _cell(expected(fault, stream=stream, fallback=fallback))
            for stream in (False, True)
            for fallback in (False, True)
        ]
        labels = {expected(fault, stream=stream, fallback=False).kinds[0] for stream in (False, True)}
        lines.append(f"| {fault.name} | {' | '.join(cells)} | {', '.join(sorted(labels))} |")
    return "\n".join(lines) + "\n"


def _cell(cell: Expected) -> str:
    attempts = f"{cell.attempts} attempt{'s' if cell.attempts > 1 else ''}"
    if cell.event is not None:
        return f"event `{cell.event}`, {attempts}, {cell.sdk}"
    if cell.status == 200:
        return f"200, {attempts}"
    return f"{cell.status} `{cell.code or 'theirs'}`, {attempts}, {cell.sdk}"


if __name__ == "__main__":
    sys.stdout.write(page())
