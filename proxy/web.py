"""The Litestar application: the edge as a raw handler, and plain handlers for everything that is not hot."""

import logging
from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from proxy.credentials import HEADERS
from proxy.docs import docs_handlers
from proxy.edge import Edge
from proxy.errors import BadRequest, GatewayError, InternalError, WrongMethod
from proxy.health import Health
from proxy.ids import new_id
from proxy.paths import find_target, unknown_path
from proxy.version import VERSION

logger = logging.getLogger("lockgate")

_SERVER_ERROR = 500
_CALLER = (*HEADERS, "x-forwarded-for")

Connection = ASGIConnection[Any, Any, Any, Any]


def make_web(health: Health, handlers: Sequence[ControllerRouterHandler] = ()) -> Litestar:
    """Everything that is not hot: health, documentation and `handlers`, the operator's routes."""
    return Litestar(
        route_handlers=[*_health_handlers(health), *docs_handlers(VERSION), *handlers],
        exception_handlers={
            GatewayError: _render,
            HTTPException: _render_http,
            RecursionError: _render_depth,
            Exception: _render_other,
        },
        after_request=_with_id,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def make_app(edge: Edge, web: ASGIApp) -> ASGIApp:
    """The application: the OpenAI paths are the edge's, all others Litestar's.

    The edge stands before Litestar and not inside it: its wrappers cost a tenth of a call and a frame an event
    (docs/decisions/0001-edge-before-litestar.md).
    """

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        target = find_target(scope["raw_path"])
        if target is None:
            return web(scope, receive, send)
        return edge(target, scope, receive, send)  # type: ignore[arg-type]  # the server speaks no protocol but HTTP

    return app


def credentials_of(connection: Connection) -> dict[str, str]:
    """The headers that say who a request is from, as the edge has them: lower case, repeated ones joined."""
    found = {name: connection.headers.getall(name, []) for name in _CALLER}
    return {name: ", ".join(values) for name, values in found.items() if values}


def peer_of(connection: Connection) -> str:
    """The address at the connection's other end."""
    return connection.client.host if connection.client is not None else ""


def _health_handlers(health: Health) -> list[ControllerRouterHandler]:
    @get(["/health/live", "/healthz"], sync_to_thread=False)
    def live() -> dict[str, str]:
        """Whether the process answers; touches nothing."""
        return {"status": "ok"}

    @get(["/health/ready", "/readyz"], sync_to_thread=False)
    def ready() -> Response[dict[str, Any]]:
        """Whether traffic should come here, and the state of each part."""
        good, parts = health.report()
        return Response({"status": "ok" if good else "down", "parts": parts}, status_code=200 if good else 503)

    return [live, ready]


def _with_id(response: Response[Any]) -> Response[Any]:
    """Every answer has an id, good ones too."""
    response.headers.setdefault("x-request-id", new_id())
    return response


def _render(_request: Request[Any, Any, Any], error: GatewayError) -> Response[bytes]:
    return Response(
        error.body(),
        status_code=error.http_status,
        media_type="application/json",
        headers={"x-request-id": new_id(), **error.headers},
    )


def _render_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if isinstance(error, NotFoundException):
        return _render(request, unknown_path(request.url.path))
    if isinstance(error, MethodNotAllowedException):
        headers = {key.lower(): value for key, value in (error.headers or {}).items()}
        return _render(request, WrongMethod(f"Not allowed to {request.method} here.", headers=headers))
    if error.status_code >= _SERVER_ERROR:
        return _render_other(request, error)
    response = _render(request, BadRequest(_detail(error), code="invalid_request"))
    response.status_code = error.status_code
    return response


def _render_depth(request: Request[Any, Any, Any], _error: RecursionError) -> Response[bytes]:
    """A body of brackets: the decoder gives up, and it is the client's doing."""
    return _render(request, BadRequest("The body is nested too deeply.", code="invalid_json"))


def _render_other(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _render(request, InternalError())


def _detail(error: HTTPException) -> str:
    if not error.extra:
        return str(error.detail)
    return f"{error.detail}: {msgspec.json.encode(error.extra).decode()}"
