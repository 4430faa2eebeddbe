"""Providers whose wire format is their own, by way of the litellm SDK.

This module is looked up by name, and litellm loaded, only when such a provider is configured. litellm translates; what
is committed, checked and told of a failure is decided by the same code as for every other provider.
"""

import asyncio
import importlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import httpx
import msgspec
import openai

from adapters.attempt_bounds import before_commit, bounded
from adapters.relay import Relay
from adapters.transport import TransportError
from adapters.upstream_errors import bad_answer, from_status, from_transport
from adapters.whole import check_whole
from proxy.call import Call
from proxy.chunk_shapes import ChatShape
from proxy.chunks import ChunkReader
from proxy.config import LiteLLMConfig
from proxy.deployments import Deployment
from proxy.endpoints import CHAT, EMBEDDINGS
from proxy.errors import BadRequest, UpstreamError, UpstreamTimeout
from proxy.limits import Limit
from proxy.reply import Reply
from proxy.sse import frame

_FAILURES = (openai.OpenAIError, httpx.HTTPError)
_OURS = frozenset({"model", "messages", "input", "stream", "stream_options"})
_NEVER = frozenset({"extra_headers", "base_url", "api_base", "api_key", "api_version", "timeout", "metadata"})
"""Arguments of litellm that a client must not reach by naming them in its body."""
_DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    "store": False,
    "logprobs": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "encoding_format": "float",
}
"""What OpenAI does anyhow: a provider that lacks the parameter does it too."""
_CODES = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
}
_REFUSED = 400


