"""A call for micro-benchmarks."""

import json

from proxy.call import Call, Record
from proxy.endpoints import CHAT
from proxy.wire import read_head


def request(size: int) -> bytes:
    """A chat request with so many bytes of prompt."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "word " * (size // 5)}]
    return json.dumps({"model": "gpt-4o", "messages": messages, "temperature": 0.2}).encode()


def a_call(body: bytes) -> Call:
    """A chat call that was read."""
    record = Record(id="0" * 32, endpoint="chat", started=0.0)
    return Call(id="0" * 32, endpoint=CHAT, headers={}, record=record, head=read_head(body, CHAT), body=body)
