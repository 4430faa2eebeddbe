"""Calls, routes and providers for unit tests: real kernel objects around scripted behaviour."""

from collections.abc import Awaitable, Callable

import msgspec

from proxy.call import Call, Caller, Record
from proxy.deployments import Deployment, Route
from proxy.endpoints import CHAT, Endpoint
from proxy.errors import UpstreamUnavailable
from proxy.reply import Reply
from proxy.wire import read_head

Behaviour = Callable[[Call, Deployment], Awaitable[Reply]]


class Provider:
    """Answers calls as a function says, and remembers which models were asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.asked: list[str] = []

    async def __call__(self, call: Call, deployment: Deployment, /) -> Reply:
        self.asked.append(deployment.model)
        return await self._behaviour(call, deployment)

    async def aclose(self) -> None:
        pass


class Clock:
    """A clock that tests move; its `sleep` moves it too."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make_call(
    *,
    endpoint: Endpoint = CHAT,
    route: Route | None = None,
    headers: dict[str, str] | None = None,
    caller: Caller | None = None,
    **members: object,
) -> Call:
    """A call that has been read; `members` override those of a small chat."""
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members})
    call = Call(
        id="0" * 32,
        endpoint=endpoint,
        headers=headers or {},
        record=Record(id="0" * 32, endpoint=endpoint.name, started=0.0),
        head=read_head(body, endpoint),
        body=body,
    )
    if caller is not None:
        call = call.replace(caller=caller)
    return call if route is None else call.replace(route=route)


def make_route(provider: Provider, *models: str, **settings: object) -> Route:
    """A route over these models of one provider."""
    deployments = tuple(
        Deployment(id=f"p/{model}", provider_name="p", model=model, provider=provider) for model in models
    )
    return msgspec.structs.replace(Route(name="m", deployments=deployments), **settings)


async def answers(_call: Call, deployment: Deployment) -> Reply:
    """A good whole answer that names its model."""
    return Reply.whole(deployment.model.encode())


async def breaks(_call: Call, _deployment: Deployment) -> Reply:
    """A failure that another try could cure."""
    raise UpstreamUnavailable("no", kind="status", upstream_status=503)


async def text_of(reply: Reply) -> bytes:
    """Everything a reply says; closes it."""
    said = b"".join([item async for item in reply.items])
    await reply.aclose("complete")
    return said
