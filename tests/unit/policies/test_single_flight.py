import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from support.calls import make_call, text_of

from policies.single_flight import SingleFlight, SingleFlightConfig
from proxy.call import CacheControls, Call, Caller, Usage
from proxy.endpoints import EMBEDDINGS
from proxy.errors import BudgetExceeded, UpstreamInterrupted, UpstreamUnavailable
from proxy.reply import Reply
from proxy.values import Size

Handle = Callable[[Call], Awaitable[Reply]]


class Upstream:
    """A handler that waits until it is let go, and counts its calls."""

    def __init__(self, *items: bytes, streaming: bool = False, error: Exception | None = None) -> None:
        self.calls = 0
        self.seen: list[Call] = []
        self.go = asyncio.Event()
        self.more = asyncio.Event()
        self.more.set()
        self.cancelled = False
        self.closed: list[str] = []
        self._items = items
        self._streaming = streaming
        self._error = error

    async def __call__(self, call: Call) -> Reply:
        self.calls += 1
        self.seen.append(call)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self._error is not None:
            raise self._error
        reply = Reply(self._stream(), streaming=self._streaming)
        reply.on_close(self._note)
        return reply

    async def _stream(self) -> AsyncIterator[bytes]:
        for item in self._items:
            await self.more.wait()
            yield item

    async def _note(self, outcome: str) -> None:
        self.closed.append(outcome)


def policy(**settings: object) -> SingleFlight:
    return SingleFlight(SingleFlightConfig(**settings), lambda _call: b"")  # type: ignore[arg-type]


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_identical_calls_make_one_upstream_call() -> None:
    """Ten at once: one call up, ten answers, one led and nine followed."""
    shared, upstream = policy(), Upstream(b"answer")
    calls = [make_call() for _ in range(10)]
    tasks = [asyncio.create_task(shared(call, upstream)) for call in calls]
    await settle()
    upstream.go.set()
    assert [await text_of(await task) for task in tasks] == [b"answer"] * 10
    assert upstream.calls == 1
    assert [call.record.flight for call in calls] == ["led"] + ["followed"] * 9
    await settle()
    assert upstream.closed == ["complete"]


async def test_callers_that_a_narrower_cache_behind_it_tells_apart_do_not_meet() -> None:
    """The leader may be answered from a partition that is the follower's neither."""
    shared = SingleFlight(SingleFlightConfig(), lambda _call: b"", "tenant", also="key")
    upstream = Upstream(b"answer")
    callers = [Caller(id=each, partition="team") for each in ("a", "b", "a")]
    calls = [make_call().replace(caller=caller) for caller in callers]
    tasks = [asyncio.create_task(shared(call, upstream)) for call in calls]
    await settle()
    upstream.go.set()
    await asyncio.gather(*tasks)
    assert upstream.calls == 2
    assert len({call.fingerprint for call in upstream.seen}) == 1  # which is the exact cache's key


async def test_spelling_does_not_make_a_call_another() -> None:
    """Order of members and spacing do not count; `user` and `metadata` do not change the answer."""
    shared, upstream = policy(), Upstream(b"answer")
    first = make_call(temperature=0, top_p=1)
    other = make_call(top_p=1, temperature=0, user="someone", metadata={"a": "b"})
    tasks = [asyncio.create_task(shared(call, upstream)) for call in (first, other)]
    await settle()
    upstream.go.set()
    await asyncio.gather(*tasks)
    assert upstream.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        make_call(messages=[{"role": "user", "content": "hi!"}]),
        make_call(temperature=0.5),
        make_call(unknown_member=1),
        make_call(seed=2**62),
        make_call(caller=Caller(id="b", partition="b")),
        make_call(stream=True),
        make_call().replace(cache=CacheControls(look_up=False)),
        make_call().replace(cache=CacheControls(namespace="n")),
    ],
    ids=["text", "temperature", "unknown member", "seed", "partition", "stream", "no-cache", "namespace"],
)
async def test_different_calls_do_not_meet(other: Call) -> None:
    """Another text, member, partition or shape is another call."""
    shared, upstream = policy(), Upstream(b"answer")
    upstream.go.set()
    tasks = [asyncio.create_task(shared(call, upstream)) for call in (make_call(), other)]
    await asyncio.gather(*tasks)
    assert upstream.calls == 2


