"""Without authentication only this machine is served, and no web page may spend its keys."""

from collections.abc import Awaitable, Sequence
from urllib.parse import urlsplit

from policies.again import NOTHING, Again
from proxy.call import Call
from proxy.chain import Handler
from proxy.errors import Forbidden
from proxy.reply import Reply

_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


class LocalOnly:
    """Refuses a Host that is not ours (DNS rebinding) and an Origin that is neither ours nor configured.

    `hosts` are further names of this gateway, `origins` those that CORS allows.
    """

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = frozenset((*_LOCAL, *(host.lower() for host in hosts)))
        self._origins = frozenset(origins)

    def __call__(self, call: Call, next: Handler, /) -> Awaitable[Reply]:  # noqa: A002
        """Pass on what comes from here. Raises Forbidden."""
        self.check(call.headers.get("host", ""), call.headers.get("origin"))
        return next(call)

    def again(self, call: Call) -> tuple[Call, Again] | None:
        """Its headers are the same."""
        return call, NOTHING

    def check(self, host: str, origin: str | None) -> None:
        """Look at a request's two headers. Raises Forbidden."""
        if host and _name(host) not in self._hosts:
            raise Forbidden("This gateway has no authentication, so it answers to local host names only.")
        if origin is not None and not self._trusts(origin):
            raise Forbidden("This gateway has no authentication, so it refuses requests from foreign web pages.")

    def _trusts(self, origin: str) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        try:
            return (urlsplit(origin).hostname or "") in self._hosts
        except ValueError:
            return False


def _name(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()
