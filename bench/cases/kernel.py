"""What the kernel adds to a call and to a relayed event, piece by piece, with no socket in between."""

import json
from collections.abc import Mapping

from calls import a_call, request
from micro import Cases, Timed

from adapters.relay import Relay
from adapters.whole import check_whole
from proxy.call import Call, Record
from proxy.chain import Handler, chain
from proxy.chunk_shapes import ChatShape
from proxy.chunks import ChunkReader
from proxy.endpoints import CHAT
from proxy.ids import new_id
from proxy.reply import Reply
from proxy.sse import Framer
from proxy.wire import read_head, splice

NAMES = {"id": "chatcmpl-bench", "created": 1790000000, "model": "gpt-4o"}
USED = {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320}
ROLE = {"role": "assistant", "content": "", "refusal": None}
MESSAGE = {"role": "assistant", "content": "word " * 120, "refusal": None}


def event(delta: Mapping[str, object]) -> bytes:
    """One event as a provider that was asked for usage sends it."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    chunk = NAMES | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


class Upstream:
    """An opened stream that never ends: the role, then one content event a read."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012  (the seam's type)

    def __init__(self) -> None:
        self._next, self._content = event(ROLE), event({"content": "word "})

    async def read(self) -> bytes:
        """The next event."""
        data, self._next = self._next, self._content
        return data

    def close(self) -> None:
        """Nothing is held."""


class Pass:
    """A policy that does nothing."""

    async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002  (the seam's word)
        """Pass the call on."""
        return await next(call)


def register(cases: Cases) -> None:
    """The pieces in the order in which a call meets them."""
    _register_calls(cases)
    _register_events(cases)


def _register_calls(cases: Cases) -> None:
    small, large = request(1000), request(300_000)
    call, big = a_call(small), a_call(large)
    choice = {"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}
    answer = json.dumps(NAMES | {"object": "chat.completion", "choices": [choice], "usage": USED}).encode()

    cases.case("kernel: new id")(lambda: new_id)
    cases.case("kernel: read a 1 kB body")(lambda: lambda: read_head(small, CHAT))
    cases.case("kernel: read a 300 kB body")(lambda: lambda: read_head(large, CHAT))
    cases.case("kernel: splice 1 kB")(lambda: lambda: splice(call.head.members, model="gpt-4o", ask_usage=True))
    cases.case("kernel: splice 300 kB")(lambda: lambda: splice(big.head.members, model="gpt-4o", ask_usage=False))
    cases.case("kernel: check a 1 kB answer")(lambda: lambda: check_whole(answer, 200, call))
    cases.case("kernel: replace one field of a call")(lambda: lambda: call.replace(body=small))

    @cases.case("kernel: a chain of five policies that do nothing")
    def five() -> Timed:
        async def innermost(_call: Call) -> Reply:
            return Reply.whole(answer)

        handler = chain([Pass()] * 5, innermost)

        async def run() -> Reply:
            return await handler(call)

        return run


def _register_events(cases: Cases) -> None:
    role, content = event(ROLE), event({"content": "word "})

    @cases.case("kernel: frame one event")
    def frame() -> Timed:
        framer = Framer()
        framer.feed(role)
        return lambda: framer.feed(content)

    @cases.case("kernel: read one event, usage taken out")
    def take() -> Timed:
        reader = ChunkReader(ChatShape(), asked=False, id="x", model="gpt-4o")
        reader.take(b"", role[6:-2])
        data = content[6:-2]
        return lambda: reader.take(b"", data)

    @cases.case("kernel: relay one event")
    def relay() -> Timed:
        reader = ChunkReader(ChatShape(), asked=False, id="x", model="gpt-4o")
        stream = Relay(Upstream(), reader, Record(id="0" * 32, endpoint="chat", started=0.0), idle=60)
        items = stream.items()

        async def run() -> bytes:
            return await anext(items)

        return run
