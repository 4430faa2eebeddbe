"""Identical calls at the same time make one upstream call."""

from collections.abc import Callable

import msgspec

from policies.fingerprint import fingerprint, is_shareable
from policies.flight import Flight, Seat
from policies.guards.verdict import graver
from proxy.call import Call, Outcome, Record
from proxy.chain import Handler
from proxy.errors import GatewayError, InternalError, UpstreamError
from proxy.reply import Reply
from proxy.values import Size, size

GuardsDigest = Callable[[Call], bytes]


class SingleFlightConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which calls are shared, and how many bytes of a stream are kept for those who join it."""

    temperature_ceiling: float = 1.0
    buffer: Size = size("1MB")


class SingleFlight:
    """Shares the reply of a call with every identical call of the same partition that comes before it is over.

    The flight is its own task and outlives its starter as long as anyone waits. Only upstream errors are shared:
    with any other the flight passes to the next caller. Calls that a cache could not serve fly alone.
    """

    def __init__(self, config: SingleFlightConfig, guards: GuardsDigest) -> None:
        self._config = config
        self._guards = guards
        self._flights: dict[bytes, Flight] = {}

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The reply of the one upstream call."""
        if "x-lockgate-timeout" in call.headers or not is_shareable(call, self._config.temperature_ceiling):
            return await next(call)
        shape = b"\x01" if call.head.stream else b"\x00"
        usage = b"\x01" if call.head.include_usage else b"\x00"
        key = shape + usage + fingerprint(call, partition=call.caller.partition, guards=self._guards(call))
        while True:
            flight = self._flights.get(key)
            leads = flight is None or not flight.joinable
            if flight is None or leads:
                flight = self._take_off(key, call, next)
            seat = flight.join()
            try:
                return _seated(flight, seat, await flight.head(), call, leads=leads)
            except GatewayError as error:
                flight.leave(seat)
                if leads or isinstance(error, UpstreamError | InternalError):
                    raise error.with_traceback(None) from None  # shared: tracebacks would pile up on it
            except BaseException:
                flight.leave(seat)
                raise

    def _take_off(self, key: bytes, call: Call, next_handler: Handler) -> Flight:
        def land() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = Flight(call.record, self._config.buffer, land)
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
        _copy_verdicts(flight.record, record)
    own = Reply(flight.items(seat), streaming=reply.streaming, status=reply.status, headers=reply.headers)
    own.ending = reply.ending
    seat.reply = own

    async def leave(_outcome: Outcome) -> None:
        flight.leave(seat)
        if not leads:
            record.usage = flight.record.usage
            _copy_verdicts(flight.record, record)

    own.on_close(leave)
    return own


def _copy_verdicts(theirs: Record, ours: Record) -> None:
    """What guards said of the answer that is shared; what they said of the request is each caller's own."""
    ours.guards = [each for each in ours.guards if each.side == "input"]
    for verdict in theirs.guards:
        if verdict.side == "output":
            ours.guards.append(verdict)
            if not verdict.shadow:
                ours.guard = graver(ours.guard, verdict.action)
