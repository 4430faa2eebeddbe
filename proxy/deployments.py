"""Where a call can go: deployments, the routes that name them, and the providers behind them."""

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:  # a call names its route, so these two would import each other
    from proxy.call import Call
    from proxy.reply import Reply


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_content` and `idle` bound streams; `total` bounds whole answers and never a committed stream.

    After `early_headers` of silence a stream's client is sent its headers and keep-alives.
    """

    connect: float = 5.0
    first_content: float = 120.0
    idle: float = 60.0
    total: float = 590.0
    early_headers: float = 15.0


class Deployment(msgspec.Struct, frozen=True, eq=False):
    """A provider, a model there, and how to call it. `id` names it in records and to the operator, never to a client.

    Its provider answers calls for it.
    """

    id: str
    provider_name: str
    model: str
    provider: "Provider"
    timeouts: Timeouts = Timeouts()
    weight: float = 1.0


class Provider(Protocol):
    """A vendor's API. Returns a committed Reply: status final, first content in hand; or raises UpstreamError."""

    async def __call__(self, call: "Call", deployment: Deployment, /) -> "Reply":
        """Send the call to this deployment, once."""
        ...

    async def aclose(self) -> None:
        """Release what it holds."""
        ...


class Route(msgspec.Struct, frozen=True):
    """A public model name and the deployments behind it, in order of preference.

    A name that ends in `*` stands for every model that begins so; `*` in a deployment's model is the matched rest.
    """

    name: str
    deployments: tuple[Deployment, ...]
    strategy: Literal["ordered", "weighted", "least-latency"] = "ordered"
    fallbacks: tuple[str, ...] = ()
    context_window_fallbacks: tuple[str, ...] = ()
    content_policy_fallbacks: tuple[str, ...] = ()
    cache_ttl: float | None = None
    """Seconds for which its answers are kept, instead of the caches' own; 0: not at all."""
    failover: Any = None
    """Its own failover settings, where it has some; the failover policy knows their form."""
