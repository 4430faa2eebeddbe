"""What was said in a call, for people to read: excerpts made whole, redacted where that was asked for."""

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.segments import Texts
from proxy.sse import DONE, Framer

Redact = Callable[[str], str]
Json = dict[str, Any]

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ODD = (RecursionError, TypeError, AttributeError, KeyError, ValueError)
_INLINE = 200
"""Characters of a `data:` URL; longer ones are images and files that nobody reads here."""


def asked(texts: Texts, redact: Redact) -> str:
    """The request: JSON, or the beginning of it where it was cut."""
    return _told(texts.request, texts, redact, cut=texts.request_cut)


def answered(texts: Texts, redact: Redact) -> str:
    """The answer: JSON in the shape of a whole one, also where it was streamed; the beginning of it where it was cut.

    Empty when there was none.
    """
    said = b"".join(texts.answer)
    if not said.startswith((b"data:", b"event:", b":")):
        return _told(said, texts, redact, cut=texts.answer_cut)
    try:
        return _streamed(said, texts, redact)
    except _ODD:  # nested too deep to be walked, or of types that no client expects there
        # in pieces a secret cannot be found, so what is to be redacted is not told at all
        return "" if texts.bodies == "redacted" else without_nul(said.decode("utf-8", "replace"))


def _streamed(said: bytes, texts: Texts, redact: Redact) -> str:
    whole = _assembled(said)
    if whole is None:
        return ""
    clean = _redacting(texts, redact)
    if texts.answer_cut and texts.bodies == "redacted":
        return _encoded(_cleaned(whole, lambda text: clean(_before_the_cut(text) if " " in text else text)))
    return _encoded(_cleaned(whole, clean))


def without_nul(text: str) -> str:
    """The character, which clients may write into JSON, is what PostgreSQL takes in no text: it would refuse the trace.

    Also where it is escaped: MLflow cuts its previews out of what it has decoded.
    """
    return text.replace("\x00", "\ufffd")


def _redacting(texts: Texts, redact: Redact) -> Redact:
    clean = redact if texts.bodies == "redacted" else str
    return lambda text: without_nul(clean(text))


def _told(said: bytes, texts: Texts, redact: Redact, *, cut: bool) -> str:
    clean = _redacting(texts, redact)
    if not cut:
        try:
            return _encoded(_cleaned(msgspec.json.decode(said), clean))
        except (msgspec.DecodeError, RecursionError):
            pass  # nothing that a client should have sent, and shown as it came
    text = said.decode("utf-8", "replace")
    return clean(_before_the_cut(text) if cut and texts.bodies == "redacted" else text)


def _before_the_cut(text: str) -> str:
    """Half a secret may stand at the end, which nothing finds: what has no blank after it goes."""
    return text.rstrip(_PRINTABLE)


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cleaned(value: Any, clean: Redact) -> Any:
    """The same JSON with its strings cleaned, names included, and inline files left out."""
    if isinstance(value, str):
        if value.startswith("data:") and len(value) > _INLINE:
            return f"{value[:40].partition(',')[0]},[{len(value)} characters]"
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(each, clean) for each in value]
    if isinstance(value, dict):
        return {clean(name): _cleaned(each, clean) for name, each in value.items()}
    return value


def _assembled(said: bytes) -> Json | None:
    """The answer that a stream comes to, as far as it went."""
    framer = Framer()
    whole: Json | None = None
    for _, data in [*framer.feed(said), *framer.flush()]:
        if data.startswith(DONE):
            break
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
            break  # the event at which the excerpt was cut
        if isinstance(event, dict):
            whole = _with_event(whole, event)
    return whole


def _with_event(whole: Json | None, event: Json) -> Json:
    if "error" in event and event["error"] is not None:
        return {**(whole or {}), "error": event["error"]}
    if isinstance(event.get("choices"), list):
        return _with_chunk(whole, event)
    return _with_response(whole, event)


def _with_response(whole: Json | None, event: Json) -> Json:
    """The Responses API: the last event holds everything; before it there are deltas of text."""
    if isinstance(event.get("response"), dict):
        return {**(whole or {}), **event["response"]}
    whole = whole or {"object": "response"}
    if event.get("type") == "response.output_text.delta" and isinstance(event.get("delta"), str):
        whole["output_text"] = (whole.get("output_text") or "") + event["delta"]
    return whole


def _with_chunk(whole: Json | None, event: Json) -> Json:
    if whole is None:
        whole = {name: value for name, value in event.items() if name not in ("choices", "usage")}
        whole["object"] = str(whole.get("object", "")).removesuffix(".chunk")
        whole["choices"] = []
    if event.get("usage"):
        whole["usage"] = event["usage"]
    for chunk in event["choices"]:
        if not isinstance(chunk, dict):
            continue
        index = chunk.get("index", 0)
        choice = next((each for each in whole["choices"] if each["index"] == index), None)
        if choice is None:
            choice = {"index": index, "finish_reason": None}
            whole["choices"].append(choice)
        if isinstance(chunk.get("delta"), dict):
            _merge(choice.setdefault("message", {"role": "assistant", "content": None}), chunk["delta"])
        if isinstance(chunk.get("text"), str):
            choice["text"] = choice.get("text", "") + chunk["text"]
        if chunk.get("finish_reason") is not None:
            choice["finish_reason"] = chunk["finish_reason"]
    return whole


def _merge(into: Json, delta: Json) -> None:
    """Texts grow, calls of tools by their index; the rest is as it was said last."""
    for name, value in delta.items():
        known = into.get(name)
        if name == "tool_calls" and isinstance(value, list):
            _merge_tools(into.setdefault(name, []), value)
        elif isinstance(value, dict) and isinstance(known, dict):
            _merge(known, value)
        elif isinstance(value, str) and isinstance(known, str) and name not in ("role", "id", "type", "name"):
            into[name] = known + value
        elif value is not None:
            into[name] = value


def _merge_tools(tools: list[Json], pieces: list[Any]) -> None:
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        index = piece.get("index", len(tools))
        tool = next((each for each in tools if each.get("index") == index), None)
        if tool is None:
            tools.append({**piece, "index": index})
        else:
            _merge(tool, piece)
