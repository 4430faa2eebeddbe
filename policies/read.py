"""The step that reads a body: from the socket, out of its encoding, into a Head; and finds the route it names."""

import zlib
from collections.abc import Callable
from functools import partial

import zstandard

from policies.again import Again
from policies.readings import NAME, Reading, Readings, read
from proxy.call import Call, Record, no_body, nothing_arrived
from proxy.chain import Handler
from proxy.errors import BadRequest, BodyTooLarge, Overloaded, UnknownModel, UnsupportedMedia
from proxy.reply import Reply
from proxy.router import Router

_JSON_TYPES = ("application/json", "text/json")
_CHUNK = 64 * 1024
_REMEMBERED = 4 * 1024 * 1024
"""Bytes of bodies that a cache has answered, for the next like them."""


class ReadBody:
    """Reads every body. `limit` bounds one body, as sent and decompressed; `in_flight` all bodies held at a time.

    What a cache answers is remembered as it was read: the same body again is not read again.

    Raises BadRequest, BodyTooLarge, UnsupportedMedia, UnknownModel and, when too much is held, Overloaded.
    """

    def __init__(self, router: Router, *, limit: int, in_flight: int) -> None:
        self._router = router
        self._limit = limit
        self._free = in_flight
        self._readings = Readings(_REMEMBERED)

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass on a call that has head, body and route."""
        decode = decoder(call)
        sent = await call.read_body(self._limit)
        body = sent if decode is None else decode(sent, self._limit)
        size = len(body)
        if size > self._free:
            raise Overloaded("The gateway holds too many request bodies at the moment.")
        self._free -= size
        try:
            known = self._readings.find(call, body)
            reading = read(call, body) if known is None else known
            reply = await next(self._told(call, body, reading))
        finally:
            self._free += size
        if known is None and call.record.cache.startswith("hit"):
            self._readings.keep(call, body, reading)
        return reply

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """The same is written down; which route it is, and who may use it, stands as long as configuration and caller."""
        decode = decoder(call)
        body = call.body if decode is None else decode(call.body, self._limit)
        reading = self._readings.find(call, body)
        if reading is None:
            return None
        told = self._told(call, body, reading)
        return told, Again(act=partial(_note, reading, told.record.session, told.route.name))

    def _told(self, call: Call, body: bytes, reading: Reading) -> Call:
        head = reading.head
        _note(reading, call.headers.get("x-session-id", "")[:NAME], "", call.record)
        if not call.caller.may_use(head.model):
            raise UnknownModel(head.model)
        route = self._router.find(head.model)
        call.record.route = route.name
        # what still holds the call later must not hold the client's connection with it
        return call.replace(head=head, body=body, route=route, read_body=no_body, arrived=nothing_arrived)


def _note(reading: Reading, session: str, route: str, record: Record) -> None:
    head = reading.head
    record.model, record.stream, record.prompt = head.model[:NAME], head.stream, reading.prompt
    record.parameters, record.user = reading.parameters, reading.user
    record.session, record.route = session, route


def decoder(call: Call) -> Callable[[bytes, int], bytes] | None:
    """What takes a body out of the encoding it was sent in; None when there is none. Raises UnsupportedMedia."""
    headers = call.headers
    content_type = headers.get("content-type", "")
    if content_type == _JSON_TYPES[0] and "content-encoding" not in headers:
        return None
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type and content_type not in _JSON_TYPES and not content_type.endswith("+json"):
        raise UnsupportedMedia(
            f"The content type must be application/json, not {content_type[:100]}.", code="unsupported_content_type"
        )
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return None
    if encoding not in _DECODERS:
        raise UnsupportedMedia(f"The content encoding {encoding[:100]} is not supported; gzip, deflate and zstd are.")
    return _DECODERS[encoding]


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(zlib.decompressobj(31), body, limit)


def _deflate(body: bytes, limit: int) -> bytes:
    return _inflate(zlib.decompressobj(), body, limit)


def _inflate(decoder: "zlib._Decompress", body: bytes, limit: int) -> bytes:
    try:
        out = decoder.decompress(body, limit + 1)
    except zlib.error:
        raise _corrupt() from None
    if len(out) > limit:
        raise _bomb(limit)
    if not decoder.eof:
        raise _corrupt()
    return out


def _zstd(body: bytes, limit: int) -> bytes:
    out = bytearray()
    try:
        with zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(body) as reader:
            while chunk := reader.read(_CHUNK):
                out += chunk
                if len(out) > limit:
                    raise _bomb(limit)
    except zstandard.ZstdError:
        raise _corrupt() from None
    if not out:
        raise _corrupt()
    return bytes(out)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _corrupt() -> BadRequest:
    return BadRequest("The body is not valid in its content encoding.", code="invalid_encoding")


def _bomb(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The decompressed body is larger than {limit} bytes.")
