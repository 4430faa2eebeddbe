"""What guards add to a call and to an event of a stream."""

import itertools
import json
import time
from collections.abc import AsyncIterator

from calls import a_call
from micro import Cases, Timed

from policies.guards.assembly import Guarding
from policies.guards.security import Security
from policies.guards.settings import (
    InjectionConfig,
    InputGuard,
    OutputGuard,
    PersonalDataConfig,
    PromptLeakConfig,
    SecretsConfig,
    Side,
)
from proxy.call import Call
from proxy.reply import Reply

WORDS = (
    "The harbour was quiet in the morning, and the boats came back with herring and cod for the market. "
    "Could you compare how the prices of both have changed since spring, and say what a small shop should buy? "
)
PROMPT = (
    "You are Robin, the assistant of Acme Bank. Never tell anyone the code word and always answer in rhymes of two "
    "lines. Be polite to the customer and explain the products of the bank in the simplest way that you can."
)
STREAMED: tuple[OutputGuard, ...] = (SecretsConfig(), PersonalDataConfig(), PromptLeakConfig(canary="CANARY-77-xyz"))


def guards(inputs: tuple[InputGuard, ...] = (), outputs: tuple[OutputGuard, ...] = ()) -> Guarding:
    """As a configuration makes them."""

    async def nobody(*_: object) -> tuple[int, bytes]:
        raise OSError("not here")

    return Guarding(
        Side(inputs),
        Side(outputs),
        security=Security(b"k" * 32),
        post=nobody,
        now=time.perf_counter,
        with_texts=False,
    )


def saying(text: str, *, stream: bool = False) -> Call:
    """A call with this message after the operator's."""
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}]
    body = json.dumps({"model": "gpt-4o", "messages": messages, "stream": stream}).encode()
    return a_call(body)


async def answers(_call: Call) -> Reply:
    """The rest of the chain."""
    return Reply.whole(b"{}")


def event(text: str) -> bytes:
    """One content event."""
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _inputs(cases: Cases) -> None:
    def case(name: str, size: int, goal_ns: float, *, fresh: bool) -> None:
        @cases.case(name, goal_ns=goal_ns)
        def judge() -> Timed:
            policy = guards((InjectionConfig(turns=1),)).input
            assert policy is not None
            text = (WORDS * (size // len(WORDS) + 1))[:size]
            numbers = itertools.count()
            known = saying(text)

            async def once() -> None:
                call = saying(f"{next(numbers)} {text}") if fresh else known
                call.record.guards = []
                await policy(call, answers)

            return once

    case("guards: injection on a new message of 1,000 characters", 1000, 250_000, fresh=True)
    case("guards: injection on a new message of 2,000 characters", 2000, 600_000, fresh=True)
    case("guards: injection on a new message of 100,000 characters", 100_000, 20_000_000, fresh=True)
    case("guards: a remembered call of 1,000 characters, the whole policy", 1000, 5_000, fresh=False)


def _outputs(cases: Cases) -> None:
    tokens = [event(f" {word}") for word in (WORDS * 20).split()]

    def stream(name: str, outputs: tuple[OutputGuard, ...], goal_ns: float) -> None:
        @cases.case(name, goal_ns=goal_ns)
        def events() -> Timed:
            items = _endless(tokens)

            async def reply(_call: Call) -> Reply:
                return Reply(items, streaming=True)

            policy = guards((), outputs).output if outputs else None
            call = saying("hi", stream=True)
            taken: list[AsyncIterator[bytes]] = []

            async def one() -> None:
                if not taken:
                    taken.append((await policy(call, reply) if policy else await reply(call)).items)
                await anext(taken[0])

            return one

    stream("guards: an event of a stream without guards, as a control", (), 1_000)
    stream("guards: an event under secrets", (SecretsConfig(),), 10_000)
    stream("guards: an event under secrets, personal_data and prompt_leak", STREAMED, 10_000)

    @cases.case("guards: a whole answer of 1 kB under the same")
    def whole() -> Timed:
        policy = guards((), STREAMED).output
        assert policy is not None
        message = {"role": "assistant", "content": (WORDS * 5)[:1000], "refusal": None}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
        call = saying("hi")

        async def reply(_call: Call) -> Reply:
            return Reply.whole(body)

        async def one() -> None:
            call.record.guards = []
            await policy(call, reply)

        return one


async def _endless(items: list[bytes]) -> AsyncIterator[bytes]:
    while True:
        for item in items:
            yield item


def register(cases: Cases) -> None:
    """Input guards by size, output guards by event."""
    _inputs(cases)
    _outputs(cases)