def load_sdk() -> Any:
    """litellm, told to stay off the network and quiet. Takes seconds the first time."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    sdk: Any = importlib.import_module("litellm")
    sdk.suppress_debug_info = True
    return sdk


def make_provider(name: str, config: LiteLLMConfig) -> "LiteLLMProvider":
    """What `proxy/build.py` asks for."""
    key = config.api_key.reveal() if config.api_key is not None else None
    return LiteLLMProvider(
        load_sdk(),
        name=name,
        vendor=config.vendor,
        api_key=key,
        base_url=config.base_url,
        unsupported=config.unsupported,
    )


class LiteLLMProvider:
    """Sends calls to one vendor through litellm, once each: retries are the gateway's.

    A parameter that the vendor does not have is refused by name, or dropped and listed when `unsupported` says so.
    """

    def __init__(  # noqa: PLR0913 - settings of one provider, by name
        self,
        sdk: Any,
        *,
        name: str,
        vendor: str,
        api_key: str | None,
        base_url: str | None,
        unsupported: Literal["refuse", "drop"],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sdk = sdk
        self._name = name
        self._vendor = vendor
        self._api_key = api_key
        self._base_url = base_url
        self._unsupported = unsupported
        self._now = now
        self._shape = ChatShape()
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, call: Call, deployment: Deployment, /) -> Reply:
        """Send the call once. Raises UpstreamError before the commit point, BadRequest for what cannot be said there."""
        if call.endpoint not in (CHAT, EMBEDDINGS):
            raise BadRequest(
                f"The provider behind '{call.head.model}' does not have {call.endpoint.path}.",
                param="model",
                code="unsupported_endpoint",
            )
        arguments = self._arguments(call, deployment)
        if call.head.stream:
            reply = await self._stream(call, deployment, arguments)
        else:
            reply = await self._whole(call, deployment, arguments)
        if call.record.dropped:
            reply.headers["x-lockgate-dropped-params"] = ", ".join(call.record.dropped)
        return reply

    async def aclose(self) -> None:
        """Wait for streams that are being closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _arguments(self, call: Call, deployment: Deployment) -> dict[str, Any]:
        members = {name: msgspec.json.decode(raw) for name, raw in call.head.members.items()}
        wanted = {name: value for name, value in members.items() if name not in _OURS and value is not None}
        has = set(self._supported(call, deployment)) - _NEVER
        lacking = [name for name in wanted if name not in has and wanted[name] != _DEFAULTS.get(name, _OURS)]
        if lacking and self._unsupported == "refuse":
            raise BadRequest(
                f"Unsupported parameter: '{lacking[0]}' is not supported by the provider of this model.",
                param=lacking[0],
                code="unsupported_parameter",
            )
        call.record.dropped = lacking
        text = "messages" if call.endpoint is CHAT else "input"
        return {
            **{name: value for name, value in wanted.items() if name in has},
            text: members[text],
            "model": f"{self._vendor}/{deployment.model}",
            "api_key": self._api_key,
            "api_base": self._base_url,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": False,
        }

    def _supported(self, call: Call, deployment: Deployment) -> list[str]:
        kind = "chat_completion" if call.endpoint is CHAT else "embeddings"
        found: list[str] | None = self._sdk.get_supported_openai_params(
            model=deployment.model, custom_llm_provider=self._vendor, request_type=kind
        )
        return found or []

    async def _whole(self, call: Call, deployment: Deployment, arguments: dict[str, Any]) -> Reply:
        ask = self._sdk.acompletion if call.endpoint is CHAT else self._sdk.aembedding
        total = bounded(deployment.timeouts.total, call)
        patience = httpx.Timeout(total, connect=deployment.timeouts.connect)
        try:
            with Limit(total):
                answer = await ask(**arguments, timeout=patience)
        except TimeoutError as error:
            raise UpstreamTimeout("The provider did not answer in time.", kind="timeout") from error
        except _FAILURES as error:
            raise self._told(error) from error
        body = msgspec.json.encode(_shaped(answer.model_dump()))
        body, call.record.usage = check_whole(body, 200, call)
        return Reply.whole(body)

    async def _stream(self, call: Call, deployment: Deployment, arguments: dict[str, Any]) -> Reply:
        timeouts = deployment.timeouts
        patience = httpx.Timeout(timeouts.idle + timeouts.first_content, connect=timeouts.connect)
        opened: _Chunks | None = None
        try:
            with Limit(bounded(timeouts.first_content, call)):
                chunks = await self._sdk.acompletion(
                    **arguments, timeout=patience, stream=True, stream_options={"include_usage": True}
                )
                opened = _Chunks(chunks, self._close)
                reader = ChunkReader(
                    self._shape, asked=call.head.include_usage, id=f"chatcmpl-{call.id}", model=deployment.model
                )
                relay = Relay(opened, reader, call.record, idle=timeouts.idle)
                await relay.commit()
        except BaseException as error:
            if opened is not None:
                opened.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise (self._told(error) if isinstance(error, _FAILURES) else before_commit(error, 200)) from error
        reply = Reply(relay.items(), streaming=True)
        reply.on_close(relay.release)
        return reply

    def _told(self, error: Exception) -> UpstreamError:
        """By the status alone: litellm's classes go by what the text says."""
        if isinstance(error, openai.APITimeoutError | httpx.TimeoutException):
            return from_transport(TransportError("timeout"))
        status = getattr(error, "status_code", None)
        if isinstance(error, openai.APIConnectionError | httpx.HTTPError) or not isinstance(status, int):
            return from_transport(TransportError("connect"))
        if status < _REFUSED:
            return bad_answer(status, "bad_answer")
        headers = getattr(error, "litellm_response_headers", None) or {}
        lower = {str(name).lower(): str(value) for name, value in dict(headers).items()}
        shaped = {
            "message": _message(error),
            "type": "invalid_request_error",
            "param": None,
            "code": _CODES.get(type(error).__name__),
        }
        return from_status(status, lower, msgspec.json.encode({"error": shaped}), self._now())

    def _close(self, chunks: Any) -> None:
        """Release litellm's stream, which can only be done by awaiting."""

        async def close() -> None:
            closing = getattr(chunks, "aclose", None)
            if closing is not None:
                await closing()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Chunks:
    """litellm's iterator of chunks as an opened upstream answer.

    litellm ends every stream with a finish reason, also one that broke off: only a reason that it received counts.
    """

    status = 200

    def __init__(self, chunks: Any, close: Callable[[Any], None]) -> None:
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream"}
        self._chunks = chunks
        self._close = close
        self._open = True

    async def read(self) -> bytes:
        """The next chunk as an event; b"" at the end. Raises TransportError when the stream breaks."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._open = False
            return b""
        except _FAILURES as error:
            raise TransportError("reset", str(error)[:200]) from error
        event = chunk.model_dump(exclude_none=True)
        finished = any(choice.get("finish_reason") for choice in event.get("choices", ()))
        if finished and getattr(self._chunks, "received_finish_reason", True) is None:
            raise TransportError("reset", "the stream ended without a stop reason")
        return frame(msgspec.json.encode(event))

    def close(self) -> None:
        """Let the connection go, unless the stream has ended."""
        if self._open:
            self._open = False
            self._close(self._chunks)


def _shaped(answer: dict[str, Any]) -> dict[str, Any]:
    """A whole answer as OpenAI writes it: without litellm's empty members, with the required ones."""
    for choice in answer.get("choices") or ():
        message = choice.get("message") or {}
        kept = {
            name: value for name, value in message.items() if value is not None and name != "provider_specific_fields"
        }
        choice["message"] = {"role": "assistant", "content": None, "refusal": None, **kept}
        choice.setdefault("logprobs", None)
        choice.pop("provider_specific_fields", None)
    return {name: value for name, value in answer.items() if value is not None}


def _message(error: Exception) -> str:
    """The provider's own words out of litellm's, at most 500 characters."""
    text = str(getattr(error, "message", error))
    start = text.find("{")
    if start >= 0:
        try:
            told = msgspec.json.decode(text[start : text.rfind("}") + 1])
        except msgspec.DecodeError:
            told = None
        inner = told.get("error") if isinstance(told, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            text = inner["message"]
    return text[:500]
