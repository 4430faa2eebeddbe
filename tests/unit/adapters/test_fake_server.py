"""The fake provider over real HTTP, asked by raw sockets and by the real OpenAI SDK."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from adapters.fake_server import FakeServer, serve

BODY = b'{"model":"echo","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
async def fake() -> AsyncIterator[tuple[FakeServer, int]]:
    server, port = await serve()
    yield server, port
    await server.aclose()


@pytest.fixture
async def sdk(fake: tuple[FakeServer, int]) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{fake[1]}/v1", api_key="k", max_retries=0) as client:
        yield client


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not what():  # noqa: ASYNC110  # the far side of a socket has no event to wait for
            await asyncio.sleep(0.001)


async def exchange(port: int, *parts: bytes) -> bytes:
    """Write the parts one after the other and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.005)
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return data


def post(body: bytes, headers: str = "", *, close: bool = True) -> bytes:
    last = "connection: close\r\n" if close else ""
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{headers}{last}content-length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def test_stats_show_the_last_request_byte_for_byte(fake: tuple[FakeServer, int]) -> None:
    server, port = fake
    body = b'{ "model" : "echo","messages":[{"role":"user","content":"\\u00e9"}] }'
    await exchange(port, post(body, "X-Odd: a  b\r\n"))
    raw = await exchange(port, b"GET /__fake__/stats HTTP/1.1\r\nconnection: close\r\n\r\n")
    stats = json.loads(raw.partition(b"\r\n\r\n")[2])
    assert base64.b64decode(stats["last"]["body_base64"]) == body
    assert ["X-Odd", "a  b"] in stats["last"]["headers"]
    assert (stats["requests"], stats["models"], stats["aborted_count"]) == (1, {"echo": 1}, 0)
    await exchange(port, b"POST /__fake__/reset HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert server.stats.requests == 0


async def test_a_request_may_come_in_any_pieces(fake: tuple[FakeServer, int]) -> None:
    """Split anywhere, chunked, or several on one connection without waiting."""
    whole = post(BODY)
    cut = len(whole) // 2
    assert b'"hi"' in await exchange(fake[1], whole[:30], whole[30:cut], whole[cut:])
    head = b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:])) + b"0\r\n\r\n"
    assert b'"hi"' in await exchange(fake[1], head, chunks[:4], chunks[4:])
    assert (await exchange(fake[1], post(BODY, close=False) * 3 + whole)).count(b"HTTP/1.1 200 OK") == 4


async def test_continue_is_said_before_the_body_comes(fake: tuple[FakeServer, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fake[1])
    head, _, body = post(BODY, "Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert b"200 OK" in await reader.read()
    writer.close()


async def test_bytes_that_are_no_http_are_refused(fake: tuple[FakeServer, int]) -> None:
    assert (await exchange(fake[1], b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_head_and_http_1_0_are_understood(fake: tuple[FakeServer, int]) -> None:
    head = await exchange(fake[1], b"HEAD /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")
    body = b'{"model":"echo","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    old = await exchange(fake[1], post(body).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"transfer-encoding" not in old
    assert old.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("fault", "kind"), [("reset", "reset"), ("fin", "closed"), ("garbage", "garbage"), ("refuse", "reset")]
)
async def test_faults_are_real_at_the_socket(fake: tuple[FakeServer, int], fault: str, kind: str) -> None:
    """RST is RST, FIN is FIN."""
    request = post(BODY.replace(b"echo", f"echo+fault={fault}".encode()))
    if kind == "reset":
        with pytest.raises(ConnectionResetError):
            await exchange(fake[1], request)
    else:
        got = await exchange(fake[1], request)
        assert (got == b"") == (kind == "closed")


async def test_a_client_that_leaves_is_counted_with_its_time(fake: tuple[FakeServer, int]) -> None:
    server, port = fake
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(BODY.replace(b"echo", b"echo+fault=stall")))
    await until(lambda: server.stats.active == 1)
    writer.close()
    await until(lambda: server.stats.aborted_count == 1)
    assert server.stats.aborted[0].model == "echo+fault=stall"
    assert (server.stats.active, server.stats.open) == (0, 0)


async def test_a_killed_provider_refuses_and_comes_back(fake: tuple[FakeServer, int]) -> None:
    """Running calls are reset, new connections refused, and the same port serves again later."""
    server, port = fake
    running = asyncio.ensure_future(exchange(port, post(BODY.replace(b"echo", b"echo+fault=stall"))))
    await until(lambda: server.stats.active == 1)
    server.refuse()
    with pytest.raises(ConnectionResetError):
        await running
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))
    assert server.stats.aborted_count == 0
    assert await server.relisten() == port
    assert b"200 OK" in await exchange(port, post(BODY))
    await exchange(port, b"POST /__fake__/refuse?seconds=0.05 HTTP/1.1\r\nconnection: close\r\n\r\n")
    await asyncio.sleep(0.2)
    assert b"200 OK" in await exchange(port, post(BODY))


