"""Every OpenAI-compatible provider: OpenAI, Azure, Groq, OpenRouter, Gemini's endpoint, Ollama, vLLM, TEI and others
are configuration of this one adapter."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import quote

import msgspec

from adapters.attempt_bounds import before_commit, bounded
from adapters.relay import Relay
from adapters.transport import Opened, Request, Transport, TransportError
from adapters.upstream_errors import bad_answer, from_status, from_transport
from adapters.whole import check_whole
from proxy.call import Call
from proxy.chunk_shapes import ChatShape, TextShape
from proxy.chunks import ChunkReader, Reader
from proxy.deployments import Deployment
from proxy.endpoints import Endpoint
from proxy.errors import BadRequest, UpstreamError
from proxy.limits import Limit
from proxy.reply import Reply
from proxy.response_events import ResponseReader
from proxy.wire import splice

_SUCCESS = range(200, 300)
_BAD_REQUEST = 400
_ERROR_BODY = 1024 * 1024
_CHAT, _TEXT = ChatShape(), TextShape()


class OpenAISettings(msgspec.Struct, frozen=True):
    """How to reach one provider.

    `api_version` makes it an Azure one: the model stands in the path, the key in `api-key`. `usage: omit` never asks
    for usage on a stream; `ask` does, until the provider answers a 400 that names `stream_options`.
    `responses` says whether it has /responses.
    """

    name: str
    base_url: str
    api_key: str = ""
    headers: Mapping[str, str] = {}
    api_version: str = ""
    usage: Literal["ask", "omit"] = "ask"
    responses: bool = True


class OpenAIProvider:
    """Sends calls to one OpenAI-compatible API over a transport. `now` is Unix time."""

    def __init__(self, settings: OpenAISettings, transport: Transport, now: Callable[[], float]) -> None:
        self._settings = settings
        self._transport = transport
        self._now = now
        self._base = settings.base_url.rstrip("/")
        self._headers = _request_headers(settings)
        self._omit_usage: set[str] = set()
        """Models whose server has refused `stream_options`."""

    async def __call__(self, call: Call, deployment: Deployment, /) -> Reply:
        """Send the call once. Raises UpstreamError before the commit point, BadRequest for what it does not have."""
        if call.endpoint.name == "responses" and not self._settings.responses:
            raise BadRequest(
                f"The provider behind '{call.head.model}' does not have /v1/responses: use /v1/chat/completions.",
                param="model",
                code="unsupported_endpoint",
            )
        if not call.head.stream:
            return await self._whole(call, deployment)
        try:
            return await self._stream(call, deployment, ask_usage=self._asks_usage(call, deployment))
        except UpstreamError as error:
            if not (self._asks_usage(call, deployment) and _names_stream_options(error)):
                raise
        self._omit_usage.add(deployment.model)
        return await self._stream(call, deployment, ask_usage=False)

    async def aclose(self) -> None:
        """The transport belongs to whoever made it."""

    def _asks_usage(self, call: Call, deployment: Deployment) -> bool:
        return (
            call.endpoint.asks_usage
            and not call.head.include_usage
            and self._settings.usage == "ask"
            and deployment.model not in self._omit_usage
        )

    def _request(self, call: Call, deployment: Deployment, *, total: float | None, ask_usage: bool = False) -> Request:
        return Request(
            url=self._url(call.endpoint, deployment.model),
            headers=self._headers,
            body=splice(call.head.members, model=deployment.model, ask_usage=ask_usage),
            connect=deployment.timeouts.connect,
            total=total,
        )

    def _url(self, endpoint: Endpoint, model: str) -> str:
        version = self._settings.api_version
        if not version:
            return self._base + endpoint.path
        # a client may have named the model, where a route is a pattern: it must stay one segment of the path
        return f"{self._base}/openai/deployments/{quote(model, safe='')}{endpoint.path}?api-version={version}"

    async def _whole(self, call: Call, deployment: Deployment) -> Reply:
        request = self._request(call, deployment, total=bounded(deployment.timeouts.total, call))
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            raise from_transport(error) from error
        if answer.status not in _SUCCESS:
            raise from_status(answer.status, answer.headers, answer.body, self._now())
        body, usage = check_whole(answer.body, answer.status, call)
        call.record.usage = usage
        return Reply.whole(body)

    async def _stream(self, call: Call, deployment: Deployment, *, ask_usage: bool) -> Reply:
        request = self._request(call, deployment, total=None, ask_usage=ask_usage)
        opened: Opened | None = None
        try:
            with Limit(bounded(deployment.timeouts.first_content, call)):
                opened = await self._transport.stream(request)
                await self._check_head(opened)
                relay = Relay(opened, _reader(call, deployment), call.record, idle=deployment.timeouts.idle)
                await relay.commit()
        except BaseException as error:
            if opened is not None:
                opened.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise before_commit(error, opened.status if opened is not None else 0) from error
        reply = Reply(relay.items(), streaming=True)
        reply.on_close(relay.release)
        return reply

    async def _check_head(self, opened: Opened) -> None:
        if opened.status not in _SUCCESS:
            body = await _read_some(opened)
            raise from_status(opened.status, opened.headers, body, self._now())
        if "json" in opened.headers.get("content-type", ""):
            raise bad_answer(opened.status, "not_a_stream")
        if "html" in opened.headers.get("content-type", ""):
            raise bad_answer(opened.status, "html")


def _request_headers(settings: OpenAISettings) -> Mapping[str, str]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if settings.api_key:
        if settings.api_version:
            headers["api-key"] = settings.api_key
        else:
            headers["authorization"] = f"Bearer {settings.api_key}"
    return {**headers, **{name.lower(): value for name, value in settings.headers.items()}}


def _reader(call: Call, deployment: Deployment) -> Reader:
    if call.endpoint.dialect == "responses":
        return ResponseReader()
    shape = _CHAT if call.endpoint.dialect == "chat" else _TEXT
    return ChunkReader(shape, asked=call.head.include_usage, id=f"chatcmpl-{call.id}", model=deployment.model)


async def _read_some(opened: Opened) -> bytes:
    """An error's body, up to 1 MB."""
    body = bytearray()
    while len(body) < _ERROR_BODY and (chunk := await opened.read()):
        body += chunk
    return bytes(body)


def _names_stream_options(error: UpstreamError) -> bool:
    return error.upstream_status == _BAD_REQUEST and b"stream_options" in error.body()
