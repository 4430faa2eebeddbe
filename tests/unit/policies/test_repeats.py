"""The short way for equal calls: with policies and answers that are told what to say."""

from collections.abc import Callable

import pytest
from support.calls import make_call

from policies.again import NOTHING, Again
from policies.cache_answers import Stored
from policies.cache_memory import Facts, Ready
from policies.repeats import Repeats
from proxy.call import Call, Caller, Record
from proxy.endpoints import CHAT, EMBEDDINGS
from proxy.errors import RateLimited, UnknownModel
from proxy.reply import Reply

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


class Step:
    """A policy that stands, or does not, and counts what it does."""

    def __init__(self) -> None:
        self.stands, self.acted, self.seen = True, 0, 0
        self.refuses: Exception | None = None
        self.knows = True
        self.passes: Callable[[Call], Call] = lambda call: call

    def again(self, call: Call) -> tuple[Call, Again] | None:
        self.seen += 1
        call.record.user = "nobody may read this"
        return (self.passes(call), Again(lambda: self.stands, self._act)) if self.knows else None

    def _act(self, record: Record) -> None:
        self.acted += 1
        record.caller = f"acted {self.acted}"
        if self.refuses is not None:
            raise self.refuses


class Nothing:
    """A policy that only looks."""

    def again(self, call: Call) -> tuple[Call, Again] | None:
        return call, NOTHING


class Answers:
    """One answer, at hand or not."""

    def __init__(self) -> None:
        facts = Facts(id="e", partition="", route="m", created=0.0, expires_at=1e12)
        self.ready: Ready | None = Ready(CHAT, Stored("whole", b'{"usage":null}', None), facts)
        self.at_hand, self.fits = True, True
        self.noted: list[str] = []

    def entry_of(self, _call: Call) -> str:
        return "e"

    def recall(self, _entry: str, _call: Call) -> Ready | None:
        return self.ready if self.at_hand else None

    def reply(self, _call: Call, _ready: Ready) -> Reply | None:
        return Reply.whole(b"short") if self.fits else None

    def note(self, _call: Call, record: Record, _ready: Ready) -> None:
        self.noted.append(record.id)


class Bench:
    """The policy, and a long way behind it that answers from the cache."""

    def __init__(self, limit: int = 10**6) -> None:
        self.step, self.answers, self.long = Step(), Answers(), 0
        self.served: Call | None = make_call()
        self.policy = Repeats([Nothing(), self.step], self.answers, limit)

    async def next(self, call: Call) -> Reply:
        self.long += 1
        reply = Reply.whole(b"long")
        reply.served = self.served
        return reply

    async def ask(self, call: Call | None = None) -> bytes:
        reply = await self.policy(call if call is not None else arrived(), self.next)
        return b"".join([item async for item in reply.items])


def arrived(body: bytes | None = BODY, number: int = 1, **changes: object) -> Call:
    """A call of which nothing has been read, equal to what `Bench` says was served."""
    call = make_call()
    record = Record(id=f"{number:032}", endpoint="chat", started=0.0)
    return call.replace(id=record.id, record=record, arrived=lambda: body, **changes)


async def test_the_second_equal_call_goes_the_short_way() -> None:
    """Each policy does its part, in the call's own record; the long way is not gone."""
    bench = Bench()
    assert await bench.ask() == b"long"
    second = arrived(number=2)
    assert await bench.ask(second) == b"short"
    assert (bench.long, bench.step.acted, second.record.caller) == (1, 1, "acted 1")
    assert bench.answers.noted == [second.id]


async def test_learning_leaves_no_trace_in_a_record() -> None:
    bench = Bench()
    first = arrived()
    await bench.ask(first)
    assert (bench.step.seen, bench.step.acted, first.record.user, first.record.caller) == (1, 0, "", "")


@pytest.mark.parametrize(
    "other",
    [
        arrived(BODY.replace(b"hi", b"ho")),
        arrived(said=b"other headers"),
        arrived(peer="10.0.0.9"),
        arrived(path_model="other"),
        arrived(endpoint=EMBEDDINGS),
    ],
    ids=["body", "headers", "address", "model in the path", "path"],
)
async def test_another_call_goes_the_long_way(other: Call) -> None:
    """In whatever it differs."""
    bench = Bench()
    await bench.ask()
    assert await bench.ask(other) == b"long"
    assert bench.step.acted == 0


