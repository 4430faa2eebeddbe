"""A local stand-in of Anthropic's Messages API, as far as the tests need it: real HTTP, their wire format, their errors.

The model says what happens: `claude-echo` answers with the last user text, `claude-tools` calls the first tool with
`{"city": "Paris"}`, `claude-status-529` fails so, `claude-cut` and `claude-end` break off in the middle of a stream (with a
reset connection and with a clean end), `claude-error` sends an error event in the middle, `claude-slow` waits.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

Json = dict[str, Any]

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class StandIn:
    """What the stand-in saw."""

    def __init__(self) -> None:
        self.requests: list[Json] = []
        self.headers: dict[str, str] = {}
        self.active = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request after another."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = raw.split("\r\n")
                self.headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(self.headers.get("content-length", "0")))
                self.active += 1
                try:
                    await self._answer(lines[0].split()[1], json.loads(body), reader, writer)
                finally:
                    self.active -= 1
        writer.close()

    async def _answer(self, path: str, body: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append({"path": path, **body})
        model: str = body["model"]
        if "-status-" in model:
            status = int(model.rsplit("-", 1)[1])
            error = {"type": "error", "error": {"type": _ERRORS[status], "message": f"stand-in says {status}"}}
            _whole(writer, status, error, "retry-after: 7\r\n" if status == 429 else "")
        elif model == "claude-slow":
            await _until_gone(reader)
        elif body.get("stream"):
            await self._stream(model, body, writer, reader)
        else:
            _whole(writer, 200, _message(model, body))

    async def _stream(self, model: str, body: Json, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        events = _events(_message(model, body))
        for number, planned in enumerate(events):
            event = planned
            if number == len(events) // 2 and model == "claude-cut":
                writer.transport.abort()
                return
            if number == len(events) // 2 and model == "claude-end":
                break
            if number == len(events) // 2 and model == "claude-error":
                event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            if number == len(events) // 2 and model == "claude-stall":
                await _until_gone(reader)
                return
            _chunk(writer, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(0.005)
            if event["type"] == "error":
                break
        writer.write(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def anthropic_stand_in() -> AsyncIterator[tuple[StandIn, str]]:
    """Serve on this loop; gives what it sees and its base URL."""
    seen = StandIn()
    server = await asyncio.start_server(seen.serve, "127.0.0.1", 0)
    try:
        yield seen, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    await reader.read(1)


def _whole(writer: asyncio.StreamWriter, status: int, body: Json, extra: str = "") -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{extra}\r\n"
    writer.write(head.encode() + data)


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _message(model: str, body: Json) -> Json:
    """The whole answer to a request."""
    last: Any = body["messages"][-1]["content"]
    parts: list[Json] = [{"type": "text", "text": last}] if isinstance(last, str) else last
    results = [part for part in parts if part["type"] == "tool_result"]
    images = [part for part in parts if part["type"] == "image"]
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    content: list[Json] = [{"type": "text", "text": text or "nothing"}]
    stop = "end_turn"
    if results:
        content = [{"type": "text", "text": f"The tool said {json.dumps(results[0]['content'])}"}]
    elif images:
        content = [{"type": "text", "text": f"An image of {len(images[0]['source']['data'])} characters"}]
    elif model == "claude-tools":
        tool = body["tools"][0]["name"]
        content = [{"type": "tool_use", "id": "toolu_1", "name": tool, "input": {"city": "Paris"}}]
        stop = "tool_use"
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _events(message: Json) -> list[Json]:
    """The same answer as a stream."""
    usage = message["usage"]
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty: Json = {"type": "text", "text": ""}
            words = [{"type": "text_delta", "text": word} for word in block["text"].split(" ")]
            deltas = [
                {**word, "text": word["text"] + (" " if n < len(words) - 1 else "")} for n, word in enumerate(words)
            ]
        else:
            empty = {**block, "input": {}}
            raw = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": raw[at : at + 4]} for at in range(0, len(raw), 4)]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}})
    return [*events, {"type": "message_stop"}]
