"""The dashboard's three files. They hold no facts: those come from the operator's routes, for who may read them."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from proxy.errors import UnknownPath

_FOLDER = Path(__file__).parent / "dashboard"
_TYPES = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


def ui_handlers() -> list[ControllerRouterHandler]:
    """`/ui` and its files, read once."""
    files = {name: (_FOLDER / name).read_bytes() for name in _TYPES}
    tags = {name: f'"{sha256(data).hexdigest()[:20]}"' for name, data in files.items()}

    def answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
        headers = {**_HEADERS, "etag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(b"", status_code=304, headers=headers, media_type=_TYPES[name])
        return Response(files[name], headers=headers, media_type=_TYPES[name])

    @get("/ui", sync_to_thread=False)
    def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return answer(request, "index.html")

    @get("/ui/{name:str}", sync_to_thread=False)
    def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        if name not in files:
            raise UnknownPath("Nothing is served there.")
        return answer(request, name)

    return [page, asset]
