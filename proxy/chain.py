"""How policies are put around the innermost handler."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from proxy.call import Call
from proxy.reply import Reply

Handler = Callable[[Call], Awaitable[Reply]]


class Policy(Protocol):
    """One concern around every call. Returns next's reply or its own, or raises GatewayError."""

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002 - the field's word for it
        """Handle the call, most often by way of `next`; one that only looks at a call may return what `next` does."""
        ...


def chain(policies: Sequence[Policy], innermost: Handler) -> Handler:
    """One handler of them all; the first policy is outermost."""
    handler = innermost
    for policy in reversed(policies):
        handler = _around(policy, handler)
    return handler


def _around(policy: Policy, inner: Handler) -> Handler:
    handle = policy.__call__  # an instance that is called looks this up every time

    def handler(call: Call) -> Awaitable[Reply]:
        return handle(call, inner)

    return handler
