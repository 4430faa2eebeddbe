"""Guards on what a model answers: whole answers and streams through the same code, redacted or cut off as they run."""

from collections.abc import AsyncIterator
from typing import Final, Protocol

from policies.guards.answer import Answer
from policies.guards.asking import Asker, is_needed, not_asked
from policies.guards.chunk_stream import ChunkStream
from policies.guards.plan import Guards, Plan
from policies.guards.prompt_leak import PromptLeak
from policies.guards.report import Reporter, Told, done_about, in_slices
from policies.guards.response_stream import ResponseStream
from policies.guards.texts import system_prompt
from policies.guards.whole import block_whole, guard_whole
from proxy.call import Call
from proxy.chain import Handler
from proxy.errors import GuardUnavailable, UpstreamInterrupted
from proxy.reply import Reply
from proxy.sse import DONE_ITEM

_LAST: Final = (
    DONE_ITEM,
    b"event: response.completed\n",
    b"event: response.incomplete\n",
    b"event: response.failed\n",
)


class Machine(Protocol):
    """Guards one stream, item by item."""

    ended: bool
    shift: int

    def take(self, item: bytes) -> list[bytes]:
        """The items to send for this one."""

    def refuse(self) -> list[bytes]:
        """The items of a stream of which nothing may be said."""

    def told(self) -> list[Told]:
        """What was found."""


class OutputGuards:
    """Redacts what is to be redacted, and where a guard blocks ends the answer with `content_filter`.

    A whole answer stays a 200. A stream holds back what could still become a finding, as a rule its last word; what
    has left is never taken back. With a guard that must be asked and may block, nothing leaves before it has answered.
    Raises GuardUnavailable when a guard that must be heard gives no verdict.
    """

    def __init__(self, guards: Guards, asker: Asker, reporter: Reporter) -> None:
        self._guards, self._asker, self._reporter = guards, asker, reporter

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The guarded reply."""
        plan = self._guards.of(call).output
        if not plan.guards or call.endpoint.dialect is None:
            return await next(call)
        prompt = system_prompt(call) if any(isinstance(each.guard, PromptLeak) for each in plan.guards) else ""
        reply = await next(call)
        answer = Answer(plan, prompt)
        if not reply.streaming:
            return await self._whole(call, reply, answer)
        machine: Machine
        if call.endpoint.dialect == "responses":
            machine = ResponseStream(answer)
        else:
            machine = ChunkStream(answer, "delta" if call.endpoint.dialect == "chat" else "text")
        return reply.through(lambda items: self._stream(call, reply, answer, machine, items))

    async def _whole(self, call: Call, reply: Reply, answer: Answer) -> Reply:
        try:
            body = b"".join([item async for item in reply.items])
            said = await in_slices(guard_whole(answer, body))
            told = answer.told()
            asked = await self._ask(answer)
            self._tell(call, reply, answer, [*told, *asked])
            _refuse(answer.plan, asked)
        except BaseException:
            await reply.aclose("error")
            raise
        if _blocks(answer.plan, asked):
            said = block_whole(body)

        async def one(_items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield said

        return reply.through(one)

    async def _stream(
        self, call: Call, reply: Reply, answer: Answer, machine: Machine, items: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        waiting: list[bytes] | None = [] if answer.waits else None
        told = False
        try:
            async for item in items:
                for out in machine.take(item):
                    if out.startswith(_LAST):
                        told = True
                        for last in await self._end(call, reply, answer, machine, [*(waiting or ()), out]):
                            yield last
                        waiting = None
                    elif waiting is not None:
                        waiting.append(out)
                    else:
                        yield out
                if machine.ended:
                    break
        except UpstreamInterrupted as error:
            error.sequence += machine.shift
            raise
        finally:
            closing = getattr(items, "aclose", None)
            if closing is not None:
                await closing()
            if not told:
                self._tell(call, reply, answer, [*machine.told(), *not_asked(answer.plan)])

    async def _end(self, call: Call, reply: Reply, answer: Answer, machine: Machine, items: list[bytes]) -> list[bytes]:
        """The last items, when everything has been said: whoever has to be asked is asked now."""
        told, plan = machine.told(), answer.plan
        asked = not_asked(plan) if machine.ended else await self._ask(answer)
        self._tell(call, reply, answer, [*told, *asked])
        _refuse(plan, asked)
        return machine.refuse() if _blocks(plan, asked) else items

    async def _ask(self, answer: Answer) -> list[Told]:
        """What the guards say that have to be asked, and which of them give no verdict."""
        if not answer.asks:
            return []
        told = []
        plan = answer.plan
        for index, unit, finding in await self._asker.ask(plan, answer.units(), "output"):
            if finding is None:
                told.append(Told(index, "error", unit.where))
            else:
                done = done_about(plan.guards[index].setting, blocks=finding.blocks)
                told.append(Told(index, done, unit.where, finding.score, finding.reasons, unit.text))
        return told

    def _tell(self, call: Call, reply: Reply, answer: Answer, told: list[Told]) -> None:
        self._reporter.tell(call, answer.plan, "output", told, tuple(answer.unread))
        if _blocks(answer.plan, told):
            reply.ending = "guard_blocked"


def _blocks(plan: Plan, told: list[Told]) -> bool:
    return any(each.done == "block" and plan.guards[each.guard].setting != "shadow" for each in told)


def _refuse(plan: Plan, asked: list[Told]) -> None:
    """Raises GuardUnavailable when one that must be heard gave no verdict."""
    if any(each.done == "error" and is_needed(plan.guards[each.guard]) for each in asked):
        raise GuardUnavailable
