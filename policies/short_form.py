"""The short form for people with curl: one prompt in, one text out, by way of a chat call."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from policies.read import decoder
from proxy.call import Call, Record
from proxy.chain import Handler
from proxy.endpoints import CHAT
from proxy.errors import BadRequest
from proxy.reply import Reply
from proxy.wire import Members, Raw, encode_members, kind_of, parse_members


class _Message(msgspec.Struct):
    content: Any = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    model: str = ""
    usage: Any = None


class _Short(msgspec.Struct):
    """What `POST /llm/generate` answers."""

    response: str
    model: str
    usage: Any
    cached: bool
    cache_type: str | None
    finish_reason: str | None
    provider: str
    request_id: str


_decode = msgspec.json.Decoder(_Completion).decode
_encode = msgspec.json.Encoder().encode
_HIT = "hit-"


class ShortForm:
    """Stands just before `read` on its own path: what follows sees a chat call, what stands before the short one.

    `prompt` becomes the one user message; all other members pass as they are. Raises BadRequest for a prompt that is
    no text, for `messages` beside it, and for a stream, which the chat endpoint has.
    """

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
        """The chat call's answer, in short."""

        async def read_body(limit: int) -> bytes:
            sent = await call.read_body(limit)
            decode = decoder(call)
            return as_chat(sent if decode is None else decode(sent, limit))

        headers = {name: value for name, value in call.headers.items() if name != "content-encoding"}
        reply = await next(call.replace(endpoint=CHAT, read_body=read_body, headers=headers))

        async def shortened(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield in_short(b"".join([item async for item in items]), call.record)

        return reply.through(shortened)


def as_chat(body: bytes) -> bytes:
    """The body of the chat call. Raises BadRequest."""
    members = parse_members(body)
    prompt = members.pop("prompt", None)
    if prompt is None:
        raise BadRequest("Missing required parameter: 'prompt'.", param="prompt", code="missing_required_parameter")
    if not bytes(prompt).startswith(b'"'):
        raise BadRequest(
            f"Invalid type for 'prompt': expected a string, but got {kind_of(prompt)} instead.",
            param="prompt",
            code="invalid_type",
        )
    if "messages" in members:
        raise _unsupported("messages", "the prompt is the whole conversation here")
    if bytes(members.get("stream", b"null")) not in (b"false", b"null"):
        raise _unsupported("stream", "this form is never streamed")
    message: Members = {"role": Raw(b'"user"'), "content": prompt}
    return encode_members({**members, "messages": Raw(b"[" + encode_members(message) + b"]")})


def in_short(body: bytes, record: Record) -> bytes:
    """The answer in short; what is no chat completion comes out empty."""
    completion = _decode(body)
    choice = completion.choices[0] if completion.choices else _Choice()
    hit = record.cache.startswith(_HIT)
    return _encode(
        _Short(
            response=_text(choice.message.content) or choice.message.refusal or "",
            model=completion.model,
            usage=completion.usage,
            cached=hit,
            cache_type=record.cache.removeprefix(_HIT) if hit else None,
            finish_reason=choice.finish_reason,
            provider=record.provider,
            request_id=record.id,
        )
    )


def _text(content: Any) -> str:
    if isinstance(content, list):  # some providers answer in parts
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _unsupported(param: str, why: str) -> BadRequest:
    return BadRequest(
        f"'{param}' is not taken here: {why}. Use /v1/chat/completions.", param=param, code="unsupported_parameter"
    )