@pytest.mark.parametrize(
    "call",
    [
        make_call(n=2),
        make_call(temperature=1.5),
        make_call(store=True),
        make_call().replace(cache=CacheControls(store=False)),
        make_call(headers={"x-lockgate-timeout": "5"}),
    ],
    ids=["n", "hot", "stored", "no-store", "own deadline"],
)
async def test_what_no_cache_could_serve_flies_alone(call: Call) -> None:
    """Sampled, stored and private calls are never shared."""
    shared, upstream = policy(), Upstream(b"answer")
    upstream.go.set()
    await asyncio.gather(*(shared(call, upstream) for _ in range(3)))
    assert upstream.calls == 3


async def test_a_follower_of_a_stream_gets_it_from_its_beginning_as_it_grows() -> None:
    """Who joins late first reads what has passed, then goes along."""
    shared, upstream = policy(), Upstream(b"1", b"2", b"3", streaming=True)
    upstream.go.set()
    upstream.more.clear()
    leader = await shared(make_call(stream=True), upstream)
    upstream.more.set()
    assert await anext(leader.items) == b"1"
    await settle()
    upstream.more.clear()
    follower = await shared(make_call(stream=True), upstream)
    assert await anext(follower.items) == b"1"
    upstream.more.set()
    assert await text_of(follower) == b"23"
    assert await text_of(leader) == b"23"
    assert upstream.calls == 1


async def test_a_leaving_starter_does_not_cut_its_followers_off() -> None:
    """The flight is its own task; it ends when the last caller leaves."""
    shared, upstream = policy(), Upstream(b"answer")
    starter = asyncio.create_task(shared(make_call(), upstream))
    await settle()
    follower = asyncio.create_task(shared(make_call(), upstream))
    await settle()
    starter.cancel()
    await settle()
    assert not upstream.cancelled
    upstream.go.set()
    assert await text_of(await follower) == b"answer"


async def test_when_everybody_leaves_the_upstream_call_is_cancelled() -> None:
    """Nobody pays for an answer that nobody reads; the next call starts anew."""
    shared, upstream = policy(), Upstream(b"answer")
    tasks = [asyncio.create_task(shared(make_call(), upstream)) for _ in range(3)]
    await settle()
    for task in tasks:
        task.cancel()
    await settle()
    assert upstream.cancelled
    upstream.go.set()
    assert await text_of(await shared(make_call(), upstream)) == b"answer"
    assert upstream.calls == 2


async def test_leaving_in_the_middle_of_a_stream_closes_the_upstream() -> None:
    """The last reader's departure closes the inner reply."""
    shared, upstream = policy(), Upstream(b"1", b"2", streaming=True)
    upstream.go.set()
    reply = await shared(make_call(stream=True), upstream)
    assert await anext(reply.items) == b"1"
    await reply.aclose("client_disconnect")
    await settle()
    assert len(upstream.closed) == 1
    assert upstream.closed != ["complete"]


async def test_an_upstream_error_is_shared_and_not_multiplied() -> None:
    """One failed call up, the same error for everyone."""
    shared = policy()
    upstream = Upstream(error=UpstreamUnavailable("no", kind="status"))
    tasks = [asyncio.create_task(shared(make_call(), upstream)) for _ in range(5)]
    await settle()
    upstream.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [UpstreamUnavailable] * 5
    assert upstream.calls == 1


async def test_an_error_of_the_starters_own_passes_the_flight_on() -> None:
    """A budget that is spent is the starter's: the next caller flies itself."""
    shared, poor, rich = policy(), Upstream(error=BudgetExceeded("spent")), Upstream(b"answer")
    starter = asyncio.create_task(shared(make_call(), poor))
    await settle()
    follower = asyncio.create_task(shared(make_call(), rich))
    await settle()
    poor.go.set()
    rich.go.set()
    with pytest.raises(BudgetExceeded):
        await starter
    assert await text_of(await follower) == b"answer"
    assert (poor.calls, rich.calls) == (1, 1)


