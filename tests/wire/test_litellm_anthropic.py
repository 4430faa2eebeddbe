"""A provider whose wire format is not OpenAI's, behind the real SDK: Anthropic's, spoken by a local stand-in."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from support.anthropic_stand_in import StandIn, anthropic_stand_in
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

Client = openai.AsyncOpenAI
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, StandIn]]:
    async with (
        anthropic_stand_in() as (seen, base_url),
        gateway(
            tmp_path_factory.mktemp("litellm"),
            {
                "providers": {
                    "anthropic": {"kind": "litellm", "vendor": "anthropic", "base_url": base_url, "api_key": "sk-ant"},
                    "lenient": {
                        "kind": "litellm",
                        "vendor": "anthropic",
                        "base_url": base_url,
                        "api_key": "sk-ant",
                        "unsupported": "drop",
                    },
                    "fake": {"kind": "fake"},
                },
                "routes": {
                    "lenient/*": {"deployments": [{"provider": "lenient", "model": "*"}]},
                    "backed/*": {
                        "deployments": [{"provider": "anthropic", "model": "*"}, {"provider": "fake", "model": "echo"}],
                    },
                    "*": {"deployments": [{"provider": "anthropic", "model": "*"}]},
                },
                "timeouts": {"total": "8s", "first_content": "8s", "idle": "1s"},
                "failover": {"tries": 1},
            },
        ) as gate,
    ):
        yield gate, seen


@pytest_asyncio.fixture(loop_scope="module")
async def client(live: tuple[Gateway, StandIn]) -> AsyncIterator[Client]:
    async with Client(base_url=live[0].openai, api_key="sk", max_retries=0) as made:
        yield made


def say(text: str) -> Any:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


async def test_a_chat_reaches_anthropic_in_its_own_form(live: tuple[Gateway, StandIn], client: Client) -> None:
    """System apart, max_tokens set, our key and no other; the answer is OpenAI's."""
    answer = await client.chat.completions.create(model="claude-echo", messages=say("one two"), temperature=0.5)
    sent = live[1].requests[-1]
    assert sent["path"] == "/v1/messages"
    assert sent["system"][0]["text"] == "Be brief."
    assert (sent["temperature"], sent["max_tokens"] > 0) == (0.5, True)
    assert live[1].headers["x-api-key"] == "sk-ant"
    assert "anthropic-version" in live[1].headers
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one two", "stop")
    assert answer.object == "chat.completion"
    usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (14, 5, 19)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4


