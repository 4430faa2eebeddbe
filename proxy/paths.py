"""From a request's path to what is asked for: one table, all the forms that clients use."""

from urllib.parse import unquote

import msgspec

from proxy.endpoints import BY_PATH, Endpoint
from proxy.errors import UnknownPath

MODELS = Endpoint("models", "/models", (), "data")
GENERATE = Endpoint("generate", "/llm/generate", ("prompt",), "choices")
"""The short form of a chat call."""

_AZURE = "/openai/deployments/"


class Target(msgspec.Struct, frozen=True):
    """An endpoint, the methods it takes, and the model when the path names it."""

    endpoint: Endpoint
    methods: tuple[str, ...]
    model: str | None = None


_POST = {path: Target(endpoint, ("POST",)) for path, endpoint in BY_PATH.items()}
_KNOWN = {
    **_POST,
    **{f"/v1{path}": target for path, target in _POST.items()},
    **{f"/openai/v1{path}": target for path, target in _POST.items()},
    GENERATE.path: Target(GENERATE, ("POST",)),
    "/v1/models": Target(MODELS, ("GET", "HEAD")),
    "/models": Target(MODELS, ("GET", "HEAD")),
    "/openai/v1/models": Target(MODELS, ("GET", "HEAD")),
}


def find_target(raw_path: bytes) -> Target | None:
    """What a path, percent-encoded as it was sent, asks for; None when it is none of OpenAI's. Doubled and trailing slashes do not matter; a model's
    name may hold any character."""
    raw = raw_path.decode("latin-1")
    target = _KNOWN.get(raw)
    if target is not None:
        return target
    path = unquote(raw)
    clean = "/" + "/".join(part for part in path.split("/") if part)
    target = _KNOWN.get(clean)
    if target is not None:
        return target
    for prefix in ("/v1/models/", "/models/", "/openai/v1/models/"):
        if path.startswith(prefix):
            return Target(MODELS, ("GET", "HEAD"), path[len(prefix) :])
    return _azure(path)


def _azure(path: str) -> Target | None:
    """Azure's form: `/openai/deployments/{model}/chat/completions`."""
    if not path.startswith(_AZURE):
        return None
    rest = path[len(_AZURE) :]
    for suffix, endpoint in BY_PATH.items():
        if rest.endswith(suffix) and len(rest) > len(suffix):
            return Target(endpoint, ("POST",), rest[: -len(suffix)])
    return None


def unknown_path(path: str) -> UnknownPath:
    """The error for a path at which nothing is served."""
    return UnknownPath(f"Invalid URL: nothing is served at {path[:200]}.")
