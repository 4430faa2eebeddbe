"""Identical calls at the same time make one upstream call."""

from collections.abc import AsyncIterator, Callable

import msgspec

from policies.again import NOTHING, Again
from policies.cache_controls import PartitionBy, partition_of
from policies.fingerprint import fingerprint, is_shareable
from policies.flight import Flight, Seat
from policies.guards.verdict import graver
from proxy.call import NO_CONTROLS, Call, Outcome, Record
from proxy.chain import Handler
from proxy.errors import GatewayError, InternalError, UpstreamError
from proxy.reply import Reply
from proxy.values import Size, size

GuardsDigest = Callable[[Call], bytes]
Amend = Callable[[Call], None]
AtHand = Callable[[Call], Reply | None]
Followed = Callable[[str, Call], None]
"""Told the id of a call that a cache answered, and a call that shares its reply."""


class SingleFlightConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which calls are shared, and how many bytes of a stream are kept for those who join it."""

    temperature_ceiling: float = 1.0
    buffer: Size = size("1MB")


class SingleFlight:
    """Shares the reply of a call with every identical call of the same partition that comes before it is over.

    The flight is its own task and outlives its starter as long as anyone waits. Only upstream errors are shared:
    with any other the flight passes to the next caller. Calls that a cache could not serve fly alone.
    A starter that leaves is charged all the same: `amend` is told of its call once it is known for what.
    What is `at_hand` for a call with its fingerprint needs no flight. The fingerprint is of the partition that `by`
    says; callers that `also` tells apart do not meet either. Who shares a cache's answer is `followed`.
    """

    def __init__(  # noqa: PLR0913 - what it tells and asks others, by name
        self,
        config: SingleFlightConfig,
        guards: GuardsDigest,
        by: PartitionBy = "tenant",
        *,
        also: PartitionBy | None = None,
        amend: Amend | None = None,
        at_hand: AtHand | None = None,
        followed: Followed | None = None,
    ) -> None:
        self._config = config
        self._guards = guards
        self._by = by
        self._also = also
        self._amend = amend
        self._at_hand = at_hand
        self._followed = followed
        self._flights: dict[bytes, Flight] = {}

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The reply of the one upstream call."""
        if "x-lockgate-timeout" in call.headers or not is_shareable(call, self._config.temperature_ceiling):
            return await next(call)
        same = fingerprint(call, partition=partition_of(call.caller, self._by), guards=self._guards(call))
        call = call.replace(fingerprint=same)
        ready = self._at_hand(call) if self._at_hand is not None else None
        return ready if ready is not None else await self._aboard(call, next)

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """What is at hand needs no flight."""
        return call, NOTHING

    async def _aboard(self, call: Call, next_handler: Handler) -> Reply:
        shape = b"\x01" if call.head.stream else b"\x00"
        usage = b"\x01" if call.head.include_usage else b"\x00"
        controls = b"" if call.cache is NO_CONTROLS else msgspec.json.encode(call.cache)
        also = partition_of(call.caller, self._also).encode() if self._also is not None else b""
        key = shape + usage + call.fingerprint + controls + b"\x00" + also
        while True:
            flight = self._flights.get(key)
            leads = flight is None or not flight.joinable
            if flight is None or leads:
                flight = self._take_off(key, call, next_handler)
            seat = flight.join()
            try:
                return await self._settled(flight, seat, call, leads=leads)
            except GatewayError as error:
                flight.leave(seat)
                if leads or isinstance(error, UpstreamError | InternalError):
                    del flight  # which holds the error, whose traceback will hold this frame
                    raise error.with_traceback(None) from None  # shared: tracebacks would pile up on it
            except BaseException:
                flight.starter_left = flight.starter_left or leads
                flight.leave(seat)
                raise

    async def _settled(self, flight: Flight, seat: Seat, call: Call, *, leads: bool) -> Reply:
        reply = _seated(flight, seat, await flight.head(), call, leads=leads)
        if self._followed is not None and not leads and call.record.cache.startswith("hit"):
            self._followed(flight.record.id, call)
        return reply

    def _take_off(self, key: bytes, call: Call, next_handler: Handler) -> Flight:
        def land() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        def closed() -> None:
            if self._amend is not None and flight.starter_left and call.record.usage is not None:
                self._amend(call)

        flight = Flight(call.record, self._config.buffer, land, closed)
        self._flights[key] = flight
        flight.start(next_handler(call))
        return flight


def _seated(flight: Flight, seat: Seat, reply: Reply, call: Call, *, leads: bool) -> Reply:
    """A reply of this caller's own over the shared items."""
    record = call.record
    record.flight = "led" if leads else "followed"
    if not leads:
        record.provider, record.upstream_model = flight.record.provider, flight.record.upstream_model
        record.fallbacks = flight.record.fallbacks
        record.cache, record.similarity = flight.record.cache, flight.record.similarity
        if record.cache.startswith("hit"):
            record.saved, record.candidates = flight.record.saved, list(flight.record.candidates)
        _copy_verdicts(flight.record, record)
        record.usage = flight.record.usage
    items = flight.items(seat) if leads else _counted(flight, seat, record)
    own = Reply(items, streaming=reply.streaming, status=reply.status, headers=reply.headers)
    own.ending, own.at_hand = reply.ending, reply.at_hand
    seat.reply = own

    async def leave(outcome: Outcome) -> None:
        if leads and outcome == "client_disconnect" and record.usage is None:
            flight.starter_left = True
        flight.leave(seat)
        if leads:
            await flight.cleared()

    own.on_close(leave)
    return own


async def _counted(flight: Flight, seat: Seat, record: Record) -> AsyncIterator[bytes]:
    """A follower's items; its usage and the guards' verdicts are known before the last one is handed over."""
    async for item in flight.items(seat):
        record.usage = flight.record.usage
        if flight.record.guard != record.guard:
            _copy_verdicts(flight.record, record)
        yield item


def _copy_verdicts(theirs: Record, ours: Record) -> None:
    """What guards said of the answer that is shared; what they said of the request is each caller's own."""
    ours.guards = [each for each in ours.guards if each.side == "input"]
    for verdict in theirs.guards:
        if verdict.side == "output":
            ours.guards.append(verdict)
            if not verdict.shadow:
                ours.guard = graver(ours.guard, verdict.action)
