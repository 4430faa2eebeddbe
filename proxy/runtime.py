"""What one configuration makes: the handlers of every endpoint, and what they hold. A reload makes a new one."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from proxy.callers import Callers
from proxy.chain import Handler
from proxy.cors import Cors
from proxy.health import State
from proxy.places import Capacity
from proxy.router import Router

Close = Callable[[], Awaitable[None]]


class Service(Protocol):
    """Something that works beside the calls for as long as the instance lives: a database, a shipper, a store."""

    name: str
    """What `/health/ready` calls it."""

    async def start(self) -> None:
        """Begin; calls come only after. Raises OSError for what the operator must mend first."""
        ...

    async def aclose(self) -> None:
        """End, and lose nothing. Waits a few seconds at most."""
        ...

    def state(self) -> State:
        """How it is; asked often, so it must not block."""
        ...


class Runtime:
    """Everything a call needs, made from one configuration and never changed after."""

    def __init__(  # noqa: PLR0913 - a bundle, by name
        self,
        *,
        handlers: Mapping[str, Handler],
        router: Router,
        early_headers: float,
        capacity: Capacity,
        cors: Cors | None,
        callers: Callers,
        closes: Sequence[Close],
    ) -> None:
        self.handlers = handlers
        self.router = router
        self.early_headers = early_headers
        self.capacity = capacity
        self.cors = cors
        self.callers = callers
        """Who the operator's routes let in."""
        self.calls = 0
        """Calls in flight on this runtime."""
        self._closes = tuple(closes)

    async def aclose(self) -> None:
        """Release what it holds, last made first. Only when no call is in flight any more."""
        for close in reversed(self._closes):
            await close()
