"""What authentication must be like, above all before others than this machine can reach the gateway."""

import importlib
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from proxy.authority import IssuerConfig, LoginConfig
from proxy.config import Config
from proxy.credentials import can_be_presented
from proxy.weak import ADMIN_LENGTH, SIGNING_LENGTH, is_sample_password, weakness

_LONGEST_ACCESS = 86400.0
_SLOWEST_WATCH = 5.0
_LONGEST_NAME = 128
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MADE = "the gateway makes one for itself where it is empty"


def identity_problems(config: Config) -> Iterator[str]:
    """Every reason not to start, with its path."""
    if not can_be_presented(config.secrets.admin_key.reveal()):
        yield 'secrets.admin_key: letters, digits and punctuation other than , " and \\, or no request could present it'
    if config.server.is_public:
        yield from _public_problems(config)
    if not config.needs_identity or config.authenticate is None:
        return
    if not 0 < config.authenticate.watch <= _SLOWEST_WATCH:
        yield "authenticate.watch: over 0 and at most 5s, or a revocation would not hold in time"
    if config.authenticate.login is not None:
        yield from _login_problems(config.authenticate.login)
    for index, issuer in enumerate(config.authenticate.issuers):
        yield from (f"authenticate.issuers[{index}].{problem}" for problem in _issuer_problems(issuer))
    issuers = config.authenticate.issuers
    for member, values in (
        ("issuer", [each.issuer for each in issuers]),
        ("name", [each.short_name for each in issuers]),
    ):
        yield from (f"authenticate.issuers: {value!r} is the {member} of two" for value in _twice(values))
    try:
        importlib.import_module("proxy.state").parse_url(config.database_url)
    except ValueError as error:
        yield f"database: {error}"


def identity_notes(config: Config) -> list[str]:
    """What an operator should know and need not mend."""
    login = config.authenticate is not None and config.authenticate.login is not None
    if login and not config.secrets.signing and not config.database_url.startswith("sqlite"):
        return [
            "secrets.signing is empty, so this instance makes its own: several instances on one database need the same"
        ]
    return []


def _public_problems(config: Config) -> Iterator[str]:
    if not config.needs_identity:
        yield (
            "server.exposure: others than this machine could reach a gateway without authentication; configure "
            "authenticate, listen on 127.0.0.1, or set exposure: loopback where something else keeps them out, such as "
            "a container's port mapping"
        )
        return
    admin_key, signing = config.secrets.admin_key.reveal(), config.secrets.signing.reveal()
    why = weakness(admin_key, ADMIN_LENGTH) if admin_key else None
    if why is not None:
        yield f"secrets.admin_key: {why}; others can reach this gateway"
    login = config.authenticate.login if config.authenticate is not None else None
    if login is None:
        return
    why = weakness(signing, SIGNING_LENGTH) if signing else None
    if why is not None:
        yield f"secrets.signing: {why}; others can reach this gateway ({_MADE})"
    for index, user in enumerate(login.users):
        if is_sample_password(user.password_hash.reveal()):
            yield f"authenticate.login.users[{index}].password_hash: everybody knows this one, it is our documentation's"


def _login_problems(login: LoginConfig) -> Iterator[str]:
    if not 1 <= login.access_ttl <= _LONGEST_ACCESS:
        yield "authenticate.login.access_ttl: from 1s to 24h"
    if login.refresh_ttl < login.access_ttl:
        yield "authenticate.login.refresh_ttl: shorter than access_ttl"
    yield from (f"authenticate.login.users: {name!r} stands twice" for name in _twice([u.name for u in login.users]))
    for index, user in enumerate(login.users):
        if not user.name or len(user.name) > _LONGEST_NAME:
            yield f"authenticate.login.users[{index}].name: from 1 to 128 characters"
        why = importlib.import_module("proxy.passwords").what_is_wrong(user.password_hash.reveal())
        if why is not None:
            yield f"authenticate.login.users[{index}].password_hash: {why}"


def _issuer_problems(issuer: IssuerConfig) -> Iterator[str]:
    if not issuer.issuer or issuer.issuer == "lockgate":
        yield "issuer: the name that stands in `iss`, and not our own"
    if not all(issuer.audiences) or not issuer.audiences:
        yield "audience: missing; a token meant for others must not open this gateway"
    if not issuer.algorithms:
        yield "algorithms: none is allowed"
    parts = urlsplit(issuer.jwks)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        yield "jwks: keys must come over https://, or from this machine"
    if ":" in issuer.short_name or "/" in issuer.short_name:
        yield "name: a word without colons and slashes"


def _twice(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