async def test_a_stream_is_relayed_as_it_comes(client: Client) -> None:
    """Role once, one finish reason, usage once and last for who asks."""
    stream = await client.chat.completions.create(
        model="claude-echo", messages=say("one two three"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "one two three"
    assert len(chunks) > 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [19]
    assert chunks[-1].choices == []
    silent = await client.chat.completions.create(model="claude-echo", messages=say("one"), stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in [chunk async for chunk in silent])


async def test_a_tool_call_goes_there_and_back(live: tuple[Gateway, StandIn], client: Client) -> None:
    """Whole and streamed: the arguments are the same JSON; the result is understood."""
    whole = await client.chat.completions.create(model="claude-tools", messages=say("weather?"), tools=[WEATHER])
    call: Any = (whole.choices[0].message.tool_calls or [])[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    assert whole.choices[0].finish_reason == "tool_calls"
    assert live[1].requests[-1]["tools"][0]["input_schema"]["required"] == ["city"]
    stream = await client.chat.completions.create(
        model="claude-tools", messages=say("weather?"), tools=[WEATHER], stream=True
    )
    deltas = [tool async for chunk in stream for tool in (chunk.choices[0].delta.tool_calls or [])]
    assert json.loads("".join((tool.function.arguments or "") for tool in deltas if tool.function)) == {"city": "Paris"}
    assert [tool.id for tool in deltas if tool.id] == ["toolu_1"]
    history = [
        *say("weather?"),
        whole.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    after = await client.chat.completions.create(model="claude-tools", messages=history, tools=[WEATHER])
    assert "sunny" in (after.choices[0].message.content or "")


async def test_an_image_part_arrives_as_base64(live: tuple[Gateway, StandIn], client: Client) -> None:
    """A data URL becomes Anthropic's source."""
    url = "data:image/png;base64," + "iVBORw0KGgo" * 10
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    messages: Any = [{"role": "user", "content": parts}]
    answer = await client.chat.completions.create(model="claude-echo", messages=messages)
    assert "An image of 110 characters" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize(
    ("status", "raised", "code"),
    [
        (400, openai.BadRequestError, None),
        (401, openai.InternalServerError, "upstream_auth_failed"),
        (403, openai.InternalServerError, "upstream_auth_failed"),
        (404, openai.InternalServerError, "upstream_model_missing"),
        (429, openai.RateLimitError, "upstream_rate_limited"),
        (500, openai.InternalServerError, "upstream_unavailable"),
        (529, openai.InternalServerError, "upstream_unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_their_errors_mean_what_every_providers_mean(
    client: Client, status: int, raised: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    """By status, whatever litellm's class; the message of a 400 is the provider's own; no address and no key is told."""
    model = f"claude-{'stream' if stream else 'whole'}-status-{status}"  # apart, so that no cooldown is shared
    with pytest.raises(raised) as caught:
        await client.chat.completions.create(model=model, messages=say("x"), stream=stream)
    assert caught.value.code == code
    assert "litellm" not in str(caught.value)
    if status == 400:
        assert caught.value.body["message"] == "stand-in says 400"  # type: ignore[index]
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("model", ["claude-cut", "claude-end", "claude-error", "claude-stall"])
async def test_a_stream_that_breaks_ends_with_an_error(client: Client, model: str) -> None:
    """Reset, ended cleanly in the middle, an error event, silence: litellm would end some of them as if finished."""
    stream = await client.chat.completions.create(model=model, messages=say("one two three four five six"), stream=True)
    finished: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            finished.append(chunk.choices[0].finish_reason)  # noqa: PERF401 - what came before the failure counts

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert set(finished) == {None}
    assert caught.value.code == "upstream_interrupted"


async def test_what_the_vendor_cannot_do_is_refused_by_name_or_dropped_and_listed(client: Client) -> None:
    """Never silently; a value that means nothing is no parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="claude-echo", messages=say("x"), seed=1)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "seed")
    answer = await client.chat.completions.with_raw_response.create(
        model="lenient/claude-echo", messages=say("x"), seed=1, n=1
    )
    assert answer.headers["x-lockgate-dropped-params"] == "seed"


async def test_a_client_cannot_reach_litellms_own_arguments(live: tuple[Gateway, StandIn], client: Client) -> None:
    """No address, key or mock answer out of a body."""
    for extra in (
        {"api_base": "http://127.0.0.1:1"},
        {"api_key": "x"},
        {"mock_response": "hi"},
        {"extra_headers": {"a": "b"}},
    ):
        before = len(live[1].requests)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="claude-echo", messages=say("x"), extra_body=extra)
        assert len(live[1].requests) == before


async def test_failover_leaves_it_for_another_provider(client: Client) -> None:
    """529 there, an answer here."""
    answer = await client.chat.completions.with_raw_response.create(
        model="backed/claude-status-529", messages=say("hello")
    )
    assert answer.headers["x-lockgate-provider"] == "fake"
    assert answer.headers["x-lockgate-attempts"] == "2"


async def test_an_endpoint_it_does_not_have_is_a_clear_error(client: Client) -> None:
    """Naming the route."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="claude-echo", input="x")
    assert caught.value.code == "unsupported_endpoint"
    assert "claude-echo" in str(caught.value)


@pytest.mark.parametrize("model", ["claude-slow", "claude-stall"])
async def test_a_leaving_client_releases_it(live: tuple[Gateway, StandIn], model: str) -> None:
    """While the head is awaited and in the middle of the stream."""
    gate, seen = live
    body = chat(model, text="one two three four", stream=True)
    async with Connection(gate.url) as wire:
        await wire.send(head("POST", CHAT, body) + body)
        for _ in range(200):
            if seen.active:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
    began = time.monotonic()
    for _ in range(400):
        if not seen.active:
            break
        await asyncio.sleep(0.005)
    assert time.monotonic() - began < 0.3


async def test_who_does_not_configure_it_does_not_load_it() -> None:
    """Neither litellm nor its weight."""
    code = "import sys, proxy.cli; print('litellm' in sys.modules)"
    found = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
