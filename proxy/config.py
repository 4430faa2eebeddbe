"""The configuration: what `lockgate.yaml` may say, as data. Unknown keys are refused.

Each policy's own keys stand beside the policy; here they are put together.
"""

from typing import Literal

import msgspec

from policies.authenticate import AuthenticateConfig
from policies.budget import BudgetConfig
from policies.caller_limits import CallerLimitsConfig
from policies.client_limits import ClientLimitsConfig
from policies.exact_cache import ExactCacheConfig
from policies.failover import FailoverConfig
from policies.guards.settings import InputGuard, OutputGuard, SecurityLogConfig, name_of
from policies.parameters import ParametersConfig
from policies.semantic_settings import SemanticCacheConfig
from policies.single_flight import SingleFlightConfig
from proxy.logs import LogConfig
from proxy.prices import PricesConfig
from proxy.values import Duration, Sampling, Secret, Size, duration, size

_LOOPBACK = ("localhost", "::1")


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and how to listen.

    `exposure` says who can reach it: `loopback` this machine only, `public` others, which demands authentication and
    real secrets. Absent, it follows from `host`.
    Over `max_in_flight` calls, `queue` more wait in line for up to `queue_wait`.
    `hosts` are further names that clients may use for a gateway without authentication.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    exposure: Literal["loopback", "public"] | None = None
    hosts: tuple[str, ...] = ()
    body_limit: Size = size("64MB")
    body_bytes_in_flight: Size = size("512MB")
    max_in_flight: int = 1000
    queue: int = 100
    queue_wait: Duration = duration("1s")
    state_dir: str = "./var"
    drain_delay: Duration = duration("5s")
    drain_timeout: Duration = duration("600s")

    @property
    def is_public(self) -> bool:
        """Whether others than this machine can reach it."""
        if self.exposure is not None:
            return self.exposure == "public"
        return self.host not in _LOOPBACK and not self.host.startswith("127.")


class OpenAIConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="openai"
):
    """A provider that speaks OpenAI's API.

    With `api_key` present but empty the provider is not there; without the key it needs none.
    `api_version` makes it an Azure one. `probe` makes it there only if something answers at start.
    """

    base_url: str = "https://api.openai.com/v1"
    api_key: Secret | None = None
    api_version: str = ""
    headers: dict[str, Secret] = {}
    usage: Literal["ask", "omit"] = "ask"
    responses: bool = True
    probe: bool = False
    timeouts: "Timeouts | None" = None


class LiteLLMConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="litellm"
):
    """A provider whose wire format is its own, by way of litellm; `vendor` is litellm's name for it."""

    vendor: str
    api_key: Secret | None = None
    base_url: str | None = None
    unsupported: Literal["refuse", "drop"] = "refuse"
    timeouts: "Timeouts | None" = None


class FakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind", tag="fake"):
    """Scripted answers, always labelled as fake.

    With `stand_in` it also answers for routes none of whose providers is there, as long as no real one is there.
    """

    stand_in: bool = False
    timeouts: "Timeouts | None" = None


ProviderConfig = OpenAIConfig | LiteLLMConfig | FakeConfig


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on waiting for a provider; what is absent here is as one level up."""

    connect: Duration | None = None
    first_content: Duration | None = None
    idle: Duration | None = None
    total: Duration | None = None
    early_headers: Duration | None = None


class DeploymentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider and the name of the model there; `rename` says what that model calls otherwise."""

    provider: str
    model: str
    weight: float = 1.0
    rename: dict[str, str] = {}


class RouteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The deployments behind a name that clients use, in order of preference, and routes to fall back on."""

    deployments: tuple[DeploymentConfig, ...]
    strategy: Literal["ordered", "weighted", "least-latency"] = "ordered"
    fallbacks: tuple[str, ...] = ()
    context_window_fallbacks: tuple[str, ...] = ()
    content_policy_fallbacks: tuple[str, ...] = ()
    cache_ttl: Duration | None = None
    failover: FailoverConfig | None = None
    timeouts: Timeouts | None = None
    parameters: ParametersConfig | None = None
    input_guards: tuple[InputGuard, ...] = ()
    """Guards of this route: each replaces the one of its name that stands everywhere, or is added."""
    output_guards: tuple[OutputGuard, ...] = ()

    @property
    def leads_on(self) -> bool:
        """Whether there is anywhere to go after the first deployment."""
        others = (self.fallbacks, self.context_window_fallbacks, self.content_policy_fallbacks)
        return len(self.deployments) > 1 or any(others) or self.failover is not None


class Cors(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Origins from which browsers may call; `*` is any."""

    origins: tuple[str, ...]


class Transport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The HTTP client towards providers. `ca_file` adds certificate authorities of your own."""

    client: Literal["aiohttp", "httpx"] = "aiohttp"
    ca_file: str | None = None


class OtlpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A collector that takes traces by OTLP over HTTP. `url` is the whole address, `/v1/traces` included."""

    url: str
    headers: dict[str, Secret] = {}


class LimitsStore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where limits are counted: `memory://` by each instance for itself, `redis://` or `valkey://` (`rediss://`,
    `valkeys://` with TLS) by all together.

    No call waits longer than `timeout` for a shared one. While it is away calls pass uncounted (`open`) or get 503
    (`closed`).
    """

    url: str = "memory://"
    on_failure: Literal["open", "closed"] = "open"
    timeout: Duration = duration("50ms")

    def problems(self) -> list[str]:
        """What cannot be meant. The URL is not repeated: it may hold a password."""
        scheme = self.url.partition("://")[0]
        known = ("memory", "redis", "rediss", "valkey", "valkeys")
        return (
            [] if scheme in known and "://" in self.url else [f"url: must begin with one of {', '.join(known)} and ://"]
        )


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of calls: in files under `outbox` in the state folder, at most `max_size` of them.

    `bodies` says how much of what is said in a call is kept with it: excerpts as they are, redacted before anyone sees
    them, or nothing. With `mlflow` records are shipped there, as traces and every `interval` as figures; empty is the
    local store in the state folder. `traces` is how many calls get a trace.
    """

    mlflow: str | None = None
    experiment: str = "lockgate"
    bodies: Literal["full", "redacted", "off"] = "off"
    traces: Sampling = msgspec.field(default_factory=Sampling)
    interval: Duration = duration("30s")
    otlp: OtlpConfig | None = None
    max_size: Size = size("1GB")

    @property
    def collector(self) -> OtlpConfig | None:
        """`otlp`, unless its address is empty: that is as if it were not there."""
        return self.otlp if self.otlp is not None and self.otlp.url else None


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of what calls cost: single calls for `keep` (0s: for ever); their sums by day always."""

    keep: Duration = duration("90d")


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may scrape `/metrics` besides admins: whoever presents `token`."""

    token: Secret = msgspec.field(default_factory=Secret)


class Qdrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the caches keep their entries: with `url` on a Qdrant server, else embedded under the state folder.

    A server that does not answer a lookup within `timeout` is left alone for `cool_down`. Embedded, at most
    `max_entries` are kept in each collection, and nothing is put with less than `min_free` left on the disk.
    """

    url: str = ""
    api_key: Secret = msgspec.field(default_factory=Secret)
    prefix: str = "lockgate_"
    timeout: Duration = duration("100ms")
    cool_down: Duration = duration("5s")
    max_entries: int = 20000
    min_free: Size = size("256MB")


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of the gateway itself.

    `admin_key` opens every route. `signing` signs the tokens of those who log in; where it is empty one is made and kept.
    """

    admin_key: Secret = msgspec.field(default_factory=Secret)
    signing: Secret = msgspec.field(default_factory=Secret)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `lockgate.yaml`. A policy whose key is absent does not exist."""

    providers: dict[str, ProviderConfig]
    routes: dict[str, RouteConfig]
    server: Server = msgspec.field(default_factory=Server)
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)
    transport: Transport = msgspec.field(default_factory=Transport)
    cors: Cors | None = None
    authenticate: AuthenticateConfig | None = None
    client_limits: ClientLimitsConfig | None = None
    caller_limits: CallerLimitsConfig | None = None
    limits_store: str | LimitsStore = "memory://"
    parameters: ParametersConfig | None = None
    input_guards: tuple[InputGuard, ...] = ()
    output_guards: tuple[OutputGuard, ...] = ()
    security_log: SecurityLogConfig = msgspec.field(default_factory=SecurityLogConfig)
    single_flight: SingleFlightConfig | None = None
    exact_cache: ExactCacheConfig | None = None
    semantic_cache: SemanticCacheConfig | None = None
    failover: FailoverConfig | None = None
    budget: BudgetConfig | None = None
    prices: PricesConfig = msgspec.field(default_factory=PricesConfig)
    ledger: LedgerConfig = msgspec.field(default_factory=LedgerConfig)
    record: RecordConfig = msgspec.field(default_factory=RecordConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    metrics: MetricsConfig = msgspec.field(default_factory=MetricsConfig)
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    qdrant: Qdrant = msgspec.field(default_factory=Qdrant)
    database: Secret = msgspec.field(default_factory=Secret)
    """The URL of what must last; empty: a file in the state folder."""

    @property
    def sharing(self) -> bool:
        """Whether one answer may serve several calls."""
        return any(each is not None for each in (self.single_flight, self.exact_cache, self.semantic_cache))

    @property
    def deployments(self) -> list[DeploymentConfig]:
        """All of all routes."""
        return [each for route in self.routes.values() for each in route.deployments]

    @property
    def database_url(self) -> str:
        """Where keys, users, budgets and the ledger are kept."""
        return self.database.reveal() or f"sqlite:///{self.server.state_dir}/lockgate.db"

    @property
    def budgeting(self) -> BudgetConfig:
        """`budget`, or its defaults: where callers have to say who they are some may have one."""
        return self.budget if self.budget is not None else BudgetConfig()

    @property
    def needs_identity(self) -> bool:
        """Whether callers have to say who they are."""
        return self.authenticate is not None and self.authenticate.is_on

    @property
    def counting(self) -> LimitsStore:
        """`limits_store`, which may be written as its URL alone."""
        store = self.limits_store
        return LimitsStore(url=store) if isinstance(store, str) else store

    @property
    def bounding(self) -> ParametersConfig | None:
        """`parameters`, empty where only a route or a caller has bounds."""
        if self.parameters is not None:
            return self.parameters
        elsewhere = self.needs_identity or any(route.parameters is not None for route in self.routes.values())
        return ParametersConfig() if elsewhere else None

    @property
    def limiting_clients(self) -> ClientLimitsConfig | None:
        """`client_limits`, or its defaults where strangers can come by: who guesses keys is slowed."""
        return ClientLimitsConfig() if self.client_limits is None and self.needs_identity else self.client_limits

    @property
    def limiting_callers(self) -> CallerLimitsConfig | None:
        """`caller_limits`, empty where only a key or a token has limits."""
        return CallerLimitsConfig() if self.caller_limits is None and self.needs_identity else self.caller_limits

    @property
    def guard_names(self) -> frozenset[str]:
        """The names of all guards there are, on both sides and on every route."""
        places = (self.input_guards, self.output_guards)
        own = ((*each.input_guards, *each.output_guards) for each in self.routes.values())
        return frozenset(name_of(each) for guards in (*places, *own) for each in guards)

    @property
    def failing_over(self) -> FailoverConfig | None:
        """`failover`, or its defaults where a route names more than one place to go: it would say so in vain."""
        if self.failover is not None or not any(route.leads_on for route in self.routes.values()):
            return self.failover
        return FailoverConfig()
