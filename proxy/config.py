"""The configuration: what `lockgate.yaml` may say, as data. Unknown keys are refused.

Each policy's own keys stand beside the policy; here they are put together.
"""

from typing import Literal

import msgspec

from policies.exact_cache import ExactCacheConfig
from policies.failover import FailoverConfig
from policies.semantic_cache import SemanticCacheConfig
from policies.single_flight import SingleFlightConfig
from proxy.values import Duration, Secret, Size, duration, size

_LOOPBACK = ("localhost", "::1")


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where and how to listen.

    `exposure` says who can reach it: `loopback` this machine only, `public` others, which demands authentication and
    real secrets. Absent, it follows from `host`.
    `hosts` are further names that clients may use for a gateway without authentication.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    exposure: Literal["loopback", "public"] | None = None
    hosts: tuple[str, ...] = ()
    body_limit: Size = size("64MB")
    body_bytes_in_flight: Size = size("512MB")
    max_in_flight: int = 1000
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
    """A provider and the name of the model there."""

    provider: str
    model: str
    weight: float = 1.0


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


class RecordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of calls: one line of JSON a call in `records.jsonl` under the state folder.

    At `max_size` the file is set aside as `records.1.jsonl`, replacing the last one.
    """

    max_size: Size = size("64MB")


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
    """Keys of the gateway itself."""

    admin_key: Secret = msgspec.field(default_factory=Secret)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `lockgate.yaml`. A policy whose key is absent does not exist."""

    providers: dict[str, ProviderConfig]
    routes: dict[str, RouteConfig]
    server: Server = msgspec.field(default_factory=Server)
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)
    transport: Transport = msgspec.field(default_factory=Transport)
    cors: Cors | None = None
    single_flight: SingleFlightConfig | None = None
    exact_cache: ExactCacheConfig | None = None
    semantic_cache: SemanticCacheConfig | None = None
    failover: FailoverConfig | None = None
    record: RecordConfig = msgspec.field(default_factory=RecordConfig)
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    qdrant: Qdrant = msgspec.field(default_factory=Qdrant)

    @property
    def failing_over(self) -> FailoverConfig | None:
        """`failover`, or its defaults where a route names more than one place to go: it would say so in vain."""
        if self.failover is not None or not any(route.leads_on for route in self.routes.values()):
            return self.failover
        return FailoverConfig()
