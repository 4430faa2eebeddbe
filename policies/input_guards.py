"""Guards on what a client sends: every text of every endpoint is judged before anything is done with it."""

from collections.abc import Awaitable
from functools import partial
from typing import Final

from policies.again import NOTHING, Again
from policies.guards.asking import Asker, is_needed, not_asked
from policies.guards.judge import Finding, Judge, Memory
from policies.guards.plan import Guards, Plan
from policies.guards.report import Done, Reporter, Told, done_about, in_slices
from policies.guards.spans import redact
from policies.guards.texts import KEY, Leaf, Texts, Unit, read_texts, replaced
from policies.guards.verdict import Span
from proxy.call import Call
from proxy.chain import Handler
from proxy.errors import GuardBlocked, GuardUnavailable
from proxy.reply import Reply
from proxy.wire import encode_members

_REFUSALS: Final = {
    "injection": "The request was refused: a text in it reads like a prompt injection.",
    "length": "The request was refused: a text in it is too long.",
}
_REFUSED: Final = "The request was refused: a text in it holds what this gateway does not let through."
_LARGE: Final = 32 * 1024
"""Bytes of a body of which only the single texts are remembered."""


class InputGuards:
    """Judges every text, redacts what is to be redacted, and refuses the call where a guard blocks.

    Raises GuardBlocked with `param`, which neither echoes the text nor names the rule, and GuardUnavailable when a
    guard that must be heard gives no verdict. What is no text, such as an image, is recorded as not scanned.
    `passed` remembers the calls in which nothing was found: the same again is not taken apart.
    """

    def __init__(self, guards: Guards, judge: Judge, asker: Asker, reporter: Reporter, passed: Memory) -> None:
        self._guards, self._judge, self._asker, self._reporter = guards, judge, asker, reporter
        self._passed = passed

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Pass the call on, redacted where that is asked for."""
        plan = self._guards.of(call).input
        if not plan.guards:
            return next(call)
        digest = self._digest(call, plan)
        if digest is not None and self._passed.find(digest) is not None:
            self._reporter.passed(plan, call.record)
            return next(call)
        return self._judged(call, next, plan, digest)

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """As long as it is remembered that nothing was found."""
        plan = self._guards.of(call).input
        if not plan.guards:
            return call, NOTHING
        digest = self._digest(call, plan)
        if digest is None or self._passed.find(digest) is None:
            return None
        return call, Again(
            lambda: self._passed.find(digest) is not None,
            partial(self._reporter.passed, plan),
        )

    async def _judged(self, call: Call, next_handler: Handler, plan: Plan, digest: bytes | None) -> Reply:
        texts = read_texts(call)
        found = await in_slices(self._judge.judge(plan, texts.units))
        judged = [(unit, finding) for unit, findings in zip(texts.units, found, strict=True) for finding in findings]
        told = [_told(plan, unit, finding, unit.text) for unit, finding in judged]
        told += await self._turns(plan, texts)
        if _blocked(plan, told):
            told += not_asked(plan)
        else:
            told += await self._asked(plan, texts)
        self._reporter.tell(call, plan, "input", told, texts.unread)
        _refuse(plan, told)
        if digest is not None and not (told or texts.unread):
            self._passed.keep(digest, ())
        return await next_handler(_redacted(call, plan, judged))

    def _digest(self, call: Call, plan: Plan) -> bytes | None:
        """Of everything that is judged of a call; None when it is large."""
        if len(call.body) > _LARGE:
            return None
        head, what = call.head, call.endpoint.name[:16]
        return head.derive(
            "guarded", plan.salt, lambda: self._passed.digest(what, encode_members(head.members), plan.salt)
        )

    async def _turns(self, plan: Plan, texts: Texts) -> list[Told]:
        found = await in_slices(self._judge.judge_turns(plan, texts.units))
        return [_told(plan, unit, finding, text) for unit, text, finding in found]

    async def _asked(self, plan: Plan, texts: Texts) -> list[Told]:
        return [
            Told(index, "error", unit.where) if answer is None else _told(plan, unit, answer, unit.text)
            for index, unit, answer in await self._asker.ask(plan, texts.units, "input")
        ]


def _refuse(plan: Plan, told: list[Told]) -> None:
    """Raises what is to be raised about what was found."""
    blocked = _blocked(plan, told)
    if blocked is not None:
        kind = plan.guards[blocked.guard].kind
        code = "prompt_injection" if kind == "injection" else "content_policy_violation"
        raise GuardBlocked(_REFUSALS.get(kind, _REFUSED), param=blocked.where, code=code)
    if any(each.done == "error" and is_needed(plan.guards[each.guard]) for each in told):
        raise GuardUnavailable


def _told(plan: Plan, unit: Unit, finding: Finding, text: str) -> Told:
    done: Done = (
        "not_scanned" if finding.partial else done_about(plan.guards[finding.guard].setting, blocks=finding.blocks)
    )
    if done == "redact" and any(unit.leaves[number].path[-1] == KEY for number, _ in finding.spans):
        done = "block"  # the name of a member cannot be replaced
    return Told(finding.guard, done, unit.where, finding.score, finding.reasons, text)


def _blocked(plan: Plan, told: list[Told]) -> Told | None:
    """What blocks the call, if anything does."""
    return next((each for each in told if each.done == "block" and plan.guards[each.guard].setting != "shadow"), None)


def _redacted(call: Call, plan: Plan, judged: list[tuple[Unit, Finding]]) -> Call:
    """The call with every span replaced that a guard redacts."""
    spans: dict[Leaf, list[Span]] = {}
    for unit, finding in judged:
        if plan.guards[finding.guard].setting == "redact":
            for number, span in finding.spans:
                spans.setdefault(unit.leaves[number], []).append(span)
    if not spans:
        return call
    leaves = [Leaf(leaf.path, redact(leaf.text, found)) for leaf, found in spans.items()]
    for name in dict.fromkeys(str(leaf.path[0]) for leaf in leaves):
        if name not in call.record.changed:
            call.record.changed.append(name)
    return call.replace(head=call.head.with_members(replaced(call.head.members, leaves)))
