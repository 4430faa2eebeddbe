"""Whom the gateway believes, as configuration says it: users who log in here, and issuers of tokens elsewhere."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from proxy.values import Duration, Secret, duration

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""No shared secrets: a verifier that could also sign is no verifier."""
_Count = Annotated[int, msgspec.Meta(ge=1)]


class UserConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user of the configuration; `lockgate users hash` makes the hash."""

    name: str
    password_hash: Secret
    owner: str = ""
    models: tuple[str, ...] = ("*",)
    role: Literal["user", "admin"] = "user"
    rpm: _Count | None = None
    tpm: _Count | None = None
    parallel: _Count | None = None
    tags: tuple[str, ...] = ()


class LoginConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tokens issued here. `tries` a minute for a name from an address; past `slow_after` a minute a name is slowed."""

    users: tuple[UserConfig, ...] = ()
    access_ttl: Duration = duration("1h")
    refresh_ttl: Duration = duration("30d")
    tries: Annotated[int, msgspec.Meta(ge=1)] = 5
    slow_after: Annotated[int, msgspec.Meta(ge=1)] = 20


class ClaimNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which claim says what; "" is none. A name that is no claim is read as a path through objects: `realm.roles`."""

    owner: str = "sub"
    models: str = ""
    role: str = ""
    rpm: str = ""
    tpm: str = ""
    parallel: str = ""


class IssuerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An OIDC issuer whose tokens are accepted. `keep` is how long its last good keys serve while it is away."""

    issuer: str
    audience: str | tuple[str, ...]
    jwks: str
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    name: str = ""
    required: tuple[str, ...] = ()
    leeway: Duration = duration("30s")
    keep: Duration = duration("1h")
    claims: ClaimNames = msgspec.field(default_factory=ClaimNames)
    models: tuple[str, ...] = ("*",)
    admin_role: str = "lockgate-admin"

    @property
    def audiences(self) -> tuple[str, ...]:
        """One or several."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience

    @property
    def short_name(self) -> str:
        """What its callers and owners are called by: `name`, or else the issuer's host."""
        return self.name or urlsplit(self.issuer).hostname or self.issuer
