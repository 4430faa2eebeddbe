"""Why one call went the way it did: its record as a list of decisions, in the order in which they were made."""

from collections.abc import Iterable, Iterator

import msgspec

from proxy.call import NANO, Attempt, Record, Usage, Verdict, Window


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a call. `verdict` is a word or two, `detail` a phrase for people; `seconds` how long it took."""

    step: str
    verdict: str
    detail: str = ""
    seconds: float | None = None


def decisions(record: Record) -> list[Decision]:
    """What was decided about a call, by which part and with which figures. Holds no text of prompts or answers."""
    return [
        *_arrival(record),
        *_verdicts(record, "input"),
        *_shared(record),
        *_attempts(record),
        *_verdicts(record, "output"),
        *_end(record),
    ]


def lines(made: Iterable[Decision]) -> list[str]:
    """The same for a terminal."""
    found = []
    for each in made:
        seconds = f"{each.seconds * 1000:.1f} ms" if each.seconds is not None else ""
        found.append(f"  {each.step:11} {each.verdict:20} {seconds:>12}  {each.detail}".rstrip())
    return found


def _arrival(record: Record) -> Iterator[Decision]:
    known = {
        "owner": record.owner,
        "user": record.user,
        "session": record.session,
        "tags": " ".join(record.tags),
        "from": record.peer,
        "their id": record.client_request_id,
    }
    yield Decision("caller", record.caller or "none", _pairs(known))
    for name, window in (("requests", record.requests), ("tokens", record.tokens)):
        if window is not None:
            yield Decision("limit", name, _window(window))
    if record.queued:
        yield Decision("queue", "waited", "for a place among the calls in flight", record.queued)
    if record.model:
        form = "stream" if record.stream else "whole"
        yield Decision("route", record.route or "none", f"asked for {record.model}, {record.endpoint}, {form}")
    if record.changed:
        yield Decision("parameters", "changed", ", ".join(record.changed))


def _window(window: Window) -> str:
    return f"{window.remaining} of {window.limit} left, all free in {window.reset:.0f} s"


def _verdicts(record: Record, side: str) -> Iterator[Decision]:
    return (_verdict(each) for each in record.guards if each.side == side)


def _verdict(verdict: Verdict) -> Decision:
    facts = {
        "side": verdict.side,
        "at": verdict.where,
        "score": "" if verdict.score is None else f"{verdict.score:.3f}",
        "for": " ".join(verdict.reasons),
    }
    action = f"{verdict.action} (shadow)" if verdict.shadow else verdict.action
    return Decision("guard", action, f"{verdict.guard}, {_pairs(facts)}")


def _shared(record: Record) -> Iterator[Decision]:
    if record.flight:
        with_whom = "an identical call's answer" if record.flight == "followed" else "identical calls followed"
        yield Decision("flight", record.flight, with_whom)
    if record.cache:
        similarity = "" if record.similarity is None else f"similarity {record.similarity:.4f}"
        yield Decision("cache", record.cache, similarity)
    for entry, closeness, why in record.candidates:
        yield Decision("candidate", why, f"similarity {closeness:.4f}, entry {entry}")


def _attempts(record: Record) -> Iterator[Decision]:
    previous: Attempt | None = None
    for attempt in record.attempts:
        if previous is None:
            what = "attempt"
        elif previous.deployment == attempt.deployment:
            what = "retry"
        else:
            what = "fallback"
        if attempt.wait:
            yield Decision("wait", "paused", "before trying again", attempt.wait)
        status = "" if attempt.status is None else f", status {attempt.status}"
        yield Decision(what, attempt.kind, f"{attempt.provider} {attempt.model}{status}", attempt.seconds)
        previous = attempt
    if record.dropped:
        yield Decision("parameters", "dropped", ", ".join(record.dropped))


def _end(record: Record) -> Iterator[Decision]:
    if record.first_content is not None:
        own = max(0.0, record.first_content - record.upstream)
        yield Decision("answer", "began", f"{own * 1000:.1f} ms of it the gateway's own", record.first_content)
    if record.usage is not None:
        yield Decision("usage", "estimated" if record.usage.estimated else "counted", _usage(record.usage))
    if record.cost is not None:
        yield Decision("cost", f"{record.cost / NANO:.9f} USD")
    if record.saved is not None:
        yield Decision("saved", f"{record.saved / NANO:.9f} USD")
    status = f"status {record.status}" if record.status else "nothing sent"
    error = f", {record.error}" if record.error else ""
    yield Decision("end", record.outcome or "unknown", f"{status}{error}", record.duration)


def _usage(usage: Usage) -> str:
    parts = {
        "cached": usage.cached,
        "written to cache": usage.cache_write,
        "reasoning": usage.reasoning,
        "audio": usage.audio,
    }
    extra = "".join(f", {count} {name}" for name, count in parts.items() if count)
    return f"{usage.prompt} in, {usage.completion} out{extra}"


def _pairs(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value)
