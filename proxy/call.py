"""One client request inside the gateway, and the facts that are written down about it."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from proxy.deployments import Deployment, Route
from proxy.endpoints import Endpoint

T = TypeVar("T")
Outcome = Literal["complete", "client_disconnect", "upstream_interrupted", "guard_blocked", "error"]
NANO = 1_000_000_000
"""Money is counted in whole nano-USD."""
Arrived = Callable[[], bytes | None]
"""The whole body, if all of it has arrived, and left where it is."""
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
    derived: dict[Hashable, tuple[Any, Any]] = {}
    """What `derive` keeps."""

    def derive(self, what: Hashable, given: object, work: Callable[[], T]) -> T:
        """What `work` makes of this head and `given`, and of nothing else: the last of each `what` is kept with the head,
        which may be remembered for the next call that says the same. None of it may be changed.
        """
        kept = self.derived.get(what)
        if kept is None or (kept[0] is not given and kept[0] != given):
            kept = self.derived[what] = (given, work())
        value: T = kept[1]
        return value

    def with_members(self, members: dict[str, msgspec.Raw]) -> "Head":
        """A head of these members, from which nothing has been derived yet."""
        return msgspec.structs.replace(self, members=members, derived={})


Period = Literal["day", "week", "month", "total"]
"""What a budget is for; days, weeks (from Monday) and months begin at midnight UTC."""


class Budget(msgspec.Struct, frozen=True):
    """What an account may spend in a period, in nano-USD. Callers with the same account spend together."""

    account: str
    amount: int
    period: Period = "total"


class Charge(msgspec.Struct, frozen=True, array_like=True):
    """What a call has reserved of one account: `began` is the Unix time of its period's begin, `amount` nano-USD."""

    account: str
    period: Period
    began: int
    amount: int


class Caller(msgspec.Struct, frozen=True):
    """Who a call belongs to. The one of a gateway without authentication is `ANYONE`.

    What is None is as the configuration says for everyone. Its requests, tokens and parallel take the place of the
    configuration's; its bounds can only narrow what the configuration sets for all.
    """

    id: str
    """Stands in records and metrics; never a secret."""
    owner: str = ""
    partition: str = ""
    """Who may share answers with whom: callers of one partition, and no others."""
    models: tuple[str, ...] = ("*",)
    """Names of routes this caller may use; `*` is all, a trailing `*` a prefix."""
    kind: Literal["anyone", "key", "token", "admin"] = "anyone"
    is_admin: bool = False
    """Whether the operator's routes are open to it."""
    requests: int | None = None
    """Requests a minute."""
    tokens: int | None = None
    """Tokens a minute."""
    parallel: int | None = None
    budgets: tuple[Budget, ...] = ()
    bounds: Mapping[str, tuple[float, float]] = {}
    """Bounds of numeric parameters for this caller, on top of its route's."""
    clamp: bool | None = None
    """Whether a value outside is moved to the nearest bound, and not refused."""
    tags: tuple[str, ...] = ()
    bodies: Literal["full", "redacted", "off"] | None = None
    """How much of its texts may be logged."""
    guards: Mapping[str, str] = {}
    """Stricter actions of guards for this caller, by the guard's name; a laxer one than is configured does nothing."""

    def may_use(self, model: str) -> bool:
        """Whether the allow-list has this route."""
        models = self.models
        return (
            "*" in models
            or model in models
            or any(pattern.endswith("*") and model.startswith(pattern[:-1]) for pattern in models)
        )


ANYONE = Caller(id="anyone")


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one call, as the provider counted them. `estimated`: we counted, because it did not.

    `cached`, `cache_write` and the audio heard are parts of `prompt`, `reasoning` and `audio_output` of `completion`.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0
    audio: int = 0
    """Heard and spoken together."""
    audio_output: int = 0
    tier: str = ""
    """The service tier that it was served in, where the provider says so: it has a price of its own."""
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


