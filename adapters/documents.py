"""Small documents from elsewhere, such as an issuer's keys."""

from collections.abc import Awaitable, Callable

from adapters.transport import Request, Transport, TransportError

_TIME = 10.0
_SIZE = 512 * 1024
"""Bounds on fetching one, in seconds and bytes."""
_OK = 200


def fetcher(transport: Transport) -> Callable[[str], Awaitable[bytes]]:
    """What fetches the document at a URL. It raises OSError for anything else than a small 200 in time."""

    async def fetch(url: str) -> bytes:
        request = Request(url=url, method="GET", headers={"accept": "application/json"}, total=_TIME, limit=_SIZE)
        try:
            answer = await transport.send(request)
        except TransportError as error:
            raise OSError(str(error)) from error
        if answer.status != _OK:
            raise OSError(f"status {answer.status}")
        return answer.body

    return fetch
