"""A fake answer as steps in time: bytes, pauses, and the break that a fault makes in them."""

from typing import Literal

import msgspec

from adapters.fake_script import Script
from adapters.fake_shapes import error_object
from adapters.fake_sse import Event, error_event, frames

Broken = Literal["refuse", "dns", "tls", "connect-timeout", "reset", "fin", "garbage", "stall"]
_EARLY = frozenset({"stall-content", "stall-body", "error-first", "empty", "reset-body", "fin-body"})
_MID: dict[str, Broken] = {"stall-mid": "stall", "cut": "fin", "cut-reset": "reset"}
_SETTLE = 0.02
"""Seconds between bytes and the fault after them, so that the other side has read the bytes first."""
_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


class Pause(msgspec.Struct, frozen=True):
    """Nothing happens for so many seconds."""

    seconds: float


class Break(msgspec.Struct, frozen=True):
    """The exchange breaks here, in this way, and does not go on."""

    how: Broken


Step = bytes | Pause | Break


class Scripted(msgspec.Struct, frozen=True):
    """An answer as a sequence of steps: those `before` the head, the head, those of the body.

    `length` is the Content-Length, None for a chunked body; a body without a final Break ends cleanly.
    """

    status: int
    headers: dict[str, str]
    before: tuple[Step, ...]
    body: tuple[Step, ...]
    length: int | None
    model: str = ""


def steps_of_whole(hurt: str, data: bytes) -> tuple[tuple[Step, ...], int]:
    """The body's steps and its Content-Length."""
    half = data[: len(data) // 2]
    settle = Pause(_SETTLE)
    if hurt in {"error-200", "error-first", "error-mid"}:
        data = msgspec.json.encode(error_object("500")[1])
    elif hurt == "html":
        data = _HTML
    elif hurt in {"json-invalid", "cut-clean", "malformed"}:
        data = half
    elif hurt == "empty":
        data = b""
    elif hurt == "short":
        return (data, settle, Break("fin")), len(data) + 100
    elif hurt in {"stall-body", "stall-content"}:
        return (Break("stall"),), len(data)
    elif hurt in {"reset-body", "fin-body"}:
        return (settle, Break("reset" if hurt == "reset-body" else "fin")), len(data)
    elif hurt in {"stall-mid", "cut", "cut-reset"}:
        return (half, settle, Break(_MID[hurt])), len(data)
    return (data,), len(data)


def steps_of_stream(script: Script, hurt: str, events: list[Event]) -> tuple[Step, ...]:
    """The events as steps in the script's time, broken where the fault says."""
    contents = [index for index, event in enumerate(events) if event.kind == "content"]
    if hurt in _EARLY:
        return _without_content(script, hurt, events, contents)
    keep = _kept(script, contents)
    shown, rest = events[:keep], events[keep:]
    if hurt in _MID:
        return (*_timed(script, shown), Pause(_SETTLE), Break(_MID[hurt]))
    if hurt == "cut-clean":
        return _timed(script, shown)
    if hurt == "error-mid":
        return _timed(script, [*shown, _failure(script, events, keep)])
    if hurt == "malformed":
        return _timed(script, [*shown, Event('{"id":"chatcmpl-fake","choices":[{"ind', "error"), *rest])
    return _timed(script, events)


def _without_content(script: Script, hurt: str, events: list[Event], contents: list[int]) -> tuple[Step, ...]:
    """The streams whose fault comes before any content."""
    if hurt == "stall-content":
        return (*_timed(script, events[: contents[0] if contents else 0]), Break("stall"))
    if hurt == "stall-body":
        return (Break("stall"),)
    if hurt == "error-first":
        return _timed(script, [_failure(script, events, 0)])
    if hurt == "empty":
        return _timed(script, [event for event in events if event.data == "[DONE]"])
    return (Pause(_SETTLE), Break("reset" if hurt == "reset-body" else "fin"))


def _kept(script: Script, contents: list[int]) -> int:
    """How many events come before the fault: half of the content, or `at` content events."""
    kept = max(1, len(contents) // 2) if script.at < 0 else script.at
    if not contents:
        return 1
    return contents[kept] if kept < len(contents) else contents[-1] + 1


def _failure(script: Script, events: list[Event], number: int) -> Event:
    """A failure inside the stream, in the form of the endpoint's events."""
    body = error_object("500")[1]
    if events and events[0].type:
        shape = {"type": "error", "code": "server_error", "message": body["error"]["message"], "param": None}
        return Event({**shape, "sequence_number": number}, "error", "error")
    return error_event(body, script.sse)


def _timed(script: Script, events: list[Event]) -> tuple[Step, ...]:
    steps: list[Step] = []
    seen = 0
    for event, data in zip(events, frames(events, script.sse), strict=True):
        if event.kind == "content":
            wait = script.every if seen else script.first
            if wait:
                steps.append(Pause(wait))
            seen += 1
        steps.append(data)
    return tuple(steps)


def drip(steps: tuple[Step, ...], script: Script) -> tuple[Step, ...]:
    """The same bytes in writes of `drip` bytes, `pace` apart."""
    if not script.drip:
        return steps
    cut: list[Step] = []
    for step in steps:
        if not isinstance(step, bytes):
            cut.append(step)
            continue
        for start in range(0, len(step), script.drip):
            cut += [step[start : start + script.drip], Pause(script.pace)]
    return tuple(cut)
