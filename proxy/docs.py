"""`/openapi.json` and `/docs`: the OpenAI routes and the operator's, with every asset served from here."""

import html
from pathlib import Path
from typing import Any

from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler
from swagger_ui_bundle import swagger_ui_path

from proxy.endpoints import ENDPOINTS, Endpoint
from proxy.paths import GENERATE

Json = dict[str, Any]

_KINDS: dict[str, Json] = {
    "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
    "prompt": {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}]},
    "input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}]},
}
_SUMMARIES = {
    "chat": "A chat completion, whole or as a stream",
    "completions": "A legacy text completion, whole or as a stream",
    "embeddings": "Embeddings of texts or tokens",
    "moderations": "A moderation verdict",
    "responses": "A response, whole or as a stream (stateless only)",
    "generate": "The short form of a chat completion: one prompt, one text",
}
_ERROR = {"$ref": "#/components/responses/Error"}


def openapi(version: str) -> Json:
    """The OpenAPI 3.0 document. Request bodies list the members that the gateway itself needs: all others pass."""
    paths: Json = {f"/v1{endpoint.path}": {"post": _operation(endpoint)} for endpoint in ENDPOINTS}
    paths[GENERATE.path] = {"post": _operation(GENERATE)}
    paths["/v1/models"] = {"get": _simple("The models that this caller may use", "models")}
    paths["/v1/models/{model}"] = {
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
        "get": _simple("One model", "models"),
    }
    for path, summary in (("/health/live", "Whether the process answers"), ("/health/ready", "Whether it is ready")):
        paths[path] = {"get": _simple(summary, "health")}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Lockgate",
            "version": version,
            "description": "An OpenAI-compatible gateway. The bodies are OpenAI's: see its API reference.",
        },
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": _error_response()},
        },
    }


def docs_handlers(version: str) -> list[ControllerRouterHandler]:
    """The handlers of the document, the page and its assets."""
    document = openapi(version)
    page = _page()

    @get("/openapi.json", sync_to_thread=False)
    def describe() -> Json:
        return document

    @get("/docs", media_type=MediaType.HTML, sync_to_thread=False)
    def show() -> Response[str]:
        return Response(page, media_type=MediaType.HTML)

    assets = create_static_files_router("/docs/assets", directories=[Path(swagger_ui_path)], include_in_schema=False)
    handlers: list[HTTPRouteHandler] = [describe, show]
    return [*handlers, assets]


def _operation(endpoint: Endpoint) -> Json:
    properties: Json = {"model": {"type": "string", "description": "The name of a route"}}
    properties |= {name: _KINDS[name] for name in endpoint.required}
    if endpoint.dialect is not None:
        properties["stream"] = {"type": "boolean", "nullable": True}
    body = {"type": "object", "required": ["model", *endpoint.required], "properties": properties}
    answers: Json = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.dialect is not None:
        answers["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        **_simple(_SUMMARIES[endpoint.name], "openai"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "The answer", "content": answers}, "default": _ERROR},
    }


def _simple(summary: str, tag: str) -> Json:
    return {"summary": summary, "tags": [tag], "responses": {"200": {"description": "The answer"}, "default": _ERROR}}


def _error_response() -> Json:
    nullable = {"type": "string", "nullable": True}
    members = {"message": {"type": "string"}, "type": {"type": "string"}, "param": nullable, "code": nullable}
    error = {"type": "object", "required": list(members), "properties": members}
    schema = {"type": "object", "required": ["error"], "properties": {"error": error}}
    return {"description": "An error in OpenAI's shape", "content": {"application/json": {"schema": schema}}}


def _page() -> str:
    base = "/docs/assets"
    title = html.escape("Lockgate API")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{base}/swagger-ui.css"><link rel="icon" href="{base}/favicon-32x32.png"></head>
<body><div id="docs"></div><script src="{base}/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({{url: "/openapi.json", dom_id: "#docs", validatorUrl: null}});</script></body></html>
"""
