"""One client request inside the gateway, and the facts that are written down about it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from proxy.deployments import Deployment, Route
from proxy.endpoints import Endpoint

Outcome = Literal["complete", "client_disconnect", "upstream_interrupted", "guard_blocked", "error"]
ReadBody = Callable[[int], Awaitable[bytes]]
"""Reads the whole body from the socket; the argument is the most bytes it may have. Raises BodyTooLarge, BodyTimeout."""


class Head(msgspec.Struct, frozen=True):
    """The few fields of a body that the gateway reads, and every member as it was sent.

    `members` maps each top-level name to its raw JSON; the last of two equal names counts, here and upstream.
    """

    model: str = ""
    stream: bool = False
    include_usage: bool = False
    """Whether the client itself asked for usage on its stream."""
    members: dict[str, msgspec.Raw] = {}


class Caller(msgspec.Struct, frozen=True):
    """Who a call belongs to. The one of a gateway without authentication is `ANYONE`."""

    id: str
    owner: str = ""
    partition: str = ""
    """Who may share answers with whom: callers of one partition, and no others."""
    models: tuple[str, ...] = ("*",)
    """Names of routes this caller may use; `*` is all, a trailing `*` a prefix."""

    def may_use(self, model: str) -> bool:
        """Whether the allow-list has this route."""
        return any(
            pattern == model or (pattern.endswith("*") and model.startswith(pattern[:-1])) for pattern in self.models
        )


ANYONE = Caller(id="anyone")


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one call, as the provider counted them. `estimated`: we counted, because it did not."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    audio: int = 0
    estimated: bool = False


class Attempt(msgspec.Struct, omit_defaults=True):
    """One try of one deployment. `wait` is the pause before it, `seconds` how long it took."""

    provider: str
    model: str
    deployment: str = ""
    status: int | None = None
    kind: str = ""
    """`ok`, or the label of the failure."""
    wait: float = 0.0
    seconds: float = 0.0


class Record(msgspec.Struct, omit_defaults=True):
    """The facts of a call: the only thing written on the way, read by logging and metrics alone.

    Times are seconds; `started` is Unix time, the others count from it.
    """

    id: str
    endpoint: str
    started: float
    client_request_id: str = ""
    peer: str = ""
    caller: str = ""
    owner: str = ""
    model: str = ""
    """What the client asked for; the route that served it, the provider and its model stand below."""
    route: str = ""
    provider: str = ""
    upstream_model: str = ""
    stream: bool = False
    attempts: list[Attempt] = []
    fallbacks: int = 0
    changed: list[str] = []
    """Members that a configured policy changed on the way up."""
    dropped: list[str] = []
    """Members that a translating provider dropped because configuration says so."""
    cache: str = ""
    similarity: float | None = None
    flight: str = ""
    """`led` or `followed`, when a single flight was shared."""
    usage: Usage | None = None
    status: int = 0
    error: str = ""
    """The code of the error the client saw, or of the event that ended its stream."""
    outcome: Outcome | None = None
    first_content: float | None = None
    upstream: float = 0.0
    """Seconds spent waiting for providers before the commit point."""
    duration: float = 0.0
    events: int = 0


async def _no_body(_limit: int) -> bytes:
    return b""


class Call(msgspec.Struct, frozen=True):
    """One client request. Frozen: a policy that changes something passes `replace(...)` on.

    `headers` holds allow-listed names in lower case only. `deadline` is a reading of the event loop's clock after
    which no attempt starts. Before the `read` step `head` and `body` are empty.
    """

    id: str
    endpoint: Endpoint
    headers: Mapping[str, str]
    record: Record
    peer: str = ""
    deadline: float | None = None
    caller: Caller = ANYONE
    path_model: str | None = None
    """The model named by the path (Azure's form), which then counts and not the body's."""
    read_body: ReadBody = _no_body
    head: Head = Head()
    body: bytes = b""
    route: Route = Route(name="", deployments=())
    deployment: Deployment | None = None
    """Where this attempt goes; None means the route's first."""

    def replace(self, **changes: object) -> "Call":
        """A copy with these fields changed."""
        return msgspec.structs.replace(self, **changes)
