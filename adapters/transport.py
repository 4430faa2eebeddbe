"""The seam to upstream HTTP: three methods, two real implementations, one scripted (`adapters/fake.py`)."""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

Fault = Literal["dns", "connect", "tls", "reset", "protocol", "connect_timeout", "timeout", "too_large"]


class TransportError(Exception):
    """The exchange failed below HTTP. `fault` says how; the text is for our log, never for a client."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault: Fault = fault


class Request(msgspec.Struct, frozen=True):
    """One upstream request. `connect` and `total` are seconds; `total` None sets no bound (streams)."""

    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    method: str = "POST"
    connect: float = 5.0
    total: float | None = None
    limit: int = 256 * 1024 * 1024
    """The largest whole body taken, in bytes."""


class Answer(msgspec.Struct, frozen=True):
    """A whole upstream answer. Header names are lower case; the body is decoded from its content encoding."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Opened(Protocol):
    """An upstream answer whose head has arrived and whose body has not."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names in lower case."""
        ...

    async def read(self) -> bytes:
        """Return the next bytes as they come, decoded; b"" at the clean end. Raises TransportError."""
        ...

    def close(self) -> None:
        """Give the connection up at once. After a clean end it does nothing: the connection is reused."""
        ...


class Transport(Protocol):
    """A pool of connections. Every method may be cancelled, which closes the upstream connection at once.

    A request that goes out on a kept-alive connection which the upstream had just closed, so that nothing came
    back, is sent once more on a new one, invisibly. Redirects are not followed.
    """

    async def send(self, request: Request) -> Answer:
        """Send and read the whole answer. Raises TransportError."""
        ...

    async def stream(self, request: Request) -> Opened:
        """Send and return when the head of the answer is there. Raises TransportError."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
