"""Where ASGI ends: one raw handler for the OpenAI routes. Nothing else knows ASGI or turns an error into JSON."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping

from litestar.types import HTTPScope, Receive, Send

from proxy.at_once import lines_of
from proxy.call import NANO, Call, Outcome, Record
from proxy.client import Client
from proxy.endpoints import Endpoint
from proxy.errors import (
    BadRequest,
    GatewayError,
    GuardBlocked,
    InternalError,
    Overloaded,
    UpstreamInterrupted,
    WrongMethod,
)
from proxy.headers import Headers, HeadersRead
from proxy.ids import new_id
from proxy.logs import current_call
from proxy.paths import Target
from proxy.places import Places
from proxy.reply import Reply
from proxy.rounds import Rounds
from proxy.runtime import Runtime
from proxy.sse import DONE_ITEM, frame
from proxy.values import spell

logger = logging.getLogger("lockgate")

_LONG = 0.02
"""Seconds before a client's presence is watched: most answers are quicker, and a watcher is a task of its own."""
_WINDOW = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"  # filled in twice
)
_REQUESTS = _WINDOW % ((b"requests",) * 3)
_TOKENS = _WINDOW % ((b"tokens",) * 3)


class Edge:
    """Turns ASGI into calls, and replies and errors into ASGI.

    `runtime` may be replaced at any time: a call keeps the one it began with.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.clients: set[Client] = set()
        self._places = Places()
        self._headers = HeadersRead()
        self._waiting = Rounds[Client](_LONG, _LONG, Client.wait_longer)

    def __call__(self, target: Target, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one request for this target, in the task that calls this and awaits what comes back. Never raises, but for a
        cancellation that is not the client's doing.
        """
        client = Client(receive, send, asyncio.get_running_loop(), self._waiting)
        call = _call(scope, target, client, self._headers.of(scope["headers"]))
        runtime = self.runtime
        if runtime.cors is not None:
            client.extra = lines_of(runtime.cors.headers(call.headers.get("origin")))
            if scope["method"] == "OPTIONS":
                return client.preflight(scope["headers"])
        return self._handle(call, target, scope, client, runtime)

    def cut(self) -> None:
        """End every call now: streams with an error event, others with a 503."""
        for client in self.clients:
            client.cut()

    async def _handle(self, call: Call, target: Target, scope: HTTPScope, client: Client, runtime: Runtime) -> None:
        reply: Reply | None = None
        method = scope["method"]
        self.clients.add(client)
        runtime.calls += 1
        try:
            _check_host(call, scope)
            if method not in target.methods:
                raise WrongMethod(  # noqa: TRY301 - rendered below like every other
                    f"Not allowed to {method} on this path. Try {' or '.join(target.methods)}.",
                    headers={"allow": ", ".join(target.methods)},
                )
            if not self._places.take(client, runtime.capacity):
                await self._wait_for_place(client, call.record, runtime)
            client.keep_alive(runtime.early_headers, call.record)
            reply = await runtime.handlers[target.endpoint.name](call)
            client.hold()
            sending = _sent(reply, call, client)
            if sending is not None:
                await sending
            closing = reply.over("complete")
            if closing is not None:
                await closing
        except asyncio.CancelledError:
            client.absorb()
            await _abandon(reply, call, client)
            if not (client.gone or client.was_cut):
                raise
        except GatewayError as error:
            await _fail(error, reply, call, client)
        except Exception:  # the last resort: whatever we did wrong, the client gets an answer in shape
            logger.exception("call %s failed", call.id)
            await _fail(InternalError(), reply, call, client)
        finally:
            client.finish()
            self._places.leave(client)
            self.clients.discard(client)
            runtime.calls -= 1

    async def _wait_for_place(self, client: Client, record: Record, runtime: Runtime) -> None:
        began = time.monotonic()
        client.line_up()
        try:
            await self._places.queue(client, runtime.capacity)
        finally:
            client.called_up()
            record.queued = time.monotonic() - began


def _call(scope: HTTPScope, target: Target, client: Client, headers: Headers) -> Call:
    by_name, said = headers
    peer = scope.get("client")
    call_id = new_id()
    current_call.set(call_id)  # the server handles each request in a task of its own
    return Call(
        id=call_id,
        endpoint=target.endpoint,
        headers=by_name,
        said=said,
        record=Record(
            id=call_id,
            endpoint=target.endpoint.name,
            started=time.time(),
            client_request_id=by_name.get("x-client-request-id", by_name.get("x-request-id", ""))[:200],
            peer=peer[0] if peer else "",
        ),
        peer=peer[0] if peer else "",
        path_model=target.model,
        read_body=client.read_body,
        arrived=client.arrived,
    )


def _check_host(call: Call, scope: HTTPScope) -> None:
    """One Host, as RFC 9112 §3.2 demands: others along the way may have gone by another one than we would."""
    host = call.headers.get("host")
    if (host is None and scope["http_version"] != "1.0") or (host is not None and "," in host):
        raise BadRequest("A request must have one Host header.", code="invalid_http")


