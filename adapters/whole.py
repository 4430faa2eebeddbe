"""Whole answers: checked narrowly, passed on byte for byte unless a provider's dialect would break a client."""

import base64
import struct
from typing import Any

import msgspec
from msgspec import Raw

from adapters.upstream_errors import bad_answer
from proxy.call import Call, Usage
from proxy.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from proxy.guess import tokens_of
from proxy.usage import in_tier, parse_usage

_WRAPPING = 90
"""Bytes around the text of an answer's one choice."""
_SAYS = (CHAT, COMPLETIONS, RESPONSES)


class _View(msgspec.Struct):
    choices: Raw = Raw()
    data: Raw = Raw()
    results: Raw = Raw()
    output: Raw = Raw()
    usage: Raw = Raw()
    error: Any = None
    service_tier: Any = None


_decode = msgspec.json.Decoder(_View).decode


def check_whole(body: bytes, status: int, call: Call) -> tuple[bytes, Usage]:
    """The body to send and the usage it names. Raises UpstreamUnavailable when a success is no answer."""
    try:
        if not body.isascii():
            body.decode()
        view = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_answer(status, "bad_json") from None
    if view.error is not None:
        raise bad_answer(status, "error_body")
    answer = bytes(getattr(view, call.endpoint.answer))
    if not answer.startswith(b"["):
        raise bad_answer(status, "no_answer")
    if call.endpoint is EMBEDDINGS and answer == b"[]":
        raise bad_answer(status, "no_answer")
    try:
        if call.endpoint is CHAT and b'"tool_calls"' in body:
            body = _repair_tools(body)
        elif call.endpoint is EMBEDDINGS:
            body = _as_asked(body, answer, call)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error):
        raise bad_answer(status, "bad_shape") from None
    usage = in_tier(parse_usage(view.usage), view.service_tier)
    return body, usage if usage is not None else _guess(answer, call)


def _guess(answer: bytes, call: Call) -> Usage:
    """Our own count, where the provider has none."""
    return Usage(
        call.record.prompt, tokens_of(max(0, len(answer) - _WRAPPING)) if call.endpoint in _SAYS else 0, estimated=True
    )


def _repair_tools(body: bytes) -> bytes:
    """Arguments are a JSON string and the finish reason says `tool_calls`; encoded anew only where they are not."""
    answer = msgspec.json.decode(body)
    changed = False
    for choice in answer["choices"]:
        message = choice.get("message") if isinstance(choice, dict) else None
        tools = message.get("tool_calls") if isinstance(message, dict) else None
        if not tools:
            continue
        if choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
            changed = True
        for tool in tools:
            function = tool.get("function") if isinstance(tool, dict) else None
            if isinstance(function, dict) and not isinstance(function.get("arguments", ""), str):
                function["arguments"] = msgspec.json.encode(function["arguments"] or {}).decode()
                changed = True
    return msgspec.json.encode(answer) if changed else body


def _as_asked(body: bytes, data: bytes, call: Call) -> bytes:
    """Embeddings in the encoding that the client asked for, whichever the provider sent."""
    wants_text = bytes(call.head.members.get("encoding_format", b"")) == b'"base64"'
    start = data.find(b'"embedding":')
    is_text = data[start + len(b'"embedding":') :].lstrip()[:1] == b'"'
    if start < 0 or wants_text == is_text:
        return body
    answer = msgspec.json.decode(body)
    for item in answer["data"]:
        vector = item.get("embedding")
        if wants_text and isinstance(vector, list):
            item["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        elif not wants_text and isinstance(vector, str):
            packed = base64.b64decode(vector, validate=True)
            item["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return msgspec.json.encode(answer)
