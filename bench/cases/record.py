"""What it costs to write a call down: the policy around a reply, and the outbox under it."""

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from micro import Cases, Timed

from policies.record import KeepTexts, Kept, WriteRecord
from proxy.call import Attempt, Call, Record, Usage
from proxy.chain import Handler
from proxy.endpoints import CHAT
from proxy.ids import new_id
from proxy.outbox import Outbox
from proxy.reply import Reply
from proxy.segments import frame_of
from proxy.sse import DONE_ITEM, frame

_EVENTS = 200
_BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "%b"}]}' % (b"word " * 200)
_ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "%b"}}]}' % (b"word " * 200)


def typical() -> Record:
    """A record as most calls leave it."""
    return Record(
        id=new_id(),
        endpoint="chat",
        started=time.time(),
        peer="127.0.0.1",
        caller="key-1234",
        owner="team",
        model="gpt-4o-primary",
        route="gpt-4o-primary",
        provider="openai",
        upstream_model="gpt-4o",
        attempts=[Attempt("openai", "gpt-4o", "openai/gpt-4o", 200, "ok", 0.0, 0.8)],
        usage=Usage(200, 200, cached=100),
        cost=2_500_000,
        status=200,
        outcome="complete",
        first_content=0.4,
        upstream=0.8,
        duration=0.81,
    )


def outbox() -> Outbox:
    """A real one, which drops its oldest files as it goes."""
    return Outbox(Path(tempfile.mkdtemp(prefix="lockgate-bench-")), 64_000_000)


def new_call() -> Call:
    """One call."""
    record = typical()
    return Call(id=record.id, endpoint=CHAT, headers={}, record=record, body=_BODY)


async def _stream() -> AsyncIterator[bytes]:
    event = frame(b'{"choices":[{"index":0,"delta":{"content":"word"}}]}')
    for _ in range(_EVENTS):
        yield event
    yield DONE_ITEM


async def whole(_call: Call) -> Reply:
    """Answers at once."""
    return Reply.whole(_ANSWER)


async def streamed(_call: Call) -> Reply:
    """Answers with a stream."""
    return Reply(_stream(), streaming=True)


async def drain(reply: Reply) -> None:
    """What the edge does with a reply."""
    async for _ in reply.items:
        pass
    await reply.aclose("complete")


def register(cases: Cases) -> None:
    """The parts, then the policy: with the reply it needs, whose own cost stands beside it."""
    _parts(cases)
    _calls(cases, "a whole call of 1 kB", whole, goal_ns=25_000)
    _calls(cases, f"a stream of {_EVENTS} events", streamed)


def _parts(cases: Cases) -> None:
    @cases.case("record: encode and frame")
    def encode() -> Timed:
        record = typical()
        return lambda: frame_of(record)

    @cases.case("record: append to the outbox", goal_ns=20_000)
    def append() -> Timed:
        record, box = typical(), outbox()
        return lambda: box.append(record)


def _calls(cases: Cases, what: str, answer: Handler, goal_ns: float | None = None) -> None:
    @cases.case(f"record: {what}, nothing written down (control)")
    def control() -> Timed:
        async def one() -> None:
            await drain(await answer(new_call()))

        return one

    @cases.case(f"record: {what}, policy and outbox", goal_ns=goal_ns)
    def policy() -> Timed:
        write = WriteRecord((), time.time, log=outbox())

        async def one() -> None:
            await drain(await write(new_call(), answer))

        return one

    @cases.case(f"record: {what}, with its texts")
    def texts() -> Timed:
        kept = Kept()
        write, keep = WriteRecord((), time.time, log=outbox(), kept=kept), KeepTexts(kept, "redacted")

        async def inner(call: Call) -> Reply:
            return await keep(call, answer)

        async def one() -> None:
            await drain(await write(new_call(), inner))

        return one
