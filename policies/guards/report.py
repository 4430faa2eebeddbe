"""What is done about a finding, and where it is told: the record, the header, the counts and the security log."""

import asyncio
from collections.abc import Generator, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from policies.guards.plan import Installed, Plan
from policies.guards.security import Security
from policies.guards.settings import Setting
from policies.guards.verdict import graver
from proxy.call import Call, Record, Verdict

Done = Literal["allow", "flag", "redact", "block", "not_scanned", "error"]
Side = Literal["input", "output"]
_MOST: Final = 32
"""Findings of one call that its record keeps and the log tells: the gravest."""
_NO_FINDING: Final = ("not_scanned", "error")
_GRAVEST_FIRST: Final = ("block", "redact", "flag", "error", "shadow", "not_scanned")
_Result = TypeVar("_Result")


class Told(msgspec.Struct, frozen=True):
    """A finding as it is told: which guard of the plan, what was done about it, and the text it is about.

    Also that a guard did not look (`not_scanned`), or had to be asked and gave no verdict (`error`).
    """

    guard: int
    done: Done
    where: str
    score: float | None = None
    reasons: tuple[str, ...] = ()
    text: str = ""


def done_about(setting: Setting, *, blocks: bool) -> Done:
    """What a guard with this setting does about a finding that is grave enough to block, or is not."""
    if setting == "flag" or not blocks:
        return "flag"
    return "redact" if setting == "redact" else "block"


class Reporter:
    """Tells what a plan's guards found. `with_texts`: whether the security log may hold texts."""

    def __init__(self, security: Security, *, with_texts: bool) -> None:
        self._security, self._with_texts = security, with_texts

    def passed(self, plan: Plan, record: Record) -> None:
        """No guard found anything."""
        for verdict, counted in plan.passes:
            record.guards.append(verdict)
            self._security.count(counted)
        record.guard = graver(record.guard, "allow")

    def tell(self, call: Call, plan: Plan, side: Side, told: Sequence[Told], unread: Sequence[str] = ()) -> None:
        """All findings of one side of a call, the gravest first; a guard without any is told to have let it pass."""
        record = call.record
        gravest: dict[int, str] = {}
        found = sorted([(_said(plan, each), each) for each in told], key=_gravity) if told else ()
        for number, (said, each) in enumerate(found):
            gravest.setdefault(each.guard, said)
            if number < _MOST:
                self._one(call, plan.guards[each.guard], side, each, shadow=said == "shadow")
            if said != "shadow":
                record.guard = graver(record.guard, each.done)
        if unread:
            record.guards += [Verdict("*", "not_scanned", side, where) for where in unread[:_MOST]]
        for index, (verdict, counted) in enumerate(plan.passes):
            if index in gravest:
                self._security.count((verdict.guard, side, gravest[index], call.route.name))
            else:
                record.guards.append(verdict)
                self._security.count(counted)
        if unread:
            self._security.count(("*", side, "not_scanned", call.route.name))
        record.guard = graver(record.guard, "not_scanned" if unread else "allow")

    def _one(self, call: Call, installed: Installed, side: Side, told: Told, *, shadow: bool) -> None:
        verdict = Verdict(
            guard=installed.name,
            action=told.done,
            side=side,
            where=told.where,
            score=None if told.score is None else round(told.score, 4),
            shadow=shadow,
            reasons=told.reasons,
        )
        call.record.guards.append(verdict)
        if told.done in _NO_FINDING:
            return
        with_text = self._with_texts and side == "input"  # what an answer must not show no log shows
        self._security.log(call, verdict, told.text, with_text=with_text)


def _said(plan: Plan, told: Told) -> str:
    """What was done, as it is counted."""
    return "shadow" if plan.guards[told.guard].setting == "shadow" and told.done not in _NO_FINDING else told.done


def _gravity(found: tuple[str, Told]) -> int:
    return _GRAVEST_FIRST.index(found[0])


async def in_slices(work: Generator[None, None, _Result]) -> _Result:
    """Run work to its end; wherever it yields, others get their turn."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _Result = end.value
            return result
        await asyncio.sleep(0)
