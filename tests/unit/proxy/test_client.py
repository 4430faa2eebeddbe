import asyncio
import gc
from typing import Any

from proxy.client import Client
from proxy.rounds import Rounds


async def test_a_watched_client_is_let_go_without_the_collector() -> None:
    """A pause for the collector delays every stream, and comes the more often the more it has to collect."""
    sent: list[str] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def handle() -> None:
        client = Client(receive, send, asyncio.get_running_loop(), Rounds(1.0, 1.0, Client.wait_longer))
        await client.start(200, b"")
        await asyncio.sleep(0)
        await client.end()
        client.finish()

    gc.disable()
    try:
        await asyncio.create_task(handle())
        await asyncio.sleep(0.01)
        assert sent == ["http.response.start", "http.response.body"]
        assert not [each for each in gc.get_objects() if isinstance(each, Client)]
    finally:
        gc.enable()
