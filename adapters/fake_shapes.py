"""The JSON forms of fake answers: chat, completions, embeddings, moderations, models, errors. WIRE's required members, all of them."""

import base64
import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from adapters.fake_content import Content, pieces
from adapters.fake_script import STATUS_OF, Script

FINGERPRINT = "fp_fake"
Json = dict[str, Any]

_TYPES = {401: "invalid_request_error", 429: "requests", 402: "insufficient_quota", 529: "overloaded_error"}
_MESSAGES = {
    "context_length_exceeded": "This model's maximum context length is 8192 tokens. Please reduce the length of the messages.",
    "content_policy_violation": "Your request was rejected as a result of our safety system.",
    "content_filter": "The response was filtered due to the prompt triggering a content management policy.",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
    "rate_limit_exceeded": "Rate limit reached for requests.",
    "invalid_api_key": "Incorrect API key provided.",
    "model_not_found": "The model does not exist or you do not have access to it.",
    "server_is_overloaded": "The server is currently overloaded.",
    "unsupported_parameter": "Unsupported parameter.",
}
_CODES = {429: "rate_limit_exceeded"}
_PARAMS = {"context_length_exceeded": "messages", "model_not_found": "model"}
_SERVER_ERROR = 500
_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def error_object(hurt: str, *, message: str = "", param: str | None = None) -> tuple[int, Json]:
    """The status and the body of a failure, named by a status or by an error code."""
    status = STATUS_OF.get(hurt) or int(hurt)
    code = hurt if hurt in STATUS_OF else _CODES.get(status)
    kind = _TYPES.get(status, "server_error" if status >= _SERVER_ERROR else "invalid_request_error")
    if code == "insufficient_quota":
        kind = code
    text = message or _MESSAGES.get(hurt) or f"The fake provider fails with status {status} as its script says."
    return status, {"error": {"message": text, "type": kind, "param": param or _PARAMS.get(hurt), "code": code}}


def usage(prompt: int, completion: int, reasoning: int = 0) -> Json:
    """The usage of chat and completions."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs(tokens: Sequence[str], top: int) -> Json:
    """Chat's logprobs: the n-th token is a little less likely than the one before."""
    content = []
    for index, token in enumerate(tokens):
        entry: Json = {"token": token, "logprob": -0.01 * (index + 1), "bytes": list(token.encode())}
        others = [{"token": f"{token}{rank}", "logprob": -1.0 - rank, "bytes": None} for rank in range(1, top)]
        content.append({**entry, "top_logprobs": [dict(entry), *others] if top else []})
    return {"content": content, "refusal": None}


def chat_whole(frame: Json, said: Sequence[Content], counted: Json, script: Script, top: int | None) -> Json:
    """A chat completion. `top` is the number of top_logprobs, None for no logprobs."""
    choices = []
    for index, content in enumerate(said):
        message: Json = {"role": "assistant", "content": content.text, "refusal": content.refusal, "annotations": []}
        if content.reasoning:
            message["reasoning_content"] = content.reasoning
        if content.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in content.calls
            ]
        shown = None if top is None else logprobs(pieces(content.text or "", script), top)
        choices.append({"index": index, "message": message, "logprobs": shown, "finish_reason": content.finish})
    return {**frame, "object": "chat.completion", "choices": choices, "usage": counted}


def chat_deltas(content: Content, script: Script, top: int | None) -> list[tuple[Json, Json | None]]:
    """One choice's deltas in order, each with its logprobs; the role comes first and the finish is not among them."""
    deltas: list[tuple[Json, Json | None]] = [({"role": "assistant", "content": "", "refusal": None}, None)]
    deltas += [({"reasoning_content": piece}, None) for piece in pieces(content.reasoning, script)]
    deltas += [({"refusal": piece}, None) for piece in pieces(content.refusal or "", script)]
    for index, call in enumerate(content.calls):
        function = {"name": call.name, "arguments": ""}
        deltas.append(
            ({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}, None)
        )
        for piece in _arguments(call.arguments, script):
            deltas.append(({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None))
    for piece in pieces(content.text or "", script):
        deltas.append(({"content": piece}, None if top is None else logprobs([piece], top)))
    return deltas


def _arguments(text: str, script: Script) -> list[str]:
    """Arguments have few spaces: cut them anywhere."""
    return pieces(text, script if script.chunks else msgspec.structs.replace(script, chunks=4))


def completion_choice(text: str, index: int, finish: str | None, shown: Json | None = None) -> Json:
    """A choice of the legacy endpoint, whole or streamed."""
    return {"text": text, "index": index, "logprobs": shown, "finish_reason": finish}


def completion_logprobs(tokens: Sequence[str], top: int, start: int = 0) -> Json:
    """The legacy endpoint's logprobs."""
    offsets, at = [], start
    for token in tokens:
        offsets.append(at)
        at += len(token)
    return {
        "tokens": list(tokens),
        "token_logprobs": [-0.01 * (index + 1) for index in range(len(tokens))],
        "top_logprobs": [{token: -0.01} for token in tokens] if top else None,
        "text_offset": offsets,
    }


def vector(key: str, size: int) -> list[float]:
    """A unit vector that depends on the text alone; two texts are about orthogonal."""
    raw = hashlib.shake_256(key.encode("utf-8", "surrogatepass")).digest(size * 2)
    values = [number - 32767.5 for number in struct.unpack(f"<{size}H", raw)]
    norm = math.sqrt(sum(value * value for value in values))
    return [value / norm for value in values]


def embeddings(model: str, keys: Sequence[str], size: int, *, as_base64: bool, tokens: int) -> Json:
    """The answer of the embeddings endpoint; base64 is little-endian float32."""
    data = []
    for index, key in enumerate(keys):
        values: Any = vector(key, size)
        if as_base64:
            values = base64.b64encode(struct.pack(f"<{size}f", *values)).decode()
        data.append({"object": "embedding", "index": index, "embedding": values})
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def moderations(model: str, call_id: str, texts: Sequence[str]) -> Json:
    """A text is flagged with each category whose name it holds."""
    results = []
    for text in texts:
        found = {category: category in text for category in _CATEGORIES}
        results.append(
            {
                "flagged": any(found.values()),
                "categories": found,
                "category_scores": {category: 0.99 if hit else 0.01 for category, hit in found.items()},
                "category_applied_input_types": {category: ["text"] for category in found},
            }
        )
    return {"id": call_id, "model": model, "results": results}


def model_object(name: str) -> Json:
    """One entry of the list of models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "lockgate-fake"}


def tokens_in(value: object) -> int:
    """The tokens of any part of a request: the words of its strings, one for each number in a token list."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, Mapping):
        return sum(tokens_in(each) for each in value.values())
    if isinstance(value, list):
        return sum(1 if isinstance(each, int) else tokens_in(each) for each in value)
    return 0
