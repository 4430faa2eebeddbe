"""Who a request belongs to: the one place that decides, for calls and for the operator's routes alike."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

from proxy.call import Caller
from proxy.credentials import bad_key, offered, presented
from proxy.errors import RateLimited, Unauthenticated, retry_headers
from proxy.failures import Failures
from proxy.values import Secret

_VIRTUAL_KEY = "sk-lg-"
_TOKEN = "ey"  # noqa: S105 - how the JSON object of every token begins in base64url
_DOTS = 2
_FORWARDED = "x-forwarded-for"
_ADMIN = Caller(id="admin", kind="admin", is_admin=True, partition="admin")


AddressOf = Callable[[str, str | None], str]
"""Which client a request comes from, by the connection's other end and `X-Forwarded-For`."""


def other_end(peer: str, _forwarded_for: str | None) -> str:
    """The client's address where there are no proxies."""
    return peer


class FindsKeys(Protocol):
    """Callers by the SHA-256 of their virtual keys."""

    def recall(self, digest: bytes) -> Caller | None:
        """At once, from memory; None says nothing."""
        ...

    async def find(self, digest: bytes) -> Caller:
        """Raises Unauthenticated, Overloaded."""
        ...


class FindsTokens(Protocol):
    """Callers by their tokens."""

    def recall(self, digest: bytes) -> Caller | None:
        """At once, from memory; None says nothing."""
        ...

    async def caller(self, text: str, digest: bytes) -> Caller:
        """Raises Unauthenticated, Overloaded."""
        ...


class Callers:
    """Virtual keys, tokens and the admin key, told apart by how they begin; never by trying one after the other.

    An address that presents too many bad keys is refused for the rest of its minute, also with the right admin key or
    a good key that is not in use: else guessing would go on. Keys in use pass all the same, and so do tokens, which
    nobody guesses.
    """

    def __init__(
        self,
        admin_key: Secret,
        failures: Failures,
        keys: FindsKeys | None = None,
        tokens: FindsTokens | None = None,
        address_of: AddressOf = other_end,
    ) -> None:
        self._failures = failures
        self.configure(admin_key, keys=keys, tokens=tokens, address_of=address_of)

    def configure(
        self, admin_key: Secret, *, keys: FindsKeys | None, tokens: FindsTokens | None, address_of: AddressOf
    ) -> None:
        """Let these in from now on, and nobody else."""
        self._admin = _digest(admin_key.reveal()) if admin_key else None
        self._keys = keys
        self._tokens = tokens
        self._address_of = address_of

    @property
    def is_open(self) -> bool:
        """Whether anything could be presented that lets anybody in."""
        return self._admin is not None or self._keys is not None or self._tokens is not None

    def client(self, headers: Mapping[str, str], peer: str) -> str:
        """Which client a request comes from, behind trusted proxies too: what fails is counted by it."""
        return self._address_of(peer, headers.get(_FORWARDED))

    async def find(self, headers: Mapping[str, str], peer: str) -> Caller:
        """The caller of a request; `headers` in lower case, repeated ones joined, `peer` the connection's other end.

        Raises Unauthenticated, BadRequest (different keys presented), RateLimited, Overloaded.
        """
        caller = self.recall(headers)
        return caller if caller is not None else await self._find(presented(headers), self.client(headers, peer))

    def recall(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller that `find` would find, at once, from memory; None says nothing. Raises Unauthenticated, BadRequest.

        Only what `find` has let in is in memory, so it is not looked at again whether it could be a key.
        """
        text = offered(headers)
        source = self._keys if text.startswith(_VIRTUAL_KEY) else self._tokens
        return source.recall(_digest(text)) if source is not None else None

    def still(self, headers: Mapping[str, str], caller: Caller) -> Callable[[], bool]:
        """Whether `recall` says of these headers that it is this very caller, whenever that is asked.

        Raises Unauthenticated, BadRequest.
        """
        text = offered(headers)
        is_key, digest = text.startswith(_VIRTUAL_KEY), _digest(text)

        def is_so() -> bool:
            source = self._keys if is_key else self._tokens
            return source is not None and source.recall(digest) is caller

        return is_so

    async def _find(self, text: str, client: str) -> Caller:
        digest = _digest(text)
        if self._tokens is not None and text.startswith(_TOKEN) and text.count(".") == _DOTS:
            return await self._tokens.caller(text, digest)
        wait = self._failures.wait(client)
        if wait:
            raise RateLimited(
                "Too many bad keys from this address: try again later.", unit="requests", headers=retry_headers(wait)
            )
        if self._admin is not None and hmac.compare_digest(digest, self._admin):
            return _ADMIN
        try:
            if text.startswith(_VIRTUAL_KEY) and self._keys is not None:
                return await self._keys.find(digest)
            raise bad_key()
        except Unauthenticated:
            self._failures.count(client)
            raise


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
