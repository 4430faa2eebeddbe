"""Asks a server of the operator's own, over a transport."""

from collections.abc import Awaitable, Callable, Mapping

from adapters.transport import Request, Transport, TransportError

_LIMIT = 1024 * 1024
"""Bytes of an answer that are read."""


def poster(transport: Transport) -> Callable[[str, Mapping[str, str], bytes, float], Awaitable[tuple[int, bytes]]]:
    """Sends (url, headers, body, seconds) and returns status and body. Raises OSError when no answer comes in time."""

    async def post(url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> tuple[int, bytes]:
        request = Request(url=url, headers=headers, body=body, connect=seconds, total=seconds, limit=_LIMIT)
        try:
            answer = await transport.send(request)
        except TransportError as error:
            raise OSError(error.fault) from None
        return answer.status, answer.body

    return post