async def test_a_bug_below_reaches_everyone_and_hangs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen exception ends the flight as an internal error."""
    shared, upstream = policy(), Upstream(error=RuntimeError("bug"))
    tasks = [asyncio.create_task(shared(make_call(), upstream)) for _ in range(2)]
    await settle()
    upstream.go.set()
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["InternalError"] * 2
    assert "a shared call failed" in caplog.text


async def test_the_upstream_is_not_read_ahead_of_its_fastest_reader() -> None:
    """Backpressure: what nobody has taken is not pulled."""
    pulled = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x"

    async def handler(_call: Call) -> Reply:
        return Reply(endless(), streaming=True)

    reply = await policy()(make_call(stream=True), handler)
    for _ in range(5):
        await anext(reply.items)
    await settle()
    assert pulled <= 6
    await reply.aclose("client_disconnect")


async def test_a_laggard_is_cut_off_and_the_buffer_stays_bounded() -> None:
    """One reader stalls; the others go on; it is told so when it comes back."""
    shared = policy(buffer=Size(1000))
    upstream = Upstream(*[b"x" * 100] * 100, streaming=True)
    upstream.go.set()
    fast = await shared(make_call(stream=True), upstream)
    slow = await shared(make_call(stream=True), upstream)
    assert len(await text_of(fast)) == 10_000
    with pytest.raises(UpstreamInterrupted):
        await text_of(slow)


async def test_embeddings_are_shared_too() -> None:
    """Identical inputs at the same time make one call."""
    shared, upstream = policy(), Upstream(b"vectors")
    upstream.go.set()
    tasks = [asyncio.create_task(shared(make_call(endpoint=EMBEDDINGS, input="text"), upstream)) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert upstream.calls == 1


class Counting(Upstream):
    """Sets the usage on the record of whoever began, before the last item, as a provider does."""

    async def __call__(self, call: Call) -> Reply:
        self._record = call.record
        return await super().__call__(call)

    async def _stream(self) -> AsyncIterator[bytes]:
        for item in self._items[:-1]:
            await self.more.wait()
            yield item
        await self.more.wait()
        self._record.usage = Usage(7, 8)
        yield self._items[-1]


async def test_a_follower_knows_the_usage_before_its_last_item() -> None:
    """Its record is sealed then."""
    shared, upstream = policy(), Counting(b"1", b"2", streaming=True)
    upstream.go.set()
    upstream.more.clear()
    calls = [make_call(stream=True), make_call(stream=True)]
    replies = [await shared(call, upstream) for call in calls]
    upstream.more.set()

    async def take(call: Call, reply: Reply) -> Usage | None:
        await anext(reply.items)
        assert call.record.usage is None
        assert await anext(reply.items) == b"2"
        return call.record.usage

    assert await asyncio.gather(*map(take, calls, replies)) == [Usage(7, 8)] * 2


async def test_a_starter_that_left_is_amended_once_its_usage_is_known() -> None:
    """Followers go on at its expense; one that leaves a call of its own and used nothing is not."""
    amended: list[Call] = []
    shared = SingleFlight(SingleFlightConfig(), lambda _call: b"", amend=amended.append)
    upstream = Counting(b"1", b"2", streaming=True)
    upstream.go.set()
    upstream.more.clear()
    starter = make_call(stream=True)
    leaving, staying = await shared(starter, upstream), await shared(make_call(stream=True), upstream)
    await leaving.aclose("client_disconnect")
    assert amended == []
    upstream.more.set()
    await text_of(staying)
    await settle()
    assert [each.record for each in amended] == [starter.record]
    assert starter.record.usage == Usage(7, 8)

    alone = Upstream(b"1", b"2", streaming=True)
    alone.go.set()
    await (await shared(make_call(stream=True), alone)).aclose("client_disconnect")
    await settle()
    assert alone.closed
    assert [each.record for each in amended] == [starter.record]


async def test_a_flight_that_is_over_is_closed_as_it_ended_though_everybody_leaves() -> None:
    """Letting the upstream go may take a moment; what is to be told of a complete answer, such as to a cache, is told."""
    closed: list[str] = []

    class Slow:
        """Items that take a moment to let go."""

        def __init__(self) -> None:
            self.left = [b"data: 1\n\n", b"data: [DONE]\n\n"]

        def __aiter__(self) -> "Slow":
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

        async def aclose(self) -> None:
            await asyncio.sleep(0.01)

    async def innermost(_call: Call) -> Reply:
        reply = Reply(Slow(), streaming=True)

        async def close(outcome: str) -> None:
            closed.append(outcome)

        reply.on_close(close)
        return reply

    reply = await SingleFlight(SingleFlightConfig(), lambda _: b"")(make_call(temperature=0), innermost)
    assert len([item async for item in reply.items]) == 2
    await reply.aclose("complete")
    assert closed == ["complete"]