@pytest.mark.parametrize("body", [None, b"x" * 40_000], ids=["still to come", "large"])
async def test_a_body_that_is_not_there_or_large_is_not_looked_for(body: bytes | None) -> None:
    bench = Bench()
    for _ in range(2):
        assert await bench.ask(arrived(body)) == b"long"
    assert (bench.step.seen, bench.policy.bytes) == (0, 0)


async def test_only_what_the_cache_answered_is_remembered() -> None:
    bench = Bench()
    bench.served = None
    for _ in range(2):
        assert await bench.ask() == b"long"
    assert bench.policy.bytes == 0


async def test_a_policy_that_must_see_every_call_sees_every_call() -> None:
    """And is asked about such calls once."""
    bench = Bench()
    bench.step.knows = False
    for _ in range(3):
        assert await bench.ask() == b"long"
    assert bench.step.seen == 1


@pytest.mark.parametrize(
    "passes",
    [lambda call: call.replace(caller=Caller(id="k")), lambda call: call.replace(head=make_call(seed=1).head)],
    ids=["another caller", "another head"],
)
async def test_what_policies_make_of_it_must_be_what_was_served(passes: Callable[[Call], Call]) -> None:
    """Else they do not say again what they said."""
    bench = Bench()
    bench.step.passes = passes
    for _ in range(2):
        assert await bench.ask() == b"long"


@pytest.mark.parametrize("what", ["policy", "answer", "shape"])
async def test_what_does_not_stand_any_more_goes_the_long_way(what: str) -> None:
    """Nothing is done twice for it: no policy acts before it is certain."""
    bench = Bench()
    await bench.ask()
    bench.step.stands = what != "policy"
    bench.answers.fits = what != "shape"
    bench.answers.at_hand = what != "answer"
    assert await bench.ask() == b"long"
    assert (bench.step.acted, bench.answers.noted) == (0, [])
    bench.step.stands = bench.answers.fits = bench.answers.at_hand = True
    assert await bench.ask() == b"short"


async def test_an_answer_that_has_to_be_waited_for_is_fetched_on_the_long_way() -> None:
    """Within limits, and once for all who ask; what is known of the call stays."""
    bench = Bench()
    await bench.ask()
    bench.answers.at_hand = False
    assert await bench.ask() == b"long"
    assert (bench.step.acted, bench.step.seen) == (0, 1)
    bench.answers.at_hand = True
    assert await bench.ask() == b"short"
    assert bench.step.seen == 1


async def test_what_is_not_at_hand_is_not_learnt() -> None:
    bench = Bench()
    bench.answers.at_hand = False
    for _ in range(2):
        assert await bench.ask() == b"long"
    assert (bench.step.seen, bench.policy.bytes) == (0, 0)


async def test_an_error_while_learning_is_not_the_callers() -> None:
    """Its answer is good; the next call will hear of what has changed."""
    bench = Bench()

    def changed(_call: Call) -> Call:
        raise UnknownModel("m")

    bench.step.passes = changed
    for _ in range(2):
        assert await bench.ask() == b"long"
    bench.step.passes = lambda call: call
    assert await bench.ask() == b"long"
    assert await bench.ask() == b"short"


async def test_a_policy_refuses_as_it_does_on_the_long_way() -> None:
    """And the next call may pass again."""
    bench = Bench()
    await bench.ask()
    bench.step.refuses = RateLimited("no", unit="requests", headers={})
    with pytest.raises(RateLimited):
        await bench.ask()
    assert (bench.long, bench.answers.noted) == (1, [])
    bench.step.refuses = None
    assert await bench.ask() == b"short"


async def test_so_many_bytes_are_remembered_and_those_used_last() -> None:
    bench = Bench(limit=12_000)
    calls = [arrived(BODY.replace(b"hi", b"h%d" % number)) for number in range(3)]
    for call in (calls[0], calls[1], calls[0], calls[2]):
        await bench.ask(call)
    assert 0 < bench.policy.bytes <= 12_000
    assert [await bench.ask(call) for call in (calls[0], calls[2])] == [b"short", b"short"]
    assert await bench.ask(calls[1]) == b"long"
