"""Try again, try elsewhere, or say whose fault it was: everything before the commit point."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from policies.cooldown import CooldownConfig, Cooldowns
from proxy.call import Call, Outcome
from proxy.chain import Handler
from proxy.deployments import Deployment, Route
from proxy.errors import (
    BadRequest,
    NoDeployment,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamLimited,
    UpstreamRefused,
)
from proxy.reply import Reply
from proxy.values import Duration, duration

_CONTEXT = frozenset({"context_length_exceeded", "string_above_max_length", "max_tokens_exceeded"})
_CONTENT = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "ResponsibleAIPolicyViolation"}
)


class FailoverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often and how long.

    `tries` of one deployment; `max_attempts` of one call in all; `deadline` for the whole call before its answer
    begins (a client may shorten it by `x-lockgate-timeout`, in seconds). Between tries of one deployment the wait is
    random up to `backoff` doubled each time, at most `backoff_cap`. With another deployment at hand nobody waits
    longer than `patience` for one that asks for it.
    """

    tries: int = 2
    max_attempts: int = 6
    deadline: Duration = duration("590s")
    backoff: Duration = duration("500ms")
    backoff_cap: Duration = duration("8s")
    patience: Duration = duration("8s")
    cooldown: CooldownConfig = msgspec.field(default_factory=CooldownConfig)


class _Candidate(msgspec.Struct, frozen=True):
    deployment: Deployment
    fallbacks: int
    """How many routes away from the one asked for."""


