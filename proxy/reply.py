"""A committed answer, made of items."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from proxy.call import Call, Outcome

logger = logging.getLogger("lockgate")

_END = b"\n\n"
OnClose = Callable[[Outcome], Awaitable[None] | None]
Through = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


class _One:
    """The single item of a whole answer."""

    __slots__ = ("item",)

    def __init__(self, item: bytes) -> None:
        self.item: bytes | None = item

    def __aiter__(self) -> "_One":
        return self

    async def __anext__(self) -> bytes:
        item = self.item
        if item is None:
            raise StopAsyncIteration
        self.item = None
        return item


async def _events(said: bytes) -> AsyncIterator[bytes]:
    for event in said.split(_END)[:-1]:
        yield event + _END


class Reply:
    """A committed answer: always a stream of items, each one whole SSE event or the one whole body.

    Four promises: status and headers are final and the first item is in hand; items are the upstream's bytes;
    whoever holds a Reply and does not return it closes it; `on_close` callbacks run exactly once, in the order
    they were added, after the last byte left or was given up.
    """

    __slots__ = (
        "_callbacks",
        "_closed",
        "_otherwise",
        "at_hand",
        "ending",
        "headers",
        "items",
        "outcome",
        "served",
        "status",
        "streaming",
    )

    def __init__(
        self,
        items: AsyncIterator[bytes],
        *,
        streaming: bool,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.items = items
        self.streaming = streaming
        self.status = status
        self.headers: dict[str, str] = dict(headers) if headers else {}
        self.outcome: Outcome | None = None
        self.ending: Outcome | None = None
        """How it will have ended when its last byte has left, where that is known by then and is not `complete`."""
        self.at_hand: bytes | None = None
        """All items as one, when nobody has to wait for any: this may be sent instead, and `items` left alone."""
        self.served: Call | None = None
        """The call as it was when the exact cache answered it, if it did."""
        self._callbacks: list[OnClose] = []
        self._otherwise: OnClose | None = None
        self._closed = False

    @classmethod
    def whole(cls, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Reply":
        """An answer of one JSON body."""
        reply = cls(_One(body), streaming=False, status=status, headers=headers)
        reply.at_hand = body
        return reply

    @classmethod
    def recorded(cls, events: bytes, *, headers: Mapping[str, str] | None = None) -> "Reply":
        """A stream whose events are all there, one after the other."""
        reply = cls(_events(events), streaming=True, headers=headers)
        reply.at_hand = events
        return reply

    def on_close(self, callback: OnClose) -> None:
        """Run `callback(outcome)` when the reply is over, and await what it returns; earlier callbacks run first."""
        self._callbacks.append(callback)

    def unless_complete(self, callback: OnClose) -> None:
        """Run it after all others, where it is said that the reply was over otherwise than `complete`; one at most."""
        self._otherwise = callback

    def over(self, outcome: Outcome) -> Awaitable[None] | None:
        """As `aclose`; what comes back, if anything does, is still to be awaited."""
        if self._closed or self._callbacks or (self._otherwise is not None and outcome != "complete"):
            return self.aclose(outcome)
        self._closed = True
        self.outcome = self.ending if outcome == "complete" and self.ending is not None else outcome
        return None

    def through(self, wrap: Through) -> "Reply":
        """Pass the items through `wrap` from here on; returns this reply."""
        self.items = wrap(self.items)
        self.at_hand = self.served = None
        return self

    async def aclose(self, outcome: Outcome) -> None:
        """Say how it ended and run the callbacks; a second call does nothing."""
        if self._closed:
            return
        self._closed, given = True, outcome
        if outcome == "complete" and self.ending is not None:
            outcome = self.ending
        self.outcome = outcome
        callbacks, self._callbacks = self._callbacks, []  # what they hold may hold this reply
        if self._otherwise is not None and given != "complete":
            callbacks.append(self._otherwise)
        self._otherwise = None
        for callback in callbacks:
            try:
                work = callback(outcome)
                if work is not None:
                    await work
            except Exception:  # one callback's fault must not keep the others from releasing what they hold
                logger.exception("a callback failed while a reply was closed")
