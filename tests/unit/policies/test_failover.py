import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest
from support.calls import Clock, Provider, answers, breaks, make_call, make_route, text_of

from policies.attempt import SendOnce
from policies.cooldown import CooldownConfig, Cooldowns
from policies.failover import Failover, FailoverConfig
from proxy.call import Call
from proxy.deployments import Deployment, Route
from proxy.errors import (
    BadRequest,
    NoDeployment,
    UpstreamDenied,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from proxy.reply import Reply
from proxy.values import Duration


class Bench:
    """A failover over scripted routes with a clock that tests move."""

    def __init__(self, config: FailoverConfig | None = None, routes: dict[str, Route] | None = None) -> None:
        self.clock = Clock()
        self.cooldowns = Cooldowns(CooldownConfig(), self.clock)
        self.routes = routes or {}
        self.failover = Failover(
            config or FailoverConfig(),
            self.cooldowns,
            find_route=self.routes.__getitem__,
            now=self.clock,
            sleep=self.clock.sleep,
            random=Random(1),
        )

    async def __call__(self, call: Call) -> Reply:
        return await self.failover(call, SendOnce(self.clock))


def failing(error: UpstreamError) -> Callable[[Call, Deployment], Awaitable[Reply]]:
    async def fail(_call: Call, _deployment: Deployment) -> Reply:
        raise error

    return fail


def by_model(**behaviours: Callable[[Call, Deployment], Awaitable[Reply]]) -> Provider:
    async def behave(call: Call, deployment: Deployment) -> Reply:
        return await behaviours[deployment.model](call, deployment)

    return Provider(behave)


def limited(retry_after: float | None) -> UpstreamLimited:
    return UpstreamLimited("no", retry_after=retry_after, exhausted=False)


def refused(code: str | None = None) -> UpstreamRefused:
    return UpstreamRefused(upstream_status=400, raw=b"{}", code=code)


async def test_a_deployment_is_tried_again_and_then_the_next() -> None:
    """Two tries each, in the configured order; every attempt is in the record, in order."""
    provider = by_model(a=breaks, b=answers)
    bench, call = Bench(), make_call(route=make_route(provider, "a", "b"))
    assert await text_of(await bench(call)) == b"b"
    assert provider.asked == ["a", "a", "b"]
    assert [(each.model, each.kind) for each in call.record.attempts] == [("a", "status"), ("a", "status"), ("b", "ok")]


async def test_the_clients_own_fault_is_final() -> None:
    """A 400 is tried nowhere else and does not count against the deployment."""
    provider = by_model(a=failing(refused()), b=answers)
    bench = Bench()
    with pytest.raises(UpstreamRefused):
        await bench(make_call(route=make_route(provider, "a", "b")))
    assert provider.asked == ["a"]
    assert bench.cooldowns.standing("p/a") == "open"


async def test_a_bad_credential_of_ours_fails_over_without_a_retry() -> None:
    """401 goes to the next deployment at once, and this one rests."""
    provider = by_model(a=failing(UpstreamDenied("no", kind="denied", upstream_status=401)), b=answers)
    bench = Bench()
    await text_of(await bench(make_call(route=make_route(provider, "a", "b"))))
    assert provider.asked == ["a", "b"]
    assert bench.cooldowns.standing("p/a") == "cooling"


async def test_the_last_curable_failure_is_what_the_client_is_told() -> None:
    """A 503 and then a 401: the client hears of the 503, for another try may cure that."""
    provider = by_model(a=breaks, b=failing(UpstreamDenied("no", kind="denied", upstream_status=401)))
    with pytest.raises(UpstreamUnavailable) as caught:
        await Bench()(make_call(route=make_route(provider, "a", "b")))
    assert caught.value.headers["x-should-retry"] == "false"


async def test_a_wait_that_is_asked_for_is_kept() -> None:
    """Retry-After is waited for before the same deployment is tried again, and stands in the record."""
    provider = by_model(a=failing(limited(3.0)))
    bench, call = Bench(), make_call(route=make_route(provider, "a"))
    with pytest.raises(UpstreamLimited) as caught:
        await bench(call)
    assert bench.clock.slept == [3.0]
    assert [each.wait for each in call.record.attempts] == [0.0, 3.0]
    assert caught.value.headers["retry-after"] == "3"


async def test_nobody_waits_past_the_deadline() -> None:
    """A wait that does not fit is not begun: the next deployment is tried at once and this one rests that long."""
    provider = by_model(a=failing(limited(700.0)), b=answers)
    bench = Bench()
    await text_of(await bench(make_call(route=make_route(provider, "a", "b"))))
    assert bench.clock.slept == []
    assert bench.cooldowns.remaining("p/a") == pytest.approx(700.0)


async def test_nobody_waits_long_for_one_deployment_while_another_is_at_hand() -> None:
    """Over `patience` the next is tried at once."""
    provider = by_model(a=failing(limited(60.0)), b=answers)
    bench = Bench()
    await text_of(await bench(make_call(route=make_route(provider, "a", "b"))))
    assert bench.clock.slept == []


async def test_a_spent_quota_never_waits() -> None:
    """`insufficient_quota` goes to the next at once."""
    spent = UpstreamLimited("no", retry_after=1.0, exhausted=True)
    provider = by_model(a=failing(spent), b=answers)
    bench = Bench()
    await text_of(await bench(make_call(route=make_route(provider, "a", "b"))))
    assert provider.asked == ["a", "b"]
    assert bench.clock.slept == []


async def test_backoff_is_jittered_and_capped() -> None:
    """Waits are random between nothing and the doubled base, at most the cap."""
    config = FailoverConfig(tries=6, max_attempts=6, backoff=Duration(1), backoff_cap=Duration(3))
    bench = Bench(config)
    with pytest.raises(UpstreamUnavailable):
        await bench(make_call(route=make_route(Provider(breaks), "a")))
    bounds = [1, 2, 3, 3, 3]
    assert all(0 <= slept <= bound for slept, bound in zip(bench.clock.slept, bounds, strict=True))
    assert len(set(bench.clock.slept)) == len(bounds)


async def test_attempts_have_one_cap_for_the_whole_call() -> None:
    """However many deployments and tries there are."""
    provider = Provider(breaks)
    with pytest.raises(UpstreamUnavailable):
        await Bench(FailoverConfig(max_attempts=3))(make_call(route=make_route(provider, "a", "b", "c")))
    assert len(provider.asked) == 3


async def test_a_client_may_shorten_the_deadline_and_not_lengthen_it() -> None:
    """`x-lockgate-timeout` bounds the waits; nonsense in it is the client's error."""
    provider = by_model(a=failing(limited(3.0)))
    bench = Bench()
    with pytest.raises(UpstreamLimited):
        await bench(make_call(route=make_route(provider, "a"), headers={"x-lockgate-timeout": "2"}))
    assert bench.clock.slept == []
    with pytest.raises(BadRequest):
        await bench(make_call(route=make_route(provider, "a"), headers={"x-lockgate-timeout": "soon"}))


async def test_a_cooling_deployment_is_passed_over() -> None:
    """What rests is not tried while another is awake."""
    provider = Provider(answers)
    bench = Bench()
    bench.cooldowns.failed("p/a", limited(60.0))
    assert await text_of(await bench(make_call(route=make_route(provider, "a", "b")))) == b"b"
    assert provider.asked == ["b"]


async def test_when_everything_rests_the_soonest_is_tried_once() -> None:
    """One probe of the one that wakes first; if it answers, that is the answer."""
    provider = Provider(answers)
    bench = Bench()
    bench.cooldowns.failed("p/a", limited(60.0))
    bench.cooldowns.failed("p/b", limited(20.0))
    assert await text_of(await bench(make_call(route=make_route(provider, "a", "b")))) == b"b"


async def test_when_everything_rests_and_the_probe_fails_the_client_is_told_when_to_come_back() -> None:
    """503 with Retry-After, after one attempt."""
    provider = Provider(failing(limited(20.0)))
    bench = Bench()
    bench.cooldowns.failed("p/a", limited(60.0))
    bench.cooldowns.failed("p/b", limited(20.0))
    with pytest.raises(NoDeployment) as caught:
        await bench(make_call(route=make_route(provider, "a", "b")))
    assert provider.asked == ["b"]
    assert caught.value.headers["retry-after"] == "20"


async def test_two_calls_do_not_probe_the_same_deployment() -> None:
    """While one call probes, another is refused at once rather than piling on."""
    release = asyncio.Event()

    async def slow(call: Call, deployment: Deployment) -> Reply:
        await release.wait()
        return await answers(call, deployment)

    provider = Provider(slow)
    bench, route = Bench(), make_route(provider, "a")
    bench.cooldowns.failed("p/a", limited(5.0))
    first = asyncio.create_task(bench(make_call(route=route)))
    await asyncio.sleep(0)
    with pytest.raises(NoDeployment):
        await bench(make_call(route=route))
    release.set()
    assert await text_of(await first) == b"a"
    assert provider.asked == ["a"]


async def test_a_call_whose_client_leaves_frees_its_probe() -> None:
    """A cancelled probe is no verdict: the next call may probe."""

    async def never(_call: Call, _deployment: Deployment) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    bench = Bench()
    bench.cooldowns.failed("p/a", limited(5.0))
    task = asyncio.create_task(bench(make_call(route=make_route(Provider(never), "a"))))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.clock.now += 5
    assert bench.cooldowns.standing("p/a") == "probe"


async def test_fallback_routes_follow_the_routes_own_deployments() -> None:
    """Fallbacks come after, in order, and the record counts how far the call went."""
    provider = by_model(a=breaks, b=breaks, c=answers)
    bench = Bench(routes={"second": make_route(provider, "b"), "third": make_route(provider, "c")})
    call = make_call(route=make_route(provider, "a", fallbacks=("second", "third")))
    assert await text_of(await bench(call)) == b"c"
    assert call.record.fallbacks == 2


@pytest.mark.parametrize(
    ("code", "setting"),
    [("context_length_exceeded", "context_window_fallbacks"), ("content_policy_violation", "content_policy_fallbacks")],
)
async def test_a_refusal_with_a_cure_goes_to_its_own_fallbacks(code: str, setting: str) -> None:
    """Too long a context goes to the routes configured for it, and to no others."""
    provider = by_model(a=failing(refused(code)), big=answers, other=breaks)
    bench = Bench(routes={"large": make_route(provider, "big"), "rest": make_route(provider, "other")})
    call = make_call(route=make_route(provider, "a", fallbacks=("rest",), **{setting: ("large",)}))
    assert await text_of(await bench(call)) == b"big"
    assert provider.asked == ["a", "big"]


async def test_a_committed_stream_that_breaks_counts_against_its_deployment() -> None:
    """An interruption after the commit point is a failure of the deployment, though the call cannot be tried again."""

    async def cut(_call: Call, _deployment: Deployment) -> Reply:
        async def items() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise UpstreamInterrupted("cut", kind="cut")

        return Reply(items(), streaming=True)

    bench, route = Bench(), make_route(Provider(cut), "a")
    for _ in range(3):  # each is a good commit and a bad end: the third makes it half of six
        reply = await bench(make_call(route=route))
        await reply.aclose("upstream_interrupted")
    assert bench.cooldowns.standing("p/a") == "cooling"


async def test_weights_share_the_first_place() -> None:
    """A deployment of three times the weight comes first three times as often."""
    provider = Provider(answers)
    route = make_route(provider, "a", "b", strategy="weighted")
    heavy = Deployment(id="p/b", provider_name="p", model="b", provider=provider, weight=3.0)
    route = make_route(provider, strategy="weighted", deployments=(route.deployments[0], heavy))
    bench = Bench()
    for _ in range(2000):
        await text_of(await bench(make_call(route=route)))
    share = provider.asked.count("b") / 2000
    assert 0.71 < share < 0.79


async def test_the_fastest_comes_first_when_asked_for() -> None:
    """`least-latency` orders by the smoothed time to the commit point; the unknown is tried before the known."""
    bench, provider = Bench(), Provider(answers)
    bench.cooldowns.succeeded("p/a", 0.5)
    bench.cooldowns.succeeded("p/b", 0.1)
    await text_of(await bench(make_call(route=make_route(provider, "a", "b", strategy="least-latency"))))
    assert provider.asked == ["b"]