MESSAGES: Any = [{"role": "user", "content": "one two three"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT = {**SCHEMA, "additionalProperties": False}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": STRICT, "strict": True}}


async def test_the_sdk_chats(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="echo", messages=MESSAGES)
    assert answer.choices[0].message.content == "one two three"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6
    assert answer._request_id is not None


async def test_the_sdk_streams(sdk: openai.AsyncOpenAI) -> None:
    options: Any = {"include_usage": True}
    stream = await sdk.chat.completions.create(model="echo", messages=MESSAGES, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert chunks[-1].usage is not None


async def test_the_sdk_streams_with_its_helper(sdk: openai.AsyncOpenAI) -> None:
    async with sdk.chat.completions.stream(model="tools", messages=MESSAGES, tools=[TOOL]) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert json.loads(calls[0].function.arguments) == {"city": "city"}


async def test_the_sdk_calls_tools_and_goes_on(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.chat.completions.create(model="tools", messages=MESSAGES, tools=[TOOL])
    message = first.choices[0].message
    assert message.tool_calls is not None
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "wet"}
    history: Any = [*MESSAGES, message.model_dump(exclude_none=True), result]
    second = await sdk.chat.completions.create(model="tools", messages=history, tools=[TOOL])
    assert second.choices[0].message.content == "The tool said: wet"


@pytest.mark.parametrize("form", ["float", None])
async def test_the_sdk_embeds(sdk: openai.AsyncOpenAI, form: Any) -> None:
    """By default the SDK asks for base64 and decodes it: the vectors are the same, in the inputs' order."""
    more = {} if form is None else {"encoding_format": form}
    answer = await sdk.embeddings.create(model="echo", input=["a", "b"], dimensions=16, **more)
    plain = await sdk.embeddings.create(model="echo", input="b", dimensions=16, encoding_format="float")
    values = answer.data[1].embedding
    assert len(values) == 16
    assert values == pytest.approx(plain.data[0].embedding, rel=1e-6)
    assert answer.data[1].index == 1


async def test_the_sdk_uses_responses(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.responses.create(model="echo", input="one two three")
    assert whole.output_text == "one two three"
    events = [event async for event in await sdk.responses.create(model="echo", input="one two three", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "one two three"
    tool: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
    async with sdk.responses.stream(model="tools", input="rain?", tools=[tool]) as stream:
        final = await stream.get_final_response()
    assert final.output[0].type == "function_call"


async def test_the_sdk_completes_moderates_and_lists(sdk: openai.AsyncOpenAI) -> None:
    assert (await sdk.completions.create(model="echo", prompt="a b")).choices[0].text == "a b"
    stream = await sdk.completions.create(model="echo", prompt="a b", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "a b"
    assert (await sdk.moderations.create(model="echo", input="hate")).results[0].categories.hate
    assert "echo" in [model.id async for model in sdk.models.list()]
    assert (await sdk.models.retrieve("a/b:c")).id == "a/b:c"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo+status=429+retry-after=1", openai.RateLimitError),
        ("echo+error=context_length_exceeded", openai.BadRequestError),
        ("echo+status=401", openai.AuthenticationError),
        ("echo+error=model_not_found", openai.NotFoundError),
        ("echo+status=529", openai.InternalServerError),
        ("echo+fault=reset", openai.APIConnectionError),
    ],
)
async def test_the_sdk_raises_what_openai_would_make_it_raise(
    sdk: openai.AsyncOpenAI, script: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await sdk.chat.completions.create(model=script, messages=MESSAGES)


async def test_the_sdk_raises_on_an_error_event(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(model="echo+fault=error-mid", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError):
        [chunk async for chunk in stream]
