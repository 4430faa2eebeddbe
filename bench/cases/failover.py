"""What failover and single flight add to a call that succeeds at once: figures are of fifty calls."""

import asyncio
import time
from random import Random

from calls import a_call, request
from micro import Cases, Timed

from policies.attempt import SendOnce
from policies.cooldown import CooldownConfig, Cooldowns
from policies.failover import Failover, FailoverConfig
from policies.single_flight import SingleFlight, SingleFlightConfig
from proxy.call import Call
from proxy.chain import Policy, chain
from proxy.deployments import Deployment, Route
from proxy.reply import Reply

_AT_ONCE = 50


class Instant:
    """A provider that has its answer ready."""

    async def __call__(self, _call: Call, _deployment: Deployment, /) -> Reply:
        """The answer."""
        return Reply.whole(b"{}")

    async def aclose(self) -> None:
        """Nothing is held."""


def _no_guards(_call: Call) -> bytes:
    return b""


def _timed(*policies: Policy) -> Timed:
    """Fifty different calls at once, as a busy loop has them: alone, each turn of an idle loop would count too."""
    deployment = Deployment(id="p/m", provider_name="p", model="m", provider=Instant())
    route = Route(name="gpt-4o", deployments=(deployment,))
    bodies = [request(1000).replace(b"Be brief.", b"Be brief %d." % number) for number in range(_AT_ONCE)]
    calls = [a_call(body).replace(route=route) for body in bodies]
    handler = chain(policies, SendOnce(time.monotonic))

    async def one(call: Call) -> None:
        call.record.attempts = []
        reply = await handler(call)
        async for _ in reply.items:
            pass
        await reply.aclose("complete")

    async def all_at_once() -> None:
        await asyncio.gather(*(one(call) for call in calls))

    return all_at_once


def _failover() -> Failover:
    cooldowns = Cooldowns(CooldownConfig(), time.monotonic)
    return Failover(FailoverConfig(), cooldowns, find_route=_nowhere, now=time.monotonic, random=Random(1))


def _nowhere(name: str) -> Route:
    raise KeyError(name)


def register(cases: Cases) -> None:
    """The same call through none, one and both."""

    @cases.case("failover: 50 calls without it")
    def bare() -> Timed:
        return _timed()

    @cases.case("failover: 50 calls with failover")
    def failover() -> Timed:
        return _timed(_failover())

    @cases.case("failover: 50 calls with single flight and failover")
    def both() -> Timed:
        return _timed(SingleFlight(SingleFlightConfig(), _no_guards), _failover())
