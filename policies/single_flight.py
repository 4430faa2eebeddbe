"""Identical calls at the same time make one upstream call."""

from collections.abc import Callable

import msgspec

from policies.cache_controls import PartitionBy, partition_of
from policies.fingerprint import fingerprint, is_shareable
from policies.flight import Flight, Seat
from proxy.call import NO_CONTROLS, Call, Outcome
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

    def __init__(self, config: SingleFlightConfig, guards: GuardsDigest, by: PartitionBy = "tenant") -> None:
        self._config = config
        self._guards = guards
        self._by = by
        self._flights: dict[bytes, Flight] = {}

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The reply of the one upstream call."""
        if "x-lockgate-timeout" in call.headers or not is_shareable(call, self._config.temperature_ceiling):
            return await next(call)
        shape = b"\x01" if call.head.stream else b"\x00"
        usage = b"\x01" if call.head.include_usage else b"\x00"
        same = fingerprint(call, partition=partition_of(call.caller, self._by), guards=self._guards(call))
        controls = b"" if call.cache is NO_CONTROLS else msgspec.json.encode(call.cache)
        key = shape + usage + same + controls
        call = call.replace(fingerprint=same)
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
        record.cache, record.similarity = flight.record.cache, flight.record.similarity
    own = Reply(flight.items(seat), streaming=reply.streaming, status=reply.status, headers=reply.headers)
    own.at_hand = reply.at_hand

    async def leave(_outcome: Outcome) -> None:
        flight.leave(seat)
        if not leads:
            record.usage = flight.record.usage

    own.on_close(leave)
    return own
