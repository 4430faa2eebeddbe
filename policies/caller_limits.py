"""What one caller may ask for: requests and tokens in a window of time, and calls at the same time."""

from collections.abc import Sequence

import msgspec

from policies.token_estimate import estimate
from policies.windows import refusal, window_of
from proxy.call import Call, Outcome, Record
from proxy.chain import Handler
from proxy.claims import Claim, Grant, Lease, LimitStore, Standing
from proxy.errors import RateLimited, retry_headers
from proxy.reply import Reply
from proxy.values import Rate

_MINUTE = 60
_RETRY_PARALLEL = 1.0
"""Seconds after which a caller with too many calls at a time should try again: nobody knows when one ends."""


class CallerLimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller has whose key or token does not say otherwise; what is absent is not limited.

    `assumed_tokens` is what an answer counts for until it is known, where the call itself sets no bound.
    """

    requests: Rate | None = None
    tokens: Rate | None = None
    parallel: int | None = None
    assumed_tokens: int = 500

    def problems(self) -> list[str]:
        """What cannot be meant."""
        return [
            f"{name}: must not be below 0" for name in ("parallel", "assumed_tokens") if (getattr(self, name) or 0) < 0
        ]

    def told(self) -> str:
        """What a caller meets, in a line."""
        rates = (("requests", self.requests), ("tokens", self.tokens))
        parts = [f"{rate.amount} {unit} in {rate.seconds} s" for unit, rate in rates if rate is not None]
        parts += [f"{self.parallel} calls at a time"] if self.parallel is not None else []
        return f"a caller whose key says nothing else: {', '.join(parts) or 'no limits'}"


class CallerLimits:
    """Takes a request, tokens and a place for each call, all or none; refused calls count for nothing.

    Tokens are estimated, and corrected when the usage is known: for whole answers before their headers are sent, for
    streams at their end. What a failed call or a cache hit did not use is given back. A place is given back when the
    reply is closed. Raises RateLimited. With the store away calls pass or are refused, as its configuration says.
    """

    def __init__(self, config: CallerLimitsConfig, store: LimitStore) -> None:
        self._config = config
        self._store = store

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass on what is within the limits."""
        requests, tokens, prompt = self._claims(call)
        lease = self._lease(call)
        claims = [claim for claim in (requests, tokens) if claim is not None]
        if not claims and lease is None:
            return await next(call)
        grant = await self._store.claim(claims, lease)
        standing = _note(call.record, requests, tokens, grant)
        if grant.refused is not None:
            raise _refusal(requests, grant.refused, grant.standings)
        if not grant.standings and lease is None:
            return await next(call)
        return await _Taken(self._store, call.record, prompt, tokens, standing, lease).through(call, next)

    def _claims(self, call: Call) -> tuple[Claim | None, Claim | None, int]:
        """The claims for requests and for tokens, and how many of the tokens are the prompt's."""
        caller, config = call.caller, self._config
        name = f"{caller.kind}:{caller.id}"
        requests = tokens = None
        prompt = 0
        rate = (caller.requests, _MINUTE) if caller.requests is not None else config.requests
        if rate is not None:
            requests = Claim(f"requests:{rate[1]}:{name}", rate[0], rate[1])
        rate = (caller.tokens, _MINUTE) if caller.tokens is not None else config.tokens
        if rate is not None and call.body:
            assumed = config.assumed_tokens
            prompt, answer = call.head.derive("tokens", assumed, lambda: estimate(call, assumed))
            # a call estimated larger than a whole window passes when none of it is used
            tokens = Claim(f"tokens:{rate[1]}:{name}", rate[0], rate[1], min(prompt + answer, rate[0]) or 1)
        return requests, tokens, prompt

    def _lease(self, call: Call) -> Lease | None:
        caller = call.caller
        parallel = caller.parallel if caller.parallel is not None else self._config.parallel
        return None if parallel is None else Lease(f"parallel:{caller.kind}:{caller.id}", parallel, call.id)


class _Taken:
    """What one call has taken, and gives back or pays for exactly once."""

    __slots__ = ("_lease", "_prompt", "_record", "_standing", "_store", "_tokens")

    def __init__(  # noqa: PLR0913 - facts of one call
        self,
        store: LimitStore,
        record: Record,
        prompt: int,
        tokens: Claim | None,
        standing: Standing | None,
        lease: Lease | None,
    ) -> None:
        self._store = store
        self._record = record
        self._prompt = prompt
        self._tokens = tokens if standing is not None else None
        self._standing = standing
        self._lease = lease

    async def through(self, call: Call, next_handler: Handler) -> Reply:
        try:
            reply = await next_handler(call)
        except BaseException:
            usage = self._record.usage
            self._settle(0 if usage is None else usage.prompt + usage.completion)
            self._release()
            raise
        if not reply.streaming and self._record.usage is not None:
            self._settle(self._used())
        reply.on_close(self.close)
        return reply

    async def close(self, _outcome: Outcome) -> None:
        self._settle(self._used())
        self._release()

    def _used(self) -> int | None:
        """Tokens that the call took; None when nobody has counted them."""
        record = self._record
        if record.cache.startswith("hit"):
            return 0
        if record.usage is not None:
            return record.usage.prompt + record.usage.completion
        return self._prompt + record.events if record.stream else None  # an event of a stream is about a token

    def _settle(self, used: int | None) -> None:
        claim, standing, self._tokens = self._tokens, self._standing, None
        if claim is None or standing is None or used is None or used == claim.cost:
            return
        by = used - claim.cost
        self._store.correct(claim, standing, by)
        window = self._record.tokens
        if window is not None:
            remaining = min(window.limit, max(0, window.remaining - by))
            self._record.tokens = msgspec.structs.replace(window, remaining=remaining)

    def _release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._store.release(lease)


def _note(record: Record, requests: Claim | None, tokens: Claim | None, grant: Grant) -> Standing | None:
    """Write the windows down; returns the standing of the tokens."""
    if not grant.standings:
        return None
    if requests is not None:
        record.requests = window_of(requests, grant.standings[0])
    if tokens is None:
        return None
    record.tokens = window_of(tokens, grant.standings[-1])
    return grant.standings[-1]


def _refusal(requests: Claim | None, refused: Claim | Lease, standings: Sequence[Standing]) -> RateLimited:
    if isinstance(refused, Lease):
        message = f"Rate limit reached: {refused.amount} calls at the same time. Try again when one of them is over."
        return RateLimited(message, unit="requests", headers=retry_headers(_RETRY_PARALLEL))
    if refused is requests:
        return refusal(refused, window_of(refused, standings[0]), "requests")
    return refusal(refused, window_of(refused, standings[-1]), "tokens")
