"""What the SDK raises, by status and by the moment of the failure."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai
from openai_sdk.chat import HELLO

MODELS = {
    "400": "fake/echo+error=context_length_exceeded",
    "400 unsupported": "fake/echo+refuses=messages",
    "401": "fake/echo+error=invalid_api_key",
    "404": "no-such-model",
    "422": "fake/echo+status=422",
    "429": "fake/echo+error=rate_limit_exceeded+retry-after=7",
    "429 quota": "fake/echo+error=insufficient_quota",
    "500": "fake/echo+status=500",
    "503": "fake/echo+status=503",
    "200 with an error": "fake/echo+fault=error-200",
    "200 with HTML": "fake/echo+fault=html",
    "200 with broken JSON": "fake/echo+fault=json-invalid",
    "reset": "fake/echo+fault=reset",
}


def _chat(model: str, stream: bool) -> None:
    with openai.OpenAI(max_retries=0) as client:
        answer = client.chat.completions.create(model=model, messages=HELLO, stream=stream)
        if stream:
            list(answer)


def _raised(future: Future[None]) -> Any:
    error: Any = future.exception()
    if not isinstance(error, openai.APIError):
        return repr(error)
    response = getattr(error, "response", None)
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "message": error.message,
        "type": error.type,
        "code": error.code,
        "param": error.param,
        "body": error.body,
        "request_id": getattr(error, "request_id", None),
        "headers": dict(response.headers) if response is not None else {},
    }


def _all(stream: bool) -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return {name: _raised(pool.submit(_chat, model, stream)) for name, model in MODELS.items()}


def errors() -> Any:
    return _all(stream=False)


def errors_of_streams() -> Any:
    return _all(stream=True)


def broken_streams() -> Any:
    """Per fault after the first content: what was read before it and what was raised."""

    def read(model: str, into: list[str]) -> None:
        with openai.OpenAI(max_retries=0) as client:
            for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
                into.extend(choice.delta.content or "" for choice in chunk.choices)

    told = {}
    with ThreadPoolExecutor(max_workers=1) as pool:
        for fault in ("cut", "cut-reset", "cut-clean", "malformed", "error-mid"):
            into: list[str] = []
            told[fault] = {
                "raised": _raised(pool.submit(read, f"fake/echo+chunks=4+every=30ms+fault={fault}+at=2", into)),
                "text": "".join(into),
            }
    return told


def timeout() -> Any:
    def wait() -> None:
        with openai.OpenAI(max_retries=0, timeout=0.5) as client:
            client.chat.completions.create(model="fake/echo+delay=5s", messages=HELLO)

    with ThreadPoolExecutor(max_workers=1) as pool:
        return type(pool.submit(wait).exception()).__name__


def bad_requests() -> Any:
    """Requests that the gateway itself must refuse."""

    def post(path: str, body: Any) -> None:
        with openai.OpenAI(max_retries=0) as client:
            client.post(path, body=body, cast_to=object)

    with ThreadPoolExecutor(max_workers=1) as pool:
        return {
            "no model": _raised(pool.submit(post, "/chat/completions", {"messages": HELLO})),
            "model is a number": _raised(pool.submit(post, "/chat/completions", {"model": 4, "messages": HELLO})),
            "unknown path": _raised(pool.submit(post, "/no/such/path", {"model": "gpt-4o"})),
        }


SECTIONS = {
    "errors": errors,
    "errors_of_streams": errors_of_streams,
    "broken_streams": broken_streams,
    "timeout": timeout,
    "bad_requests": bad_requests,
}
