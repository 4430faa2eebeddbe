"""Request bodies: read few members, forward all of them as they were sent."""

from typing import Any

import msgspec

from proxy.call import Head
from proxy.endpoints import CHAT, EMBEDDINGS, RESPONSES, Endpoint
from proxy.errors import BadRequest

Raw = msgspec.Raw
Members = dict[str, Raw]

_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_EMPTY = (b'""', b"[]")
_KINDS = {
    b'"': "a string",
    b"[": "an array",
    b"{": "an object",
    b"t": "a boolean",
    b"f": "a boolean",
    b"n": "null",
}
_NUMBERS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "frequency_penalty",
        "presence_penalty",
        "n",
        "seed",
        "dimensions",
    }
)
_number = msgspec.json.Decoder(int | float).decode
_LARGEST = 2**63
_FILE, _ITEM = b'"file_id"', b'"item_reference"'
"""What a body that refers to stored objects holds; or an escape that could spell it."""
_ESCAPE = b"\\u00"
_LETTERS = (b"\\u005", b"\\u006", b"\\u007")
_STATEFUL = ("previous_response_id", "conversation", "prompt")
"""Members of a Responses call that name objects stored in the upstream account, which all callers share."""


def read_head(body: bytes, endpoint: Endpoint, path_model: str | None = None) -> Head:
    """Parse a body once, narrowly. Raises BadRequest with `param` where one member is at fault."""
    members = parse_members(body)
    if path_model is not None:
        members["model"] = Raw(_encode(path_model))
    model = _string(members, "model")
    if not model:
        raise _missing("model") if "model" not in members else _invalid("model", "a non-empty string", "an empty one")
    for name in endpoint.required:
        if name not in members:
            raise _missing(name)
    _check_shape(endpoint, members, body)
    return Head(
        model=model,
        stream=_boolean(members, "stream") and endpoint.dialect is not None,
        include_usage=endpoint.asks_usage and _asks_usage(members),
        members=members,
    )


def parse_members(body: bytes) -> Members:
    """The top-level members of a JSON object. Raises BadRequest for anything that is not one."""
    try:
        if not body.isascii():
            body.decode()  # skipped members are not decoded below, so their encoding is checked here
        return _members.decode(body)
    except msgspec.ValidationError:
        raise BadRequest("The body must be a JSON object.", code="invalid_type") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("The body is not valid JSON: it is nested too deeply.", code="invalid_json") from None


def splice(members: Members, *, model: str, ask_usage: bool) -> bytes:
    """The upstream body: these members with `model` set, and with usage asked for on a stream if `ask_usage`.

    Every other member stays byte for byte as the client sent it.
    """
    out: dict[str, Any] = {**members, "model": model}
    if ask_usage:
        options = members.get("stream_options")
        asked: dict[str, Any] = {} if options is None or bytes(options) == _NULL else {**_members.decode(options)}
        asked["include_usage"] = True
        out["stream_options"] = asked
    return _encode(out)


def encode_members(members: Members) -> bytes:
    """These members as one JSON object, each byte for byte."""
    return _encode(members)


def _check_shape(endpoint: Endpoint, members: Members, body: bytes) -> None:
    if endpoint is CHAT and bytes(members["messages"])[:1] != b"[":
        raise _invalid("messages", "an array of messages", kind_of(members["messages"]))
    if endpoint is EMBEDDINGS and bytes(members["input"]) in (*_EMPTY, _NULL):
        raise BadRequest("'input' must not be empty.", param="input", code="invalid_value")
    if endpoint is RESPONSES:
        _check_stateless(members)
    if _FILE in body or _ITEM in body or (_ESCAPE in body and any(each in body for each in _LETTERS)):
        for name in ("messages", "input"):
            if name in members:
                _check_references(_decoded(members[name]), name)


def _decoded(raw: Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None


def _check_stateless(members: Members) -> None:
    """Refuse what would need objects kept in the upstream account: it belongs to all callers together."""
    for name in _STATEFUL:
        if name in members and bytes(members[name]) != _NULL:
            raise _stored(name)
    if _boolean(members, "background"):
        raise _stored("background")


def _check_references(value: object, path: str) -> None:
    """Refuse parts that point to objects stored in the upstream account."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            _check_references(each, f"{path}[{index}]")
    elif isinstance(value, dict):
        if isinstance(value.get("file_id"), str):
            raise _stored(f"{path}.file_id")
        if value.get("type") == "item_reference":
            raise _stored(path)
        for name, each in value.items():
            if name in {"content", "file", "output"}:
                _check_references(each, f"{path}.{name}")


def _stored(param: str) -> BadRequest:
    return BadRequest(
        f"'{param}' refers to objects stored at the provider, which this gateway does not support: "
        "send the whole conversation with each request.",
        param=param,
        code="unsupported_parameter",
    )


def _asks_usage(members: Members) -> bool:
    options = members.get("stream_options")
    if options is None or bytes(options) == _NULL:
        return False
    if bytes(options)[:1] != b"{":
        raise _invalid("stream_options", "an object", kind_of(options))
    return bytes(_members.decode(options).get("include_usage", b"")) == b"true"


def _string(members: Members, name: str) -> str:
    raw = members.get(name)
    if raw is None:
        return ""
    if bytes(raw)[:1] != b'"':
        raise _invalid(name, "a string", kind_of(raw))
    value: str = msgspec.json.decode(raw)
    return value


def _boolean(members: Members, name: str) -> bool:
    raw = bytes(members.get(name, _NULL))
    if raw not in (b"true", b"false", _NULL):
        raise _invalid(name, "a boolean", kind_of(raw))
    return raw == b"true"


def numbers_of(members: Members) -> dict[str, int | float]:
    """The parameters that are numbers, for the record; what is null, or no number of 64 bits, is left out."""
    found: dict[str, int | float] = {}
    for name in members:
        if name in _NUMBERS:
            try:
                value = _number(members[name])
            except msgspec.DecodeError:
                continue
            if isinstance(value, float) or -_LARGEST < value < _LARGEST:
                found[name] = value
    return found


def kind_of(raw: bytes | Raw) -> str:
    """What a JSON value is, in words for an error message."""
    return _KINDS.get(bytes(raw)[:1], "a number")


def _missing(name: str) -> BadRequest:
    return BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def _invalid(name: str, expected: str, got: str) -> BadRequest:
    return BadRequest(
        f"Invalid type for '{name}': expected {expected}, but got {got} instead.", param=name, code="invalid_type"
    )
