"""What every provider's attempt has in common: how long it may take, and what a failure before the commit is called."""

import asyncio

from adapters.transport import TransportError
from adapters.upstream_errors import bad_answer, from_stream, from_transport
from proxy.call import Call
from proxy.chunks import StreamFault
from proxy.errors import UpstreamTimeout
from proxy.sse import EventTooLarge


def bounded(seconds: float, call: Call) -> float:
    """These seconds, or what is left until the call's deadline."""
    if call.deadline is None:
        return seconds
    return max(0.0, min(seconds, call.deadline - asyncio.get_running_loop().time()))


def before_commit(error: BaseException, status: int) -> BaseException:
    """What a stream's failure before its first content is called; a cancellation, or a bug, stays what it is.

    `status` is the upstream's, 0 when none came.
    """
    if isinstance(error, TransportError):
        return from_transport(error)
    if isinstance(error, StreamFault):
        return from_stream(error, status)
    if isinstance(error, EventTooLarge):
        return bad_answer(status, "too_large")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The provider did not send content in time.", kind="first_content")
    return error
