"""A mock upstream that speaks OpenAI's chat completions, cheap enough never to be the bottleneck.

`python bench/upstream.py` prints `listening on http://127.0.0.1:PORT`. A body with `"stream": true` is answered by
server-sent events, anything else by a chat completion of about 1 kB. The model name paces a stream: `stream-100-20ms`
sends 100 content events 20 ms apart (`stream-100-0ms`: all at once); any other model streams what `--events` and
`--pace-ms` say. The role event and the first content event leave together, as they do in real upstreams.
"""

import argparse
import asyncio
import json
import re
from typing import cast

import httptools
import uvloop

_STREAM = re.compile(rb'"stream":\s*true')
_USAGE = re.compile(rb'"include_usage":\s*true')
_PROFILE = re.compile(rb'"model":\s*"stream-(\d+)-(\d+)ms')
_WORD = "word "
_NAMES = {"id": "chatcmpl-bench", "created": 1790000000, "model": "gpt-4o-2024-08-06", "service_tier": "default"}
_USED = {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320}


def _whole() -> bytes:
    message: dict[str, object] = {"role": "assistant", "content": _WORD * 120, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = json.dumps(_NAMES | {"object": "chat.completion", "choices": [choice], "usage": _USED}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def _event(choices: list[object], usage: dict[str, object]) -> bytes:
    event = _NAMES | {"object": "chat.completion.chunk", "choices": choices} | usage
    return _chunk(json.dumps(event, separators=(",", ":")).encode())


class _Events:
    """The ready-made events of a stream, with or without what `include_usage` adds."""

    def __init__(self, *, usage: bool) -> None:
        null: dict[str, object] = {"usage": None} if usage else {}
        role = {"role": "assistant", "content": "", "refusal": None}
        self.role = _event([{"index": 0, "delta": role, "logprobs": None, "finish_reason": None}], null)
        self.content = _event(
            [{"index": 0, "delta": {"content": _WORD}, "logprobs": None, "finish_reason": None}], null
        )
        last = _event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], null)
        extra = _event([], {"usage": _USED}) if usage else b""
        self.end = last + extra + _chunk(b"[DONE]") + b"0\r\n\r\n"


_WHOLE = _whole()
_PLAIN = _Events(usage=False)
_METERED = _Events(usage=True)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    """One connection; calls on it are answered one after the other."""

    def __init__(self, events: int, pace: float) -> None:
        """`events` and `pace` (seconds) shape a stream whose model does not say."""
        self._default = (events, pace)
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Uvloop sets TCP_NODELAY on every stream transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls back below."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the stream, if one runs."""
        if self._timer:
            self._timer.cancel()

    def on_body(self, body: bytes) -> None:
        """Collect the request."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request."""
        body = b"".join(self._body)
        self._body.clear()
        if not _STREAM.search(body):
            self._transport.write(_WHOLE)
            return
        events, pace = self._default
        if profile := _PROFILE.search(body):
            events, pace = int(profile[1]), int(profile[2]) / 1000
        kind = _METERED if _USAGE.search(body) else _PLAIN
        if pace == 0:
            self._transport.write(_STREAM_HEAD + kind.role + kind.content * events + kind.end)
            return
        self._transport.write(_STREAM_HEAD + kind.role + kind.content)
        self._timer = self._loop.call_later(pace, self._tick, kind, events - 1, pace, self._loop.time() + pace)

    def _tick(self, kind: _Events, left: int, pace: float, due: float) -> None:
        if left <= 0:
            self._transport.write(kind.end)
            return
        self._transport.write(kind.content)
        self._timer = self._loop.call_at(due + pace, self._tick, kind, left - 1, pace, due + pace)


async def _serve(host: str, port: int, events: int, pace: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(events, pace), host, port, backlog=4096)
    print(f"listening on http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--pace-ms", type=float, default=20)
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments.host, arguments.port, arguments.events, arguments.pace_ms / 1000))


if __name__ == "__main__":
    main()
