"""Requests, tokens and calls at a time of one caller."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from support.calls import Clock, make_call, text_of

from adapters.limits_storage import LazyStorage
from policies.caller_limits import CallerLimits, CallerLimitsConfig
from policies.token_estimate import estimate
from proxy.call import Call, Caller, Outcome, Record, Usage
from proxy.chain import Handler, chain
from proxy.claims import Claim, Grant, Lease, Standing
from proxy.errors import GuardBlocked, RateLimited, UpstreamUnavailable
from proxy.paths import MODELS
from proxy.reply import Reply
from proxy.values import Rate

KEY = Caller(id="k1", kind="key")
TOKENS = Rate((1000, 60))


def limited(innermost: Handler, clock: Callable[[], float] | None = None, **settings: object) -> Handler:
    config = CallerLimitsConfig(**settings)  # type: ignore[arg-type]
    return chain([CallerLimits(config, LazyStorage(clock or Clock()))], innermost)


def answering(usage: Usage | None = None, *, cache: str = "") -> Handler:
    async def innermost(call: Call) -> Reply:
        call.record.usage, call.record.cache = usage, cache
        return Reply.whole(b"{}")

    return innermost


async def events() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"data: {}\n\n"


def streaming(usage: Usage | None) -> Handler:
    """Its usage is known only at the end, as a provider's is."""

    async def innermost(call: Call) -> Reply:
        reply = Reply(events(), streaming=True)

        async def end(_outcome: Outcome) -> None:
            call.record.usage = usage

        call.record.stream, call.record.events = True, 30
        reply.on_close(end)
        return reply

    return innermost


def call_of(caller: Caller = KEY, **members: Any) -> Call:
    call = make_call(caller=caller, **members)
    call.record.id = call.id
    return call.replace(id=f"{id(call):032x}")


def left(call: Call) -> tuple[int | None, int | None]:
    """What the headers will say remains, of requests and tokens."""
    requests, tokens = call.record.requests, call.record.tokens
    return requests.remaining if requests else None, tokens.remaining if tokens else None


async def send(handle: Handler, call: Call) -> tuple[int | None, int | None]:
    """The whole call; what remains as its headers say it."""
    reply = await handle(call)
    said = left(call)
    await text_of(reply)
    return said


async def test_requests_are_counted_by_caller() -> None:
    """Each has its own window; the configuration's rate may be of any length."""
    clock = Clock()
    handle = limited(answering(), clock, requests=Rate((2, 3600)))
    assert [await send(handle, call_of()) for _ in range(2)] == [(1, None), (0, None)]
    clock.now += 3000
    call = call_of()
    with pytest.raises(RateLimited) as caught:
        await handle(call)
    assert caught.value.headers == {"retry-after": "600", "retry-after-ms": "600000", "x-should-retry": "false"}
    assert json.loads(caught.value.body())["error"]["type"] == "requests"
    assert left(call) == (0, None)
    assert await send(handle, call_of(Caller(id="k1", kind="token"))) == (1, None)
    clock.now += 600
    assert await send(handle, call_of()) == (1, None)


async def test_a_callers_own_values_take_the_place_of_the_configurations() -> None:
    """Per minute; a zero lets nothing pass."""
    handle = limited(answering(), requests=Rate((5, 3600)), tokens=Rate((100, 60)))
    own = msgspec.structs.replace(KEY, requests=9, tokens=5000)
    call = call_of(own)
    await send(handle, call)
    assert call.record.requests is not None
    assert call.record.tokens is not None
    assert (call.record.requests.limit, call.record.requests.reset, call.record.tokens.limit) == (9, 60, 5000)
    for nothing in ({"requests": 0}, {"tokens": 0}, {"parallel": 0}):
        with pytest.raises(RateLimited):
            await handle(call_of(msgspec.structs.replace(KEY, **nothing)))


