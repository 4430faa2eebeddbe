"""What is done about a finding, and where it is told: the record, the header, the counts and the security log."""

import asyncio
from collections.abc import Generator, Iterable, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from policies.guards.plan import Installed, Plan
from policies.guards.security import Security
from policies.guards.settings import Setting
from policies.guards.verdict import graver
from proxy.call import Call, Verdict

Done = Literal["allow", "flag", "redact", "block", "not_scanned", "error"]
Side = Literal["input", "output"]
_MOST: Final = 32
"""Findings of one call that its record keeps and the log tells."""
_Result = TypeVar("_Result")


class Told(msgspec.Struct, frozen=True):
    """A finding as it is told: which guard of the plan, what was done about it, and the text it is about."""

    guard: int
    done: Done
    where: str
    score: float
    reasons: tuple[str, ...]
    text: str


def done_about(setting: Setting, *, blocks: bool) -> Done:
    """What a guard with this setting does about a finding that is grave enough to block, or is not."""
    if setting == "flag" or not blocks:
        return "flag"
    return "redact" if setting == "redact" else "block"


class Reporter:
    """Tells what a plan's guards found. `with_texts`: whether the security log may hold texts."""

    def __init__(self, security: Security, *, with_texts: bool) -> None:
        self._security, self._with_texts = security, with_texts

    def tell(self, call: Call, plan: Plan, side: Side, told: Iterable[Told], unread: Sequence[str] = ()) -> None:
        """All findings of one side of a call; a guard without any is told to have let it pass."""
        record = call.record
        gravest: dict[int, str] = {}
        for number, each in enumerate(told):
            shadow = plan.guards[each.guard].setting == "shadow" and each.done != "not_scanned"
            if number < _MOST:
                self._one(call, plan.guards[each.guard], side, each, shadow=shadow)
            if shadow:
                gravest.setdefault(each.guard, "shadow")
                continue
            gravest[each.guard] = graver(gravest.get(each.guard, ""), each.done)
            record.guard = graver(record.guard, each.done)
        route = call.route.name
        for index, installed in enumerate(plan.guards):
            action = gravest.get(index)
            if action is None:
                action = "allow"
                call.record.guards.append(Verdict(installed.name, "allow", side))
            self._security.count(installed.name, side, action, route)
        for where in unread:
            call.record.guards.append(Verdict("*", "not_scanned", side, where))
        if unread:
            self._security.count("*", side, "not_scanned", route)
        record.guard = graver(record.guard, "not_scanned" if unread else "allow")

    def failed(self, call: Call, installed: Installed, side: Side, where: str) -> None:
        """A guard that had to be asked gave no verdict."""
        call.record.guards.append(Verdict(installed.name, "error", side, where))
        self._security.count(installed.name, side, "error", call.route.name)
        call.record.guard = graver(call.record.guard, "not_scanned")

    def _one(self, call: Call, installed: Installed, side: Side, told: Told, *, shadow: bool) -> None:
        verdict = Verdict(
            guard=installed.name,
            action=told.done,
            side=side,
            where=told.where,
            score=round(told.score, 4),
            shadow=shadow,
            reasons=told.reasons,
        )
        call.record.guards.append(verdict)
        if told.done == "not_scanned":
            return
        with_text = self._with_texts and side == "input"  # what an answer must not show no log shows
        self._security.log(call, verdict, told.text, with_text=with_text)


async def in_slices(work: Generator[None, None, _Result]) -> _Result:
    """Run work to its end; wherever it yields, others get their turn."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        await asyncio.sleep(0)
