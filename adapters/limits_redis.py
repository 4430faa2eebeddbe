"""Limits shared by every instance, on Redis or Valkey: one round trip a call, and none while the server is away."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Literal

from limits.aio.storage.redis import RedisStorage
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.claims import Claim, Grant, Lease, Standing
from proxy.config import LimitsStore
from proxy.errors import Overloaded
from proxy.limits import Limit

logger = logging.getLogger("lockgate")

_PREFIX = "lockgate"
_LEASE = 30.0
"""Seconds after which a place that nobody renews is free again: so long a killed instance's calls count."""
_GATHER = 0.002
"""Seconds that corrections and releases wait for a claim to travel with."""
_AWAY = 1.0
"""Seconds between two looks for a server that is away."""
_CARRIED = 100
"""The most corrections and releases in one step; the rest goes with the next."""
_KEPT = 10_000
"""The most that wait for a server that is away; the oldest are lost first."""

_RENEW = """
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for number, key in ipairs(KEYS) do
  redis.call('ZADD', key, till, ARGV[number + 1])
  redis.call('PEXPIRE', key, ARGV[1])
end
"""

_Correction = tuple[Claim, Standing, int]


class RedisLimits:
    """A LimitStore and a Service. All limits of a call are one script, run by the server in one step.

    No call waits for the server longer than `timeout` seconds. After a failure none asks it at all until it answers
    a ping, which is tried every second beside the calls. Meanwhile `on_failure` says what becomes of them: `open`
    lets them pass uncounted, `closed` raises Overloaded. Places are leases of 30 s, renewed while they are held.
    """

    name = "limits_store"

    def __init__(self, config: LimitsStore, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._closed = config.on_failure == "closed"
        self._timeout = float(config.timeout)
        self._sleep = sleep
        self._storage = RedisStorage(
            _redis_url(config.url),
            implementation="redispy",
            key_prefix=_PREFIX,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # passed through to the client, which takes it
        )
        self._client: Any = self._storage.bridge.get_connection()  # type: ignore[attr-defined]
        script = (files("adapters") / "limits_redis.lua").read_text(encoding="utf-8")
        self._step = self._client.register_script(script)
        self._renewal = self._client.register_script(_RENEW)
        self._pending: deque[_Correction | Lease] = deque(maxlen=_KEPT)
        self._held: dict[tuple[str, str], Lease] = {}
        self._away = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False

    async def start(self) -> None:
        """Look for the server; that it is away delays nobody."""
        with contextlib.suppress(ConnectionError):
            await self._run(self._client.ping)
        self._begin(self._renew())

    async def aclose(self) -> None:
        """Send what is pending and hang up."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            while self._pending and not self._away:
                await self._ask((), None)
        await self._client.aclose()

    def state(self) -> Literal["ok", "degraded", "down"]:
        """Ok; or away, which is degraded where calls pass uncounted and down where they are refused."""
        if not self._away:
            return "ok"
        return "down" if self._closed else "degraded"

    def claim_now(self, _claims: Sequence[Claim], _lease: Lease | None = None) -> None:
        """Nothing is granted without the server."""

    async def claim(self, claims: Sequence[Claim], lease: Lease | None = None) -> Grant:
        """Take all of it or nothing. Raises Overloaded when the server is away and calls are refused then."""
        if not self._away:
            try:
                return await self._ask(claims, lease)
            except (ConnectionError, asyncio.CancelledError) as error:
                if lease is not None:
                    self._pending.append(lease)  # perhaps it was taken
                if isinstance(error, asyncio.CancelledError):
                    raise
        if self._closed:
            raise Overloaded("The limits cannot be looked up at the moment. Try again.")
        return Grant()

    def correct(self, claim: Claim, standing: Standing, by: int) -> None:
        """Count so much more or less, soon."""
        self._pending.append((claim, standing, by))
        self._flush_soon()

    def release(self, lease: Lease) -> None:
        """Give a place back, soon: at the latest with this instance's next claim."""
        if self._held.pop((lease.key, lease.holder), None) is not None:
            self._pending.append(lease)
            self._flush_soon()

    async def _ask(self, claims: Sequence[Claim], lease: Lease | None) -> Grant:
        carried = [self._pending.popleft() for _ in range(min(len(self._pending), _CARRIED))]
        keys, arguments = self._packed(claims, lease, carried)
        try:
            answer = await self._run(partial(self._step, keys, arguments))
        except (ConnectionError, asyncio.CancelledError):
            # nobody knows whether it was done: a place may be given back twice, a correction must not count twice
            self._pending.extendleft(each for each in carried if isinstance(each, Lease))
            raise
        standings = tuple(
            Standing(answer[at], answer[at + 1] / 1000, float(answer[at + 2])) for at in range(1, len(answer), 3)
        )
        number = answer[0]
        if not number:
            if lease is not None:
                self._held[(lease.key, lease.holder)] = lease
            return Grant(standings)
        return Grant(standings, lease if number > len(claims) else claims[number - 1])

    def _packed(
        self, claims: Sequence[Claim], lease: Lease | None, carried: Sequence[_Correction | Lease]
    ) -> tuple[list[str], list[Any]]:
        corrections = [each for each in carried if isinstance(each, tuple)]
        releases = [each for each in carried if isinstance(each, Lease)]
        places = () if lease is None else (lease,)
        windows = [claim.key for claim in claims]
        keys = [*windows, *(each.key for each in places), *(claim.key for claim, _, _ in corrections)]
        keys += [each.key for each in releases]
        arguments: list[Any] = [len(claims), len(places), len(corrections), len(releases)]
        for claim in claims:
            arguments += (claim.amount, claim.seconds * 1000, claim.cost)
        for each in places:
            arguments += (each.amount, int(_LEASE * 1000), each.holder)
        for claim, standing, by in corrections:
            arguments += (int(standing.until), by, claim.seconds * 1000)
        arguments += [each.holder for each in releases]
        return [f"{_PREFIX}:{key}" for key in keys], arguments

    async def _run(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Raises ConnectionError, and from then on the server is away."""
        try:
            with Limit(self._timeout):
                return await command()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._went_away(error)
            raise ConnectionError("the limits store does not answer") from error

    def _went_away(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            choice = "are refused" if self._closed else "pass uncounted"
            logger.warning("the limits store is away (%s): calls %s until it answers", type(error).__name__, choice)
            self._begin(self._look())

    async def _look(self) -> None:
        while self._away:
            await self._sleep(_AWAY)
            with contextlib.suppress(ConnectionError):
                await self._run(self._client.ping)
                self._away = False
        logger.warning("the limits store answers again")
        self._flush_soon()

    async def _renew(self) -> None:
        while True:
            await self._sleep(_LEASE / 3)
            held = list(self._held.values())
            if held and not self._away:
                keys = [f"{_PREFIX}:{lease.key}" for lease in held]
                arguments = [int(_LEASE * 1000), *(lease.holder for lease in held)]
                with contextlib.suppress(ConnectionError):
                    await self._run(partial(self._renewal, keys, arguments))

    def _flush_soon(self) -> None:
        if not self._flushing and not self._away:
            self._flushing = True
            self._begin(self._flush())

    async def _flush(self) -> None:
        """What no claim has carried by now goes by itself."""
        try:
            await self._sleep(_GATHER)
            with contextlib.suppress(ConnectionError):
                while self._pending and not self._away:
                    await self._ask((), None)
        finally:
            self._flushing = False

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _redis_url(url: str) -> str:
    """Valkey speaks Redis's protocol: the same client serves both."""
    scheme, rest = url.split(":", 1)
    secure: Literal["s", ""] = "s" if scheme in ("rediss", "valkeys") else ""
    return f"redis{secure}:{rest}"
