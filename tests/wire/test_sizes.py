"""What is large, through a gateway with the limits that it comes with: images in bodies, one event, very many events."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.http import CHAT, Connection, chat, head
from support.live import Gateway, gateway, upstream

from adapters.fake_server import FakeServer
from proxy.sse import KEEP_ALIVE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, FakeServer]]:
    async with upstream() as (fake, base_url):
        config = {
            "providers": {"up": {"kind": "openai", "base_url": base_url, "api_key": "sk-up"}},
            "routes": {"*": {"deployments": [{"provider": "up", "model": "*"}]}},
        }
        async with gateway(tmp_path_factory.mktemp("sizes"), config) as gate:
            yield gate, fake


async def test_a_body_of_20_mb_passes_unchanged(live: tuple[Gateway, FakeServer]) -> None:
    """Two large photographs in base64, with nothing configured."""
    gate, fake = live
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "Qk0=" * 2_500_000}}
    parts = [{"type": "text", "text": "compare"}, image, image]
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": parts}]}).encode()
    assert len(body) > 20_000_000
    async with Connection(gate.url) as wire:
        answer = await wire.request("POST", CHAT, body)
    assert answer.json["choices"][0]["message"]["content"] == "compare"
    assert fake.stats.last is not None
    assert json.loads(fake.stats.last.body)["messages"] == json.loads(body)["messages"]


async def test_an_event_of_60_mb_passes(live: tuple[Gateway, FakeServer]) -> None:
    """A whole answer in one event, as a server that cannot stream sends it."""
    text = "word " * 12_000_000
    async with Connection(live[0].url) as wire:
        answer = await wire.request("POST", CHAT, chat("echo+chunks=1", text.strip(), stream=True))
    events = answer.body.replace(KEEP_ALIVE, b"").split(b"\n\n")  # there are some where the machine is busy
    assert events[-2:] == [b"data: [DONE]", b""]
    said = [json.loads(event.removeprefix(b"data: "))["choices"] for event in events[:-2]]
    assert max(len(event) for event in events) > 59_000_000
    assert "".join(each["delta"].get("content") or "" for choices in said for each in choices) == text.strip()


async def test_a_hundred_thousand_events_pass_in_order(live: tuple[Gateway, FakeServer]) -> None:
    """Each once."""
    said, last, count = [], b"", 0
    async with Connection(live[0].url) as wire:
        body = chat("long=100000+chunks=100000", stream=True)
        await wire.send(head("POST", CHAT, body) + body)
        assert (await wire.answer_head())[0] == 200
        rest = b""
        while piece := await wire.chunk():
            *events, rest = (rest + piece).split(b"\n\n")
            for last in events:
                count += 1
                if b'"content":"' in last:
                    said.append(json.loads(last.removeprefix(b"data: "))["choices"][0]["delta"]["content"])
    assert (last, rest) == (b"data: [DONE]", b"")
    assert count > 100_000
    assert "".join(said) == " ".join(f"word{number}" for number in range(100_000))