def _sent(reply: Reply, call: Call, client: Client) -> Awaitable[None] | None:
    """Send the whole reply; what comes back is still to be awaited. An error before the first byte is raised; a broken
    stream ends with an error event.
    """
    body = reply.at_hand
    if body is None or (reply.streaming and client.started):
        return _send(reply, call, client)
    return client.put(reply.status, _head(reply.headers, call, client), body, stream=reply.streaming)


async def _send(reply: Reply, call: Call, client: Client) -> None:
    if not reply.streaming:
        body = b"".join([item async for item in reply.items])
        sending = client.put(reply.status, _head(reply.headers, call, client), body)
        if sending is not None:
            await sending
        return
    if not client.started:
        await client.start(reply.status, _head(reply.headers, call, client))
    async for item in reply.items:
        if item == DONE_ITEM:
            await client.end(item)  # in one write with the end: clients drain or drop the connection right after
        else:
            await client.event(item)
    await client.end()


async def _fail(error: GatewayError, reply: Reply | None, call: Call, client: Client) -> None:
    """Answer with an error; on a stream that has begun, with an error event and no `[DONE]`."""
    client.hold()
    try:
        if client.started:
            await client.event(error_event(error, call.endpoint))
            await client.end()
        else:
            headers = _head({**error.headers, **(reply.headers if reply is not None else {})}, call, client)
            sending = client.put(error.http_status, headers, error.body())
            if sending is not None:
                await sending
    except asyncio.CancelledError:
        client.absorb()
        if not (client.gone or client.was_cut):
            raise
    finally:
        if reply is not None:
            await reply.aclose(_outcome(error))


async def _abandon(reply: Reply | None, call: Call, client: Client) -> None:
    """The call was cancelled: by its client's leaving, by our own end, or by the server."""
    if reply is not None:
        closing = getattr(reply.items, "aclose", None)
        if closing is not None:
            await closing()
    if client.was_cut and not client.gone:
        await _fail(_going_down(client), reply, call, client)
    elif reply is not None:
        await reply.aclose("client_disconnect" if client.gone else "error")


def _going_down(client: Client) -> GatewayError:
    if client.started:
        return UpstreamInterrupted("The gateway is shutting down.", kind="shutdown", code="gateway_shutdown")
    return Overloaded("The gateway is shutting down. Try again.")


def _outcome(error: GatewayError) -> Outcome:
    if isinstance(error, GuardBlocked):
        return "guard_blocked"
    return "upstream_interrupted" if isinstance(error, UpstreamInterrupted) else "error"


def error_event(error: GatewayError, endpoint: Endpoint) -> bytes:
    """The error as the last event of a stream, in the form that the endpoint's clients read."""
    if endpoint.dialect != "responses":
        return frame(error.body())
    sequence = getattr(error, "sequence", 0)
    return frame(error.event_body(sequence), b"error")


def _head(extra: Mapping[str, str], call: Call, client: Client) -> bytes:
    """Every answer's headers (CONTRACT §7)."""
    record = call.record
    elapsed = max(0.0, time.time() - record.started) * 1000
    lines = [
        b"x-request-id: %b\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: %d\r\n"
        b"x-lockgate-overhead-ms: %.2f\r\nx-lockgate-guard: %b\r\n"
        % (
            call.id.encode(),
            elapsed,
            max(0.0, elapsed - record.upstream * 1000),
            record.guard.encode() or b"off",
        )
    ]
    if record.provider:
        lines.append(
            b"x-lockgate-provider: %b\r\nx-lockgate-model: %b\r\nx-lockgate-attempts: %d\r\nx-lockgate-fallbacks: %d\r\n"
            % (_clean(record.provider), _clean(record.upstream_model), len(record.attempts), record.fallbacks)
        )
    if record.cache:
        lines.append(b"x-lockgate-cache: %b\r\n" % record.cache.encode())
    if record.similarity is not None:
        lines.append(b"x-lockgate-similarity: %.4f\r\n" % record.similarity)
    if record.cost is not None:
        lines.append(b"x-lockgate-cost-usd: %.9f\r\n" % (record.cost / NANO))
    requests, tokens = record.requests, record.tokens
    reset = b"" if requests is None else spell(requests.reset).encode()
    if requests is not None:
        lines.append(_REQUESTS % (requests.limit, requests.remaining, reset))
    if tokens is not None:
        if requests is None or requests.reset != tokens.reset:
            reset = spell(tokens.reset).encode()
        lines.append(_TOKENS % (tokens.limit, tokens.remaining, reset))
    for name, value in extra.items():
        lines.append(b"%b: %b\r\n" % (name.encode("latin-1"), _clean(value)))
    lines.append(client.extra)
    return b"".join(lines)


def _clean(value: str) -> bytes:
    """A header value without bytes that could end it."""
    raw = value.encode("latin-1", "replace")
    return raw if value.isprintable() else bytes(max(byte, ord(" ")) for byte in raw)
