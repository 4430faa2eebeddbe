"""Calls that the gateway makes for itself, of which no record is written and which no cache answers."""

from typing import Any, Final

import msgspec

from policies.cache_answers import Stored, keep
from policies.cache_entries import Collected
from proxy.call import NO_CONTROLS, Call, Record
from proxy.chain import Handler
from proxy.reply import Reply

_LARGEST: Final = 1_000_000
"""Bytes of an answer."""


async def ask(upstream: Handler, call: Call) -> Stored | None:
    """The answer to this call as it would be stored; None when it is none that could be. Raises GatewayError."""
    record = Record(id=call.id, endpoint=call.endpoint.name, started=call.record.started, route=call.route.name)
    reply = await upstream(call.replace(record=record, cache=NO_CONTROLS))
    collected = Collected(_LARGEST)
    try:
        async for _ in collected.over(reply.items):
            pass
    finally:
        await _close(reply)
    if collected.too_large:
        return None
    return await keep(call.endpoint, collected.items, streamed=reply.streaming, tools=False, usage=None)


async def _close(reply: Reply) -> None:
    closing = getattr(reply.items, "aclose", None)
    if closing is not None:
        await closing()
    await reply.aclose("complete")


def said(answer: Stored) -> str:
    """The text of an answer."""
    decoded: Any = msgspec.json.decode(answer.body)
    if answer.shape == "whole":
        return str(decoded["choices"][0]["message"].get("content") or "")
    deltas = (chunk["choices"][0]["delta"].get("content") for chunk in decoded if chunk.get("choices"))
    return "".join(delta for delta in deltas if delta)
