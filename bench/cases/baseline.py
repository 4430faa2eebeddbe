"""What the machine and the libraries cost before any code of ours: the yardstick for the other cases."""

import hashlib
import json

import msgspec
from micro import Cases, Timed


def register(cases: Cases) -> None:
    """The usual building blocks of a policy."""
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 200}]}).encode()

    @cases.case("baseline: sha256 of a 1 kB body")
    def sha256() -> Timed:
        return lambda: hashlib.sha256(body).digest()

    @cases.case("baseline: msgspec decode of a 1 kB body to raw members")
    def raw_members() -> Timed:
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        return lambda: decode(body)

    @cases.case("baseline: an awaited call that awaits another")
    def awaited() -> Timed:
        async def inner() -> None: ...

        async def outer() -> None:
            await inner()

        return outer
