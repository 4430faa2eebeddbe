"""Nobody calls who does not say who they are: virtual keys, tokens issued here, tokens of other issuers."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Protocol

import msgspec

from policies.again import Again
from proxy.authority import IssuerConfig, LoginConfig
from proxy.call import Call, Caller, Record
from proxy.chain import Handler
from proxy.reply import Reply
from proxy.values import Duration, duration


class AuthenticateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is let in: `keys` virtual keys, `login` users who log in here, `issuers` tokens from elsewhere.

    `watch` is how often an instance looks for what others changed. With the database away, what is in memory serves
    for `grace`. `failures` bad keys a minute are borne from one address.
    """

    keys: bool = True
    login: LoginConfig | None = None
    issuers: tuple[IssuerConfig, ...] = ()
    watch: Duration = duration("2s")
    grace: Duration = duration("15m")
    failures: Annotated[int, msgspec.Meta(ge=1)] = 30

    @property
    def is_on(self) -> bool:
        """Whether it lets anybody in; with everything off it is as if it were not there."""
        return self.keys or self.login is not None or bool(self.issuers)


class FindsCallers(Protocol):
    """Who a request belongs to, by its headers."""

    def recall(self, headers: Mapping[str, str]) -> Caller | None:
        """At once, from memory; None says nothing. Raises Unauthenticated, BadRequest."""
        ...

    def still(self, headers: Mapping[str, str], caller: Caller) -> Callable[[], bool]:
        """Whether `recall` says of these headers that it is this very caller, whenever that is asked.

        Raises Unauthenticated, BadRequest.
        """
        ...

    async def find(self, headers: Mapping[str, str], peer: str) -> Caller:
        """Raises Unauthenticated, BadRequest, RateLimited, Overloaded."""
        ...


class Authenticate:
    """Refuses a call before its body is read, or passes it on with its caller."""

    def __init__(self, callers: FindsCallers) -> None:
        self._callers = callers

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Raises Unauthenticated, BadRequest, RateLimited, Overloaded."""
        caller = self._callers.recall(call.headers)
        return self._found(call, next) if caller is None else next(_known(call, caller))

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """As long as the same key is found with the same caller."""
        caller = self._callers.recall(call.headers)
        if caller is None:
            return None
        return call.replace(caller=caller), Again(self._callers.still(call.headers, caller), partial(_note, caller))

    async def _found(self, call: Call, next_handler: Handler) -> Reply:
        return await next_handler(_known(call, await self._callers.find(call.headers, call.peer)))


def _known(call: Call, caller: Caller) -> Call:
    _note(caller, call.record)
    return call.replace(caller=caller)


def _note(caller: Caller, record: Record) -> None:
    record.caller, record.owner, record.tags = caller.id, caller.owner, caller.tags