class Window(msgspec.Struct, frozen=True, gc=False):
    """Where a caller stands in one limit: `reset` is the seconds until all of it is free again."""

    limit: int
    remaining: int
    reset: float


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one guard said of a call; `where` names the message or part as an error's `param` would."""

    guard: str
    action: Literal["allow", "flag", "redact", "block", "not_scanned", "error"]
    side: Literal["input", "output"] = "input"
    where: str = ""
    score: float | None = None
    shadow: bool = False
    """Only looked at: nothing was done about it."""
    reasons: tuple[str, ...] = ()


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
    user: str = ""
    """The client's own name for its end user (`user`, `safety_identifier`)."""
    session: str = ""
    tags: tuple[str, ...] = ()
    requests: Window | None = None
    tokens: Window | None = None
    queued: float = 0.0
    """Seconds waited for a place among the calls in flight."""
    model: str = ""
    """What the client asked for; the route that served it, the provider and its model stand below."""
    route: str = ""
    provider: str = ""
    upstream_model: str = ""
    stream: bool = False
    parameters: dict[str, int | float] = {}
    """Numbers that steer the answer, such as `temperature`, within the bounds of the call."""
    attempts: list[Attempt] = []
    fallbacks: int = 0
    changed: list[str] = []
    """Members that a configured policy changed on the way up."""
    dropped: list[str] = []
    """Members that a translating provider dropped because configuration says so."""
    cache: str = ""
    similarity: float | None = None
    candidates: list[tuple[str, float, str]] = []
    """What the semantic cache compared: entry, similarity, and why it was served or not."""
    flight: str = ""
    """`led` or `followed`, when a single flight was shared."""
    guard: str = ""
    """The strongest verdict of all guards, as the answer's header says it."""
    guards: list[Verdict] = []
    prompt: int = 0
    """Tokens of the request as we estimate them, for where the provider counts none."""
    usage: Usage | None = None
    charges: tuple[Charge, ...] = ()
    """What was reserved of budgets; the ledger puts the cost in its place."""
    cost: int | None = None
    """nano-USD; None where nothing is known about the price. A cache hit costs 0 and `saved` what it would have."""
    saved: int | None = None
    status: int = 0
    error: str = ""
    """The code of the error the client saw, or of the event that ended its stream."""
    outcome: Outcome | None = None
    first_content: float | None = None
    upstream: float = 0.0
    """Seconds spent waiting for providers before the commit point."""
    duration: float = 0.0
    events: int = 0
    amended: bool = False
    """It was sealed before, and then the call ended otherwise than it had seemed: of two with one id the later counts."""


class CacheControls(msgspec.Struct, frozen=True):
    """What a request says of the caches. Nothing here can widen what the configuration allows."""

    look_up: bool = True
    store: bool = True
    only_if_cached: bool = False
    max_age: float | None = None
    """Seconds; an older entry is not served."""
    ttl: float | None = None
    """Seconds that the answer may be kept, instead of the route's."""
    namespace: str = ""
    """Narrows the partition."""
    threshold: float | None = None
    """Raises the semantic cache's."""
    exact: bool = True
    semantic: bool = True


NO_CONTROLS = CacheControls()


async def no_body(_limit: int) -> bytes:
    """Of a call whose body has been read, or that has none."""
    return b""


def nothing_arrived() -> bytes | None:
    """Of a call whose body has been read, or that has none."""


class Call(msgspec.Struct, frozen=True):
    """One client request. Frozen: a policy that changes something passes `replace(...)` on.

    `headers` holds allow-listed names in lower case only. `deadline` is a reading of the event loop's clock after
    which no attempt starts. Before the `read` step `head` and `body` are empty.
    """

    id: str
    endpoint: Endpoint
    headers: Mapping[str, str]
    record: Record
    said: bytes = b""
    """A digest, equal for calls whose headers say the same but for what names one request."""
    peer: str = ""
    deadline: float | None = None
    caller: Caller = ANYONE
    path_model: str | None = None
    """The model named by the path (Azure's form), which then counts and not the body's."""
    read_body: ReadBody = no_body
    arrived: Arrived = nothing_arrived
    head: Head = msgspec.field(default_factory=Head)
    body: bytes = b""
    route: Route = Route(name="", deployments=())
    deployment: Deployment | None = None
    """Where this attempt goes; None means the route's first."""
    cache: CacheControls = NO_CONTROLS
    fingerprint: bytes = b""
    """What calls with the same answer have in common; empty while nothing has looked."""

    def replace(self, **changes: object) -> "Call":
        """A copy with these fields changed."""
        return msgspec.structs.replace(self, **changes)
