"""Whole answers under guards: read only as far as there is text, and encoded anew only where something was changed."""

from collections.abc import Generator
from typing import Any, Final

import msgspec

from policies.guards.answer import Answer, Json, Slot, slots, spelled
from policies.guards.spans import SLICE
from policies.guards.texts import SPOKEN

FILTERED: Final = "content_filter"


def _as_written(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


decode_answer: Final = msgspec.json.Decoder(float_hook=_as_written).decode
"""Decodes any JSON; numbers with a point stay as they were written."""
encode_answer: Final = msgspec.json.Encoder().encode


def guard_whole(answer: Answer, body: bytes) -> Generator[None, None, bytes]:
    """The body to send. Yields between slices of work."""
    data = decode_answer(body)
    changed = False
    for index, choice in enumerate(_listed(data, "choices")):
        changed = (yield from _choice(answer, index, choice)) or changed
    if _listed(data, "output"):
        changed = (yield from guard_response(answer, data)) or changed
    return encode_answer(data) if changed else body


def block_whole(body: bytes) -> bytes:
    """The same answer with nothing said, because somebody who was asked refused it."""
    data = decode_answer(body)
    for choice in _listed(data, "choices"):
        for member in _held(choice):
            for slot in slots(choice, member):
                slot.put("")
        drop_echoes(choice)
        _end_choice(choice)
    if isinstance(data.get("output"), list):
        end_response(data, [])
    return encode_answer(data)


def guard_response(answer: Answer, response: Json) -> Generator[None, None, bool]:
    """The `output` of a Responses object, in place; whether it was changed. What comes after a block is dropped."""
    changed, output = False, response["output"]
    for index in range(len(output)):
        touched, ended = yield from guard_all(answer, "output", answer.slots(output, index, f"output[{index}]"))
        if touched:
            drop_echoes(output[index])
            changed = True
        if ended:
            end_response(response, output[: index + 1])
            break
    return changed


def guard_all(answer: Answer, where: str, texts: list[Slot]) -> Generator[None, None, tuple[bool, bool]]:
    """Some texts, in place: whether any was changed, and whether one was cut off; those after it are emptied.

    Yields between slices of work. `where` is what their paths start from.
    """
    changed = ended = False
    for slot in texts:
        if ended:
            slot.put("")
            continue
        text, said, parts = answer.text(where + spelled(slot.path)), slot.text, list[str]()
        for start in range(0, len(said), SLICE):
            parts.append(text.feed(said[start : start + SLICE], last=start + SLICE >= len(said)))
            yield
        if text.changed:
            slot.put("".join(parts))
            changed = True
        ended = text.blocked is not None
    return changed, ended


def end_response(response: Json, output: list[Any]) -> None:
    """Make a Responses object say that a filter ended it after these items; the last of them is the one cut off."""
    if output and isinstance(output[-1], dict):
        if output[-1].get("type") != "message":
            output = output[:-1]  # half a call of a function is none
        elif "status" in output[-1]:
            output[-1]["status"] = "incomplete"
    response.update(status="incomplete", incomplete_details={"reason": FILTERED}, output=output)
    if "completed_at" in response:
        response["completed_at"] = None


def drop_echoes(value: Any) -> None:
    """Empty every `logprobs` in a part of an answer, and the sound beside a transcript: they say what was redacted."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("logprobs"):
                part["logprobs"] = [] if isinstance(part["logprobs"], list) else None
            if SPOKEN in part and isinstance(part.get("data"), str):
                part["data"] = ""
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _choice(answer: Answer, index: int, choice: Any) -> Generator[None, None, bool]:
    where = f"choices[{index}]"
    found = [slot for member in _held(choice) for slot in answer.slots(choice, member, f"{where}.{member}")]
    changed, ended = yield from guard_all(answer, where, found)
    if changed:
        drop_echoes(choice)
    if ended:
        _end_choice(choice)
    return changed


def _held(choice: Any) -> list[str]:
    """The member of a choice that holds its texts, if there is one."""
    if not isinstance(choice, dict):
        return []
    member = "text" if isinstance(choice.get("text"), str) else "message"
    return [member] if member in choice else []


def _end_choice(choice: Any) -> None:
    """Make a choice say that a filter ended it; what it had not yet come to is dropped."""
    if not isinstance(choice, dict):
        return
    choice["finish_reason"] = FILTERED
    if isinstance(choice.get("message"), dict):
        for name in ("tool_calls", "function_call"):
            choice["message"].pop(name, None)


def _listed(data: Any, member: str) -> list[Any]:
    value = data.get(member) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []
