"""A server that runs a model for the caches: asked while it answers in time, and left alone while it does not."""

import logging
from collections.abc import Callable
from typing import Literal, TypeVar

from adapters.transport import Request, Transport, TransportError
from proxy.model_errors import ModelBusy, ModelUnavailable

logger = logging.getLogger("lockgate")

T = TypeVar("T")
State = Literal["ok", "degraded", "down"]
_OK = 200


class ModelServer:
    """One route of one server. When it fails it is left alone for `cool_down` seconds, and nobody waits for it
    meanwhile; the first request after that is the trial. At most `queue` wait at a time, each for `timeout` seconds.
    `transport` is closed with it. `name` is for the log.
    """

    def __init__(  # noqa: PLR0913 - facts of one server, by name
        self,
        transport: Transport,
        *,
        name: str,
        url: str,
        api_key: str,
        queue: int,
        timeout: float,
        cool_down: float,
        now: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._name = name
        self._url = url
        self._headers = {
            "content-type": "application/json",
            **({"authorization": f"Bearer {api_key}"} if api_key else {}),
        }
        self._queue = queue
        self._timeout = timeout
        self._cool_down = cool_down
        self._now = now
        self._waiting = 0
        self._rests_until = 0.0
        self._trouble = ""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._transport.aclose()

    def state(self) -> State:
        """Degraded from a failure until it answered again."""
        return "degraded" if self._trouble else "ok"

    async def ask(self, body: bytes, read: Callable[[bytes], T]) -> T:
        """What `read` makes of the answer; it raises ModelUnavailable for one that is none.

        Raises ModelBusy, ModelUnavailable.
        """
        now = self._now()
        if now < self._rests_until:
            raise ModelUnavailable(self._trouble)
        if self._waiting >= self._queue:
            raise ModelBusy
        if self._trouble:
            self._rests_until = now + self._cool_down  # this one is the trial: others do not wait beside it
        self._waiting += 1
        try:
            found = read(await self._post(body))
        except ModelUnavailable as error:
            if not self._trouble:
                logger.warning("%s is away: %s", self._name, error)
            self._trouble, self._rests_until = str(error), self._now() + self._cool_down
            raise
        finally:
            self._waiting -= 1
        self._trouble, self._rests_until = "", 0.0
        return found

    async def _post(self, body: bytes) -> bytes:
        request = Request(self._url, self._headers, body, connect=self._timeout, total=self._timeout)
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            raise ModelUnavailable(str(error)) from None
        if answer.status != _OK:
            raise ModelUnavailable(f"status {answer.status}")
        return answer.body
