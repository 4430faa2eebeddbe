"""What one caller may ask for: requests and tokens in a window of time, and calls at the same time."""

from collections.abc import Sequence
from functools import partial

import msgspec

from policies.again import NOTHING, Again
from policies.token_estimate import estimate
from policies.windows import note, refusal
from proxy.call import Call, Caller, Outcome, Record, Window
from proxy.chain import Handler
from proxy.claims import Claim, Lease, LimitStore, Standing
from proxy.errors import RateLimited, retry_headers
from proxy.reply import Reply
from proxy.values import Rate

_MINUTE = 60
_REMEMBERED = 4096
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


class _Terms(msgspec.Struct, frozen=True):
    """What one caller is held to, under the names that it has in the store."""

    caller: Caller
    requests: Claim | None
    tokens: Claim | None
    """Of one token."""
    place: Lease | None
    """Nobody's."""
    assumed: int


class _Asked(msgspec.Struct, frozen=True):
    """What a caller's call claims; `prompt` of the tokens are the prompt's."""

    claims: tuple[Claim, ...]
    tokens: Claim | None = None
    prompt: int = 0


class CallerLimits:
    """Takes a request, tokens and a place for each call, all or none; refused calls count for nothing.

    Tokens are estimated, and corrected when the usage is known: for whole answers and hits before their headers are sent,
    for other streams at their end. What a failed call or a cache hit did not use is given back. A place is given back when the
    reply is closed. Raises RateLimited. With the store away calls pass or are refused, as its configuration says.
    """

    def __init__(self, config: CallerLimitsConfig, store: LimitStore) -> None:
        self._config = config
        self._store = store
        self._known: dict[int, _Terms] = {}

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass on what is within the limits."""
        terms = self._terms(call.caller)
        asked = call.head.derive("limits", terms, lambda: _asked(call, terms))
        lease = None if terms.place is None else Lease(terms.place.key, terms.place.amount, call.id)
        if not asked.claims and lease is None:
            return await next(call)
        grant = self._store.claim_now(asked.claims, lease)
        if grant is None:
            grant = await self._store.claim(asked.claims, lease)
        record = call.record
        standing = note(record, grant, terms.requests, asked.tokens)
        if grant.refused is not None:
            raise _refusal(asked.tokens, grant.refused, grant.standings)
        taken = _Taken(self._store, record, asked.prompt, asked.tokens, standing, lease)
        try:
            reply = await next(call)
        except BaseException:
            taken.give_back()
            raise
        if record.cache.startswith("hit") or (record.usage is not None and not reply.streaming):
            taken.settle()
        reply.on_close(taken.close)
        return reply

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """Each takes its share; but no tokens, and the place it leaves at once."""
        if self._store.claim_now(()) is None:
            return None
        terms = self._terms(call.caller)
        asked = _asked(call, terms)
        if asked.tokens is not None:
            tokens = msgspec.structs.replace(asked.tokens, back=asked.tokens.cost)
            asked = _Asked((*asked.claims[:-1], tokens), tokens)
        if not asked.claims and terms.place is None:
            return call, NOTHING
        return call, Again(act=partial(self._pass, terms, asked))

    def _pass(self, terms: _Terms, asked: _Asked, record: Record) -> None:
        grant = self._store.claim_now(asked.claims, terms.place)
        if grant is not None:
            note(record, grant, terms.requests, asked.tokens)
            if grant.refused is not None:
                raise _refusal(asked.tokens, grant.refused, grant.standings)

    def _terms(self, caller: Caller) -> _Terms:
        """Made once for each caller, who is told apart by identity and so kept alive."""
        known = self._known.get(id(caller))
        if known is not None:
            return known
        config, name = self._config, f"{caller.kind}:{caller.id}"
        requests = (caller.requests, _MINUTE) if caller.requests is not None else config.requests
        tokens = (caller.tokens, _MINUTE) if caller.tokens is not None else config.tokens
        parallel = caller.parallel if caller.parallel is not None else config.parallel
        terms = _Terms(
            caller,
            None if requests is None else Claim(f"requests:{requests[1]}:{name}", *requests),
            None if tokens is None else Claim(f"tokens:{tokens[1]}:{name}", *tokens),
            None if parallel is None else Lease(f"parallel:{name}", parallel, ""),
            config.assumed_tokens,
        )
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[id(caller)] = terms
        return terms


def _asked(call: Call, terms: _Terms) -> _Asked:
    claims = () if terms.requests is None else (terms.requests,)
    rate, assumed = terms.tokens, terms.assumed
    if rate is None or not call.body:
        return _Asked(claims)
    prompt, answer = call.head.derive("tokens", assumed, lambda: estimate(call, assumed))
    # a call estimated larger than a whole window passes when none of it is used
    tokens = Claim(rate.key, rate.amount, rate.seconds, min(prompt + answer, rate.amount) or 1)
    return _Asked((*claims, tokens), tokens, prompt)


class _Taken(msgspec.Struct, gc=False):
    """What one call has taken, and gives back or pays for exactly once."""

    store: LimitStore
    record: Record
    prompt: int
    tokens: Claim | None
    standing: Standing | None
    lease: Lease | None

    def give_back(self) -> None:
        """The call has failed: it used what was counted, if anything was."""
        usage = self.record.usage
        self._correct(0 if usage is None else usage.prompt + usage.completion)
        if self.lease is not None:
            self.store.release(self.lease)

    def close(self, _outcome: Outcome) -> None:
        """The reply is over."""
        if self.standing is not None:
            self.settle()
        if self.lease is not None:
            self.store.release(self.lease)

    def settle(self) -> None:
        """Pay for what the call took; nothing changes when nobody has counted it."""
        record = self.record
        if record.cache.startswith("hit"):
            self._correct(0)
        elif record.usage is not None:
            self._correct(record.usage.prompt + record.usage.completion)
        elif record.stream:
            self._correct(self.prompt + record.events)  # an event of a stream is about a token

    def _correct(self, used: int) -> None:
        claim, standing, self.standing = self.tokens, self.standing, None
        if claim is None or standing is None or used == claim.cost:
            return
        by = used - claim.cost
        self.store.correct(claim, standing, by)
        window = self.record.tokens
        if window is not None:
            remaining = min(window.limit, max(0, window.remaining - by))
            self.record.tokens = Window(window.limit, remaining, window.reset)


def _refusal(tokens: Claim | None, refused: Claim | Lease, standings: Sequence[Standing]) -> RateLimited:
    if isinstance(refused, Lease):
        message = f"Rate limit reached: {refused.amount} calls at the same time. Try again when one of them is over."
        return RateLimited(message, unit="requests", headers=retry_headers(_RETRY_PARALLEL))
    if refused is tokens:
        return refusal(refused, standings[-1], "tokens")
    return refusal(refused, standings[0], "requests")
