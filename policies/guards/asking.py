"""Asks the guards that have to be asked, all at once and once a text."""

import asyncio
import logging

from policies.guards.asked import Http, Own, Unanswered
from policies.guards.judge import Finding, Memory
from policies.guards.plan import Installed, Plan
from policies.guards.report import Side, Told
from policies.guards.texts import Unit

logger = logging.getLogger("lockgate")

_AT_ONCE = 8

Answer = tuple[int, Unit, Finding | None]
"""Which guard of the plan, about what, and what it found; a finding of None means that it gave no verdict."""


class Asker:
    """Asks about each text once and remembers the verdicts as those of other guards are; failures are not remembered."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def ask(self, plan: Plan, units: tuple[Unit, ...], side: Side) -> list[Answer]:
        """The findings, and the questions without an answer; texts that are let pass are not listed."""
        asked = [
            (index, installed, guard)
            for index, installed in enumerate(plan.guards)
            if isinstance(guard := installed.guard, Http | Own)
        ]
        if not asked:
            return []
        limit = asyncio.Semaphore(_AT_ONCE)
        questions = [
            self._one(plan, index, guard, unit, side, limit)
            for index, installed, guard in asked
            for unit in units
            if side == "output" or unit.role in installed.roles
        ]
        return [answer for answers in await asyncio.gather(*questions) for answer in answers]

    async def _one(  # noqa: PLR0913 - one question
        self, plan: Plan, index: int, guard: Http | Own, unit: Unit, side: Side, limit: asyncio.Semaphore
    ) -> list[Answer]:
        text = unit.text
        digest = self._memory.digest(f"asked {index}", text, plan.salts[unit.role])
        found = self._memory.find(digest)
        if found is None:
            try:
                async with limit:
                    verdict = await guard.ask(text, unit.role, side)
            except Unanswered as error:
                logger.warning("the guard %s gave no verdict: %s", plan.guards[index].name, error)
                return [(index, unit, None)]
            blocks = verdict.action == "block"
            found = (Finding(index, verdict.score, blocks, verdict.reasons),) if verdict.action != "allow" else ()
            self._memory.keep(digest, found)
        return [(index, unit, each) for each in found]


def is_needed(installed: Installed) -> bool:
    """Whether a call must not go on without this guard's verdict."""
    guard = installed.guard
    return isinstance(guard, Http | Own) and not guard.is_open and installed.setting in ("redact", "block")


def not_asked(plan: Plan) -> list[Told]:
    """That nobody was asked who would have had to be: no verdict is not taken for a good one."""
    return [
        Told(index, "not_scanned", "")
        for index, installed in enumerate(plan.guards)
        if isinstance(installed.guard, Http | Own)
    ]
