"""So many requests of one address before anyone asks who it is."""

from collections.abc import Awaitable
from functools import partial
from typing import Literal

import msgspec

from policies.again import NOTHING, Again
from policies.client_address import ClientAddress, is_network
from policies.windows import note, refusal
from proxy.call import Call, Record
from proxy.chain import Handler
from proxy.claims import Claim, Grant, LimitStore
from proxy.reply import Reply
from proxy.values import Rate, rate

_VIRTUAL_KEY = "sk-lg-"
_REMEMBERED = 4096


class ClientLimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`requests` of one client address; `applies_to` requests without a virtual key, or all.

    `trusted_proxies` are the addresses and networks whose `X-Forwarded-For` is believed.
    """

    requests: Rate = rate("60/minute")
    applies_to: Literal["without_key", "all"] = "without_key"
    trusted_proxies: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """What cannot be meant."""
        return [
            f"trusted_proxies: {each!r} is no address or network"
            for each in self.trusted_proxies
            if not is_network(each)
        ]

    def told(self) -> str:
        """What a client meets, in a line."""
        who = "address" if self.applies_to == "all" else "address without a virtual key"
        return f"each {who}: {self.requests.amount} requests in {self.requests.seconds} s"


class ClientLimits:
    """Counts requests by address, IPv6 by /64, before authentication and before a body is read.

    Raises RateLimited. With the store away calls pass or are refused, as the store's configuration says.
    """

    def __init__(self, config: ClientLimitsConfig, store: LimitStore) -> None:
        self._rate = config.requests
        self._all = config.applies_to == "all"
        self._addresses = ClientAddress(config.trusted_proxies)
        self._store = store
        self._claims: dict[str, Claim] = {}

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Pass on what is within the limit."""
        if not self._all and _presents_virtual_key(call):
            return next(call)
        claim = self._claim_of(call)
        grant = self._store.claim_now((claim,))
        if grant is None:
            return self._asked(call, next, claim)
        _hold(call.record, claim, grant)
        return next(call)

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """Each counts."""
        if not self._all and _presents_virtual_key(call):
            return call, NOTHING
        if self._store.claim_now(()) is None:
            return None
        return call, Again(act=partial(self._count, self._claim_of(call)))

    def _count(self, claim: Claim, record: Record) -> None:
        grant = self._store.claim_now((claim,))
        if grant is not None:
            _hold(record, claim, grant)

    async def _asked(self, call: Call, next_handler: Handler, claim: Claim) -> Reply:
        _hold(call.record, claim, await self._store.claim((claim,)))
        return await next_handler(call)

    def _claim_of(self, call: Call) -> Claim:
        address = self._addresses.of(call.peer, call.headers.get("x-forwarded-for"))
        return self._claims.get(address) or self._claim(address)

    def _claim(self, address: str) -> Claim:
        amount, seconds = self._rate
        if len(self._claims) >= _REMEMBERED:  # addresses come from clients: remember only so many
            self._claims.clear()
        claim = self._claims[address] = Claim(f"client:{seconds}:{address}", amount, seconds)
        return claim


def _hold(record: Record, claim: Claim, grant: Grant) -> None:
    """Write down where the client stands. Raises RateLimited."""
    note(record, grant, claim)
    if grant.refused is not None:
        raise refusal(claim, grant.standings[0], "requests")


def _presents_virtual_key(call: Call) -> bool:
    """Whether the key that counts, as authentication reads the headers, is one of ours."""
    scheme, _, token = call.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip().startswith(_VIRTUAL_KEY)
    presented = call.headers.get("x-api-key", "").strip() or call.headers.get("api-key", "").strip()
    return presented.startswith(_VIRTUAL_KEY)
