"""What limits and bounds add to a call, with ten thousand callers and as many addresses counted in memory."""

import asyncio

from calls import a_call, request
from micro import Cases, Timed

from adapters.limits_storage import LazyStorage
from policies.caller_limits import CallerLimits, CallerLimitsConfig
from policies.client_limits import ClientLimits, ClientLimitsConfig
from policies.parameters import Parameters, ParametersConfig
from policies.rename import renamed
from policies.short_form import as_chat
from proxy.call import Call, Caller, Usage
from proxy.chain import Policy, chain
from proxy.claims import Claim
from proxy.places import Capacity, Places
from proxy.reply import Reply
from proxy.values import Rate

_LIVE = 10_000
_AT_ONCE = 50
_MANY = 10**9
_CLIENTS = ClientLimitsConfig(requests=Rate((_MANY, 60)), applies_to="all", trusted_proxies=("10.0.0.0/8",))
_CALLERS = CallerLimitsConfig(requests=Rate((_MANY, 60)), tokens=Rate((_MANY * 1000, 60)), parallel=64)
_BOUNDS = ParametersConfig(temperature=(0.0, 1.0), top_p=(0.0, 1.0), n=(1, 4), max_tokens=(1, 4096))


def _full() -> LazyStorage:
    """A store with ten thousand live keys of each kind."""
    store = LazyStorage()

    async def fill() -> None:
        for number in range(_LIVE):
            for kind in ("client:60:198.51", "requests:60:key:k", "tokens:60:key:k"):
                await store.claim([Claim(f"{kind}{number}", _MANY, 60)])

    coroutine = fill()
    try:
        coroutine.send(None)  # memory never waits
    except StopIteration:
        return store
    raise AssertionError("the storage in memory waited")


async def _answer(call: Call) -> Reply:
    call.record.usage = Usage(prompt=200, completion=120)
    return Reply.whole(b"{}")


def _timed(*policies: Policy) -> Timed:
    """Fifty different callers at once, each with a whole answer whose usage is known."""
    handler = chain(policies, _answer)
    body = request(1000)
    calls = [
        a_call(body).replace(caller=Caller(id=f"k{number * 100}", kind="key"), peer=f"198.51.100.{number}")
        for number in range(_AT_ONCE)
    ]

    async def one(call: Call) -> None:
        reply = await handler(call)
        async for _ in reply.items:
            pass
        await reply.aclose("complete")

    async def all_at_once() -> None:
        await asyncio.gather(*(one(call) for call in calls))

    return all_at_once


def register(cases: Cases) -> None:
    """Of fifty calls: the goal of one call's limits is 40 µs more than none."""
    cases.case("limits: 50 calls without any")(_timed)
    cases.case("limits: 50 calls, per client")(lambda: _timed(ClientLimits(_CLIENTS, _full())))
    cases.case("limits: 50 calls, per caller (requests, tokens, parallel)")(
        lambda: _timed(CallerLimits(_CALLERS, _full()))
    )

    @cases.case("limits: 50 calls, all", goal_ns=_AT_ONCE * 40_000)
    def every() -> Timed:
        store = _full()
        return _timed(ClientLimits(_CLIENTS, store), CallerLimits(_CALLERS, store))

    @cases.case("limits: one window of 10,000 live ones", goal_ns=5_000)
    def window() -> Timed:
        store, claims = _full(), [Claim("requests:60:key:k77", _MANY, 60)]

        async def claim() -> None:
            await store.claim(claims)

        return claim

    @cases.case("limits: a place in an empty line", goal_ns=1_000)
    def place() -> Timed:
        places, capacity, holder = Places(), Capacity(1000, 100, 1.0), object()

        def take() -> None:
            places.take(holder, capacity)
            places.leave(holder)

        return take

    _register_bounds(cases)


def _register_bounds(cases: Cases) -> None:
    policy = Parameters(_BOUNDS)
    bounded = a_call(request(1000).replace(b'"temperature": 0.2', b'"temperature": 0.2, "max_tokens": 100'))
    silent = a_call(request(1000))
    narrowed = bounded.replace(caller=Caller(id="k", bounds={"max_tokens": (1, 1000)}))

    def writes() -> None:
        silent.record.changed = []
        policy.held(silent)

    cases.case("parameters: four bounds, all kept", goal_ns=3_000)(lambda: lambda: policy.held(bounded))
    cases.case("parameters: and the caller's own", goal_ns=3_000)(lambda: lambda: policy.held(narrowed))
    cases.case("parameters: an absent max_tokens written in")(lambda: writes)
    cases.case("rename: max_tokens")(lambda: lambda: renamed(bounded.head.members, {"max_tokens": "x"}))
    cases.case("short form: the chat body of a prompt")(
        lambda: lambda: as_chat(b'{"model": "gpt-4o", "prompt": "Say hello.", "temperature": 0.2, "max_tokens": 100}')
    )
