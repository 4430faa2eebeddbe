"""`/auth/*`: what a client sends to log in, to stay in and to leave, and to ask who it is."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from proxy.call import Caller
from proxy.callers import Callers
from proxy.credentials import presented
from proxy.errors import BadRequest, BodyTimeout, GatewayError, Unauthenticated
from proxy.login import Issued, Login
from proxy.paths import unknown_path
from proxy.tokens import Tokens
from proxy.web import credentials_of, peer_of

Json = dict[str, Any]
AnyRequest = Request[Any, Any, Any]

_LARGEST = 16 * 1024
_PATIENCE = 10.0
"""Seconds for a body to arrive: strangers send it."""
_FORM = "application/x-www-form-urlencoded"
_NOT_KEPT = {"cache-control": "no-store", "pragma": "no-cache"}


class Current(msgspec.Struct, frozen=True):
    """What the running configuration has for these routes."""

    callers: Callers
    tokens: Tokens
    login: Login | None


def auth_handlers(current: Callable[[], Current]) -> list[ControllerRouterHandler]:
    """The handlers; `current` is asked at every request. Without logins only `verify` is there."""

    def login_of(request: AnyRequest) -> Login:
        login = current().login
        if login is None:
            raise unknown_path(request.url.path)
        return login

    def client_of(request: AnyRequest) -> str:
        return current().callers.client(credentials_of(request), peer_of(request))

    @post("/auth/login", status_code=200, request_max_body_size=_LARGEST)
    async def log_in(request: AnyRequest) -> Response[Issued]:
        """An access token and a refresh token for a username and a password."""
        login, members = login_of(request), await _members(request)
        issued = await login.login(_text(members, "username"), _text(members, "password"), client_of(request))
        return Response(issued, headers=_NOT_KEPT)

    @post("/auth/refresh", status_code=200, request_max_body_size=_LARGEST)
    async def refresh(request: AnyRequest) -> Response[Issued]:
        """New tokens for a refresh token."""
        login, members = login_of(request), await _members(request)
        return Response(await login.refresh(_text(members, "refresh_token"), client_of(request)), headers=_NOT_KEPT)

    @post("/auth/logout", status_code=200, request_max_body_size=_LARGEST)
    async def log_out(request: AnyRequest) -> Json:
        """End the login of the access token that is presented, or of the refresh token in the body, or both."""
        login = login_of(request)
        found = await _family(current(), request)  # a bad key is refused before the body is read
        members = await _members(request)
        refresh_token = _text(members, "refresh_token") if "refresh_token" in members else None
        if isinstance(found, GatewayError) and refresh_token is None:
            raise found
        await login.logout(found if isinstance(found, str) else None, refresh_token)
        return {"status": "logged out"}

    @get("/auth/verify")
    async def verify(request: AnyRequest) -> Response[Json]:
        """Who the presented key or token belongs to."""
        now = current()
        headers = credentials_of(request)
        caller = await now.callers.find(headers, peer_of(request))
        known = now.tokens.remembered(hashlib.sha256(presented(headers).encode()).digest())
        return Response(_describe(caller, int(known.expires) if known is not None else None), headers=_NOT_KEPT)

    return [log_in, refresh, log_out, verify]


async def _family(current: Current, request: AnyRequest) -> str | GatewayError:
    """The login that the presented access token belongs to, or why there is none.

    Raises Unauthenticated for a bad key or token. Nothing at all, and what comes too late, may still end a login: by
    its refresh token.
    """
    headers = credentials_of(request)
    try:
        await current.callers.find(headers, peer_of(request))
    except Unauthenticated as error:
        if error.code not in (None, "token_expired"):
            raise
        return error
    known = current.tokens.remembered(hashlib.sha256(presented(headers).encode()).digest())
    if known is not None and known.family:
        return known.family
    return BadRequest("Only a login can be ended: keys are revoked, tokens of other issuers end there.")


def _describe(caller: Caller, expires: int | None) -> Json:
    return {
        "valid": True,
        "caller": caller.id,
        "username": caller.id.removeprefix("user:") if caller.id.startswith("user:") else None,
        "owner": caller.owner or None,
        "role": "admin" if caller.is_admin else "user",
        "models": caller.models,
        "expires_at": expires,
    }


async def _members(request: AnyRequest) -> Mapping[str, object]:
    """The members of a JSON or form body; none of an empty one. Raises BadRequest, BodyTimeout."""
    try:
        async with asyncio.timeout(_PATIENCE):
            body = await request.body()
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time.") from None
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("The body must be a JSON object.", code="invalid_json") from None


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if value is None:
        raise BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if not isinstance(value, str):
        raise BadRequest(f"Invalid type for '{name}': expected a string.", param=name, code="invalid_type")
    return value
