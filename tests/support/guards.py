"""Guards as a configuration makes them, over a scripted webhook."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from policies.guards.assembly import Guarding
from policies.guards.security import Security
from policies.guards.settings import GuardConfig, InputGuard, OutputGuard, Side
from proxy.values import decode_value

Settings = Sequence[Mapping[str, Any]]
Post = Callable[[str, Mapping[str, str], bytes, float], Awaitable[tuple[int, bytes]]]


async def nobody(_url: str, _headers: Mapping[str, str], _body: bytes, _seconds: float) -> tuple[int, bytes]:
    """A webhook that is not there."""
    raise OSError("connect")


def side(kind: Any, everywhere: Settings, routes: Mapping[str, Settings]) -> Side:
    """The settings of one side, read as the configuration reads them."""

    def read(settings: Settings) -> tuple[GuardConfig, ...]:
        return tuple(msgspec.convert(list(settings), tuple[kind, ...], dec_hook=decode_value))

    return Side(read(everywhere), {name: read(own) for name, own in routes.items()})


def guarding(
    inputs: Settings = (),
    outputs: Settings = (),
    *,
    routes: Mapping[str, Settings] | None = None,
    output_routes: Mapping[str, Settings] | None = None,
    post: Post = nobody,
    security: Security | None = None,
    with_texts: bool = False,
    now: Callable[[], float] = time.perf_counter,
) -> Guarding:
    """The guards of these settings."""
    return Guarding(
        side(InputGuard, inputs, routes or {}),
        side(OutputGuard, outputs, output_routes or {}),
        security=security or Security(b"k" * 32),
        post=post,
        now=now,
        with_texts=with_texts,
    )