async def test_a_caller_without_any_limit_passes_untouched() -> None:
    """And asks no store."""

    class Unasked:
        def claim_now(self, claims: object, lease: Lease | None = None) -> Grant:
            raise AssertionError("nothing to ask")

        async def claim(self, claims: object, lease: Lease | None = None) -> Grant:
            raise AssertionError("nothing to ask")

        def correct(self, claim: Claim, standing: Standing, by: int) -> None: ...
        def release(self, lease: Lease) -> None: ...

    await send(chain([CallerLimits(CallerLimitsConfig(), Unasked())], answering()), call_of())


async def test_tokens_are_estimated_and_a_whole_answer_corrects_them_before_its_headers() -> None:
    """The caller sees what is really left."""
    handle = limited(answering(Usage(prompt=30, completion=20)), tokens=TOKENS)
    assert await send(handle, call_of(max_tokens=700)) == (None, 950)
    assert await send(handle, call_of(max_tokens=700)) == (None, 900)


async def test_an_estimate_that_does_not_fit_is_refused_and_takes_nothing() -> None:
    """Type tokens; a smaller call still passes."""
    handle = limited(answering(Usage(prompt=500, completion=100)), tokens=TOKENS, requests=Rate((9, 60)))
    await send(handle, call_of(max_tokens=100))
    call = call_of(max_tokens=700)
    with pytest.raises(RateLimited) as caught:
        await handle(call)
    assert json.loads(caught.value.body())["error"]["type"] == "tokens"
    assert left(call) == (8, 400)
    assert await send(handle, call_of(max_tokens=100)) == (7, 0)


async def test_a_call_larger_than_the_window_passes_when_the_window_is_untouched() -> None:
    """It could never pass else; then it takes all of it until its usage is known."""
    handle = limited(answering(Usage(prompt=10, completion=5)), tokens=TOKENS)
    assert await send(handle, call_of(max_tokens=100_000)) == (None, 985)
    with pytest.raises(RateLimited):
        await handle(call_of(max_tokens=100_000))


@pytest.mark.parametrize(
    ("usage", "remaining"),
    [
        (Usage(prompt=100, completion=150), 750),
        (Usage(prompt=900, completion=900), 0),
        (None, 1000 - 18 - 30),  # nobody counted: the prompt's estimate, and a token an event
    ],
)
async def test_a_stream_is_corrected_at_its_end(usage: Usage | None, remaining: int) -> None:
    """Its headers still had the estimate; what it used beyond it counts."""
    handle = limited(streaming(usage), tokens=TOKENS)
    call = call_of(stream=True)
    assert await send(handle, call) == (None, 1000 - 18 - 500)
    assert left(call)[1] == remaining


async def test_what_a_failed_call_did_not_use_is_given_back() -> None:
    """Tokens and place; the request was made."""

    async def fails(_call: Call) -> Reply:
        raise UpstreamUnavailable("no", kind="status")

    handle = limited(fails, requests=Rate((9, 60)), tokens=TOKENS, parallel=1)
    for remaining in (8, 7):
        call = call_of()
        with pytest.raises(UpstreamUnavailable):
            await handle(call)
        assert left(call) == (remaining, 1000)


async def test_a_cache_hit_takes_no_tokens() -> None:
    """It costs no provider any."""
    handle = limited(answering(Usage(prompt=300, completion=300), cache="hit-exact"), tokens=TOKENS)
    for _ in range(5):
        assert await send(handle, call_of()) == (None, 1000)


async def test_an_answer_without_usage_keeps_its_estimate() -> None:
    """Nobody knows better."""
    call = call_of(max_tokens=100)
    assert await send(limited(answering(None), tokens=TOKENS), call) == (None, 1000 - sum(estimate(call, 0)))


async def test_places_are_held_until_the_reply_is_closed() -> None:
    """Not until it is returned: a stream runs on."""
    handle = limited(streaming(None), parallel=2)
    replies = [await handle(call_of()) for _ in range(2)]
    call = call_of()
    with pytest.raises(RateLimited) as caught:
        await handle(call)
    assert caught.value.headers == {"retry-after": "1", "retry-after-ms": "1000"}
    assert "2 calls at the same time" in caught.value.message
    await text_of(replies[0])
    third = await handle(call_of())
    with pytest.raises(RateLimited):
        await handle(call_of())
    for reply in (replies[1], third):
        await text_of(reply)


