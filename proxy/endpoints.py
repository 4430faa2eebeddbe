"""The OpenAI endpoints that Lockgate serves: a table, read by the edge, the wire and the adapters."""

from typing import Literal

import msgspec

Dialect = Literal["chat", "completions", "responses"]


class Endpoint(msgspec.Struct, frozen=True):
    """One POST endpoint.

    `path` is what stands behind `/v1`. `required` are the members a body must have besides `model`.
    `dialect` names the form of its event stream; None means that it never streams.
    """

    name: str
    path: str
    required: tuple[str, ...]
    answer: str
    """The member without which a 200 is no answer."""
    dialect: Dialect | None = None
    asks_usage: bool = False
    """Whether `stream_options.include_usage` exists there, so that the gateway may set it."""


CHAT = Endpoint("chat", "/chat/completions", ("messages",), "choices", "chat", asks_usage=True)
COMPLETIONS = Endpoint("completions", "/completions", ("prompt",), "choices", "completions", asks_usage=True)
EMBEDDINGS = Endpoint("embeddings", "/embeddings", ("input",), "data")
MODERATIONS = Endpoint("moderations", "/moderations", ("input",), "results")
RESPONSES = Endpoint("responses", "/responses", (), "output", "responses")

ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, MODERATIONS, RESPONSES)
BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