class Failover:
    """Walks the deployments of a route and of its fallbacks until one commits.

    Raises the client's own fault at once, and otherwise, when everything has failed, the last failure that another
    try could have cured; NoDeployment when everything rests. Never tries again once a reply is committed.
    """

    def __init__(  # noqa: PLR0913 - collaborators, by name
        self,
        config: FailoverConfig,
        cooldowns: Cooldowns,
        *,
        find_route: Callable[[str], Route],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Random,
    ) -> None:
        self._default = config
        self._cooldowns = cooldowns
        self._find_route = find_route
        self._now = now
        self._sleep = sleep
        self._random = random

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The first committed reply."""
        config = call.route.failover or self._default
        call = call.replace(deadline=self._now() + _shortened(config.deadline, call))
        try:
            return await self._walk(call, next, config, self.plan(call.route))
        except UpstreamRefused as refusal:
            others = _fallbacks_for(refusal, call.route)
            if not others:
                raise
            return await self._walk(call, next, config, self._candidates(others, 1))

    def plan(self, route: Route) -> list[_Candidate]:
        """What would be tried, in order, if everything failed."""
        own = [_Candidate(each, 0) for each in self._ordered(route)]
        return own + self._candidates(route.fallbacks, 1)

    def explain(self, route: Route) -> list[str]:
        """A line for each deployment that would be tried, in order, and what is tried for refused requests."""
        lines = [
            f"{number}. {each.deployment.provider_name} {each.deployment.model} "
            f"({'of the route itself' if not each.fallbacks else f'fallback {each.fallbacks}'}, "
            f"{self._cooldowns.standing(each.deployment.id)})"
            for number, each in enumerate(self.plan(route), 1)
        ]
        for what, names in (
            ("too long a context", route.context_window_fallbacks),
            ("a content policy refusal", route.content_policy_fallbacks),
        ):
            if names:
                lines.append(f"after {what}: {', '.join(names)}")
        return lines

    def _candidates(self, names: tuple[str, ...], level: int) -> list[_Candidate]:
        found: list[_Candidate] = []
        for step, name in enumerate(names):
            found += [_Candidate(each, level + step) for each in self._ordered(self._find_route(name))]
        return found

    def _ordered(self, route: Route) -> list[Deployment]:
        deployments = list(route.deployments)
        if route.strategy == "weighted":
            # Efraimidis and Spirakis (2006): u^(1/w), largest first, is a weighted draw without replacement
            deployments.sort(key=lambda each: -(self._random.random() ** (1 / each.weight)))
        elif route.strategy == "least-latency":
            deployments.sort(key=lambda each: self._cooldowns.health(each.id).latency or 0.0)
        return deployments

    async def _walk(
        self, call: Call, next_handler: Handler, config: FailoverConfig, candidates: list[_Candidate]
    ) -> Reply:
        failures: list[UpstreamError] = []
        awake = [each for each in candidates if self._cooldowns.standing(each.deployment.id) != "cooling"]
        for candidate in awake or self._soonest(candidates):
            alternatives = bool(awake) and candidate is not awake[-1]
            tries = config.tries if awake else 1
            reply = await self._try(call, next_handler, config, candidate, tries, failures, alternatives=alternatives)
            if reply is not None:
                return reply
            if len(call.record.attempts) >= config.max_attempts or self._now() >= self._deadline(call):
                break
        raise self._verdict(failures, candidates, rested=not awake)

    def _soonest(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """All rest: the one that wakes first, unless another call is probing it just now."""
        free = [each for each in candidates if not self._cooldowns.health(each.deployment.id).probing]
        return sorted(free, key=lambda each: self._cooldowns.remaining(each.deployment.id))[:1]

    async def _try(  # noqa: PLR0913 - one step of the walk
        self,
        call: Call,
        next_handler: Handler,
        config: FailoverConfig,
        candidate: _Candidate,
        tries: int,
        failures: list[UpstreamError],
        *,
        alternatives: bool,
    ) -> Reply | None:
        """One deployment, up to its tries; None when it is time for the next."""
        deployment = candidate.deployment
        wait = 0.0
        for number in range(tries):
            if number:
                await self._sleep(wait)
            if number and self._taken(deployment):
                return None
            try:
                reply = await self._attempt(call, next_handler, candidate, wait)
            except UpstreamError as error:
                failures.append(error)
                pause = self._pause(error, number, config, call, alternatives=alternatives)
                if pause is None or len(call.record.attempts) >= config.max_attempts:
                    return None
                wait = pause
            else:
                return reply
        return None

    def _taken(self, deployment: Deployment) -> bool:
        """Whether, while we waited, another call began to probe it."""
        return self._cooldowns.health(deployment.id).probing

    async def _attempt(self, call: Call, next_handler: Handler, candidate: _Candidate, wait: float) -> Reply:
        deployment, record = candidate.deployment, call.record
        record.fallbacks = candidate.fallbacks
        began = self._now()
        self._cooldowns.begin(deployment.id)
        verdict = False
        try:
            reply = await next_handler(call.replace(deployment=deployment))
            verdict = True
        except UpstreamRefused:
            self._cooldowns.succeeded(deployment.id, self._now() - began)  # it works: the request is at fault
            verdict = True
            raise
        except UpstreamError as error:
            self._cooldowns.failed(deployment.id, error)
            verdict = True
            raise
        finally:
            if not verdict:
                self._cooldowns.give_up(deployment.id)
            if wait and record.attempts:
                record.attempts[-1].wait = wait
        self._cooldowns.succeeded(deployment.id, self._now() - began)
        reply.on_close(self._noting_interruption(deployment.id))
        return reply

    def _noting_interruption(self, deployment: str) -> Callable[[Outcome], Awaitable[None]]:
        async def note(outcome: Outcome) -> None:
            if outcome == "upstream_interrupted":
                self._cooldowns.failed(deployment, UpstreamInterrupted("interrupted", kind="interrupted"))

        return note

    def _pause(
        self, error: UpstreamError, number: int, config: FailoverConfig, call: Call, *, alternatives: bool
    ) -> float | None:
        """Seconds to wait before the same deployment is tried again; None to leave it. Raises what is final."""
        if error.fate == "final":
            raise error
        if error.fate == "next" or (isinstance(error, UpstreamLimited) and error.exhausted):
            return None
        wait = error.retry_after
        if wait is None:
            return self._random.uniform(0, min(config.backoff_cap, config.backoff * 2**number))
        if self._now() + wait >= self._deadline(call) or (alternatives and wait > config.patience):
            return None
        return wait

    def _deadline(self, call: Call) -> float:
        return call.deadline if call.deadline is not None else float("inf")

    def _verdict(self, failures: list[UpstreamError], candidates: list[_Candidate], *, rested: bool) -> Exception:
        """What the client is told when everything has failed."""
        if rested or not failures:
            if not candidates:
                return NoDeployment("No deployment of this model is configured.", retry_after=60)
            soonest = min((self._cooldowns.remaining(each.deployment.id) for each in candidates), default=0.0)
            return NoDeployment("Every deployment of this model is resting after failures.", retry_after=soonest)
        curable = [error for error in failures if error.fate == "again"]
        error = (curable or failures)[-1]
        error.headers["x-should-retry"] = "false"
        return error


def _shortened(deadline: float, call: Call) -> float:
    """The deadline, or what the client's own header says where that is less."""
    asked = call.headers.get("x-lockgate-timeout")
    if asked is None:
        return deadline
    try:
        seconds = float(asked)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise BadRequest("x-lockgate-timeout must be a number of seconds.", param="x-lockgate-timeout")
    return min(deadline, seconds)


def _fallbacks_for(refusal: UpstreamRefused, route: Route) -> tuple[str, ...]:
    if refusal.code in _CONTEXT:
        return route.context_window_fallbacks
    if refusal.code in _CONTENT:
        return route.content_policy_fallbacks
    return ()