@pytest.mark.parametrize("error", [UpstreamUnavailable("no", kind="x"), GuardBlocked("no"), asyncio.CancelledError()])
async def test_a_place_is_given_back_however_the_call_fails(error: BaseException) -> None:
    """Failures, our own refusals, clients that left before the first byte."""

    async def fails(_call: Call) -> Reply:
        raise error

    handle = limited(fails, parallel=1)
    for _ in range(3):
        with pytest.raises(type(error)):
            await handle(call_of())


async def test_a_place_is_given_back_once() -> None:
    """A reply closed twice frees one place, not two."""
    store = LazyStorage(Clock())
    handle = chain([CallerLimits(CallerLimitsConfig(parallel=2), store)], streaming(None))
    first, second = await handle(call_of()), await handle(call_of())
    await first.aclose("client_disconnect")
    await first.aclose("complete")
    assert [len(holders) for holders in store._places.values()] == [1]
    await second.aclose("complete")
    assert not store._places


async def test_the_model_list_counts_as_a_request_and_takes_no_tokens() -> None:
    """It has no body."""
    handle = limited(answering(), requests=Rate((1, 60)), tokens=TOKENS, parallel=1)

    def listing() -> Call:
        record = Record(id="1", endpoint="models", started=0.0)
        return Call(id="1", endpoint=MODELS, headers={}, record=record, caller=KEY)

    assert await send(handle, listing()) == (0, None)
    with pytest.raises(RateLimited):
        await handle(listing())


async def test_callers_who_send_the_same_bytes_have_windows_of_their_own() -> None:
    """What is kept with a body that was read once is nobody else's: not a name, not a rate."""
    handle = limited(answering(Usage(prompt=30, completion=20)), requests=Rate((9, 60)), tokens=TOKENS)
    call = call_of()
    other = msgspec.structs.replace(KEY, id="k2", tokens=5000)
    for caller, remaining in ((KEY, (8, 950)), (other, (8, 4950)), (KEY, (7, 900)), (other, (7, 4900))):
        assert await send(handle, call.replace(caller=caller)) == remaining


async def test_a_caller_that_was_changed_meets_its_new_limits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the window it has begun; what is remembered of callers stays bounded and changes nothing."""
    monkeypatch.setattr("policies.caller_limits._REMEMBERED", 2)
    store = LazyStorage(Clock())
    policy = CallerLimits(CallerLimitsConfig(requests=Rate((9, 60))), store)
    handle = chain([policy], answering())
    assert await send(handle, call_of()) == (8, None)
    for limit, remaining in ((5, 3), (4, 1), (50, 46)):
        assert await send(handle, call_of(msgspec.structs.replace(KEY, requests=limit))) == (remaining, None)
    assert await send(handle, call_of()) == (4, None)
    assert len(policy._known) <= 2


async def test_a_caller_read_anew_is_the_same_caller() -> None:
    """A token is verified every minute: what was begun goes on, and a refusal still says what ran out."""
    handle = limited(answering(), requests=Rate((1, 60)), tokens=TOKENS)
    call = call_of()
    await send(handle, call)
    with pytest.raises(RateLimited) as caught:
        await handle(call.replace(caller=msgspec.structs.replace(KEY)))
    assert json.loads(caught.value.body())["error"]["type"] == "requests"


async def test_a_store_that_is_away_leaves_no_trace_in_the_headers() -> None:
    """Nothing was counted, nothing is corrected; a place it may have given is given back."""
    released: list[Lease] = []

    class Away:
        def claim_now(self, claims: object, lease: Lease | None = None) -> None: ...

        async def claim(self, claims: object, lease: Lease | None = None) -> Grant:
            return Grant()

        def correct(self, claim: Claim, standing: Standing, by: int) -> None:
            raise AssertionError("nothing was granted")

        def release(self, lease: Lease) -> None:
            released.append(lease)

    config = CallerLimitsConfig(requests=Rate((1, 60)), tokens=TOKENS, parallel=1)
    call = call_of()
    assert await send(chain([CallerLimits(config, Away())], answering(Usage(1, 1))), call) == (None, None)
    assert [lease.holder for lease in released] == [call.id]
