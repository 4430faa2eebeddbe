"""The step that reads a body: from the socket, out of its encoding, into a Head; and finds the route it names."""

import zlib
from collections.abc import Callable, Mapping

import msgspec
import zstandard

from proxy.call import Call, no_body
from proxy.chain import Handler
from proxy.errors import BadRequest, BodyTooLarge, Overloaded, UnknownModel, UnsupportedMedia
from proxy.guess import tokens_asked
from proxy.reply import Reply
from proxy.router import Router
from proxy.wire import numbers_of, read_head

_JSON_TYPES = ("application/json", "text/json")
_CHUNK = 64 * 1024
_NAME = 200
"""Characters of a model's, an end user's or a session's name in the record: bodies may be megabytes."""


class ReadBody:
    """Reads every body. `limit` bounds one body, as sent and decompressed; `in_flight` all bodies held at a time.

    Raises BadRequest, BodyTooLarge, UnsupportedMedia, UnknownModel and, when too much is held, Overloaded.
    """

    def __init__(self, router: Router, *, limit: int, in_flight: int) -> None:
        self._router = router
        self._limit = limit
        self._free = in_flight

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """Pass on a call that has head, body and route."""
        decode = decoder(call)
        sent = await call.read_body(self._limit)
        body = sent if decode is None else decode(sent, self._limit)
        if len(body) > self._free:
            raise Overloaded("The gateway holds too many request bodies at the moment.")
        self._free -= len(body)
        try:
            return await next(self._read(call, body))
        finally:
            self._free += len(body)

    def _read(self, call: Call, body: bytes) -> Call:
        head = read_head(body, call.endpoint, call.path_model)
        record = call.record
        record.model, record.stream, record.prompt = head.model[:_NAME], head.stream, tokens_asked(body)
        record.parameters = numbers_of(head.members)
        record.user, record.session = end_user(head.members), call.headers.get("x-session-id", "")[:_NAME]
        if not call.caller.may_use(head.model):
            raise UnknownModel(head.model)
        route = self._router.find(head.model)
        record.route = route.name
        # what still holds the call later must not hold the client's connection with it
        return call.replace(head=head, body=body, route=route, read_body=no_body)


def end_user(members: Mapping[str, msgspec.Raw]) -> str:
    """The client's own name for whoever it calls for; "" without one. OpenAI's newer name for it comes first."""
    for name in ("safety_identifier", "user"):
        raw = members.get(name)
        if raw is not None and bytes(raw)[:1] == b'"':
            try:
                return msgspec.json.decode(raw, type=str)[:_NAME]
            except msgspec.DecodeError:
                return ""  # no string that JSON knows: the provider will say so
    return ""


def decoder(call: Call) -> Callable[[bytes, int], bytes] | None:
    """What takes a body out of the encoding it was sent in; None when there is none. Raises UnsupportedMedia."""
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type and content_type not in _JSON_TYPES and not content_type.endswith("+json"):
        raise UnsupportedMedia(
            f"The content type must be application/json, not {content_type[:100]}.", code="unsupported_content_type"
        )
    encoding = call.headers.get("content-encoding", "identity").strip().lower()
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
