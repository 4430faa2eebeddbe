"""Records as OpenTelemetry spans: one trace a call, under the names of the `gen_ai` conventions and of MLflow.

Sources: https://opentelemetry.io/docs/specs/semconv/gen-ai/ and, for `mlflow.*`, `mlflow.tracing.constant` of 3.17.
Trace and span ids follow from the call's id, so that what is sent twice is one trace.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from adapters.transcript import Redact, answered, asked, without_nul
from proxy.call import NANO, Record
from proxy.segments import Stored, Texts
from proxy.version import VERSION

Value = str | bool | int | float | Iterable[str]
Attributes = Mapping[str, Value | None]

_SECOND = 1_000_000_000
_SHORT = 250
"""Characters of a user's or a session's name; MLflow refuses longer ones."""
_OPERATIONS = {
    "chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "responses": "chat",
}
_KINDS = {"chat": "CHAT_MODEL", "completions": "LLM", "embeddings": "EMBEDDING", "responses": "CHAT_MODEL"}
_BAD = ("error", "upstream_interrupted")


def encode(batch: Iterable[Stored], redact: Redact, resource: Attributes) -> ExportTraceServiceRequest:
    """These records, with their texts, as one request."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add()
    spans.resource.attributes.extend(_attributes({"service.name": "lockgate", "service.version": VERSION, **resource}))
    scope = spans.scope_spans.add()
    scope.scope.name, scope.scope.version = "lockgate", VERSION
    for each in batch:
        scope.spans.extend(_Trace(each.record).spans(_texts(each), redact))
    return request


def _texts(stored: Stored) -> Texts | None:
    try:
        return Texts.decode(stored.texts) if stored.texts else None
    except msgspec.DecodeError:
        return None


class _Trace:
    """The spans of one call. Their times follow from the record's, which has lengths and not beginnings."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._id = bytes.fromhex(record.id)
        self._start = int(record.started * _SECOND)
        self._root = self._span_id("call")

    def spans(self, texts: Texts | None, redact: Redact) -> list[Span]:
        """The root, what policies did, and every attempt."""
        record = self._record
        said = _said(texts, redact) if texts is not None else {}
        name = f"{record.endpoint} {record.route or record.model}".strip()
        root = self._span(name, self._root, 0.0, max(record.duration, 0.0), {**_facts(record), **said})
        root.kind = Span.SPAN_KIND_SERVER
        if record.outcome in _BAD:
            root.status.code, root.status.message = Status.STATUS_CODE_ERROR, record.error
        else:
            root.status.code = Status.STATUS_CODE_OK
        if record.first_content is not None:
            event = root.events.add()
            event.name, event.time_unix_nano = "first content", self._at(record.first_content)
        return [root, *self._policies(), *self._attempts()]

    def _policies(self) -> Iterable[Span]:
        """A span for each that did something; only waiting takes time that is known."""
        record = self._record
        if record.queued:
            yield self._child("queue", 0.0, record.queued, {"mlflow.spanType": "TASK"})
        if record.changed or record.dropped:
            changes: Attributes = {
                "mlflow.spanType": "TASK",
                "lockgate.changed": record.changed or None,
                "lockgate.dropped": record.dropped or None,
            }
            yield self._child("parameters", record.queued, record.queued, changes)
        if record.charges:
            reserved: Attributes = {
                "mlflow.spanType": "TASK",
                "lockgate.budget.accounts": [f"{each.account} {each.period}" for each in record.charges],
                "lockgate.budget.reserved_usd": max(each.amount for each in record.charges) / NANO,
            }
            yield self._child("budget", record.queued, record.queued, reserved)
        for number, verdict in enumerate(record.guards):
            facts: Attributes = {
                "mlflow.spanType": "GUARDRAIL",
                "lockgate.guard.name": verdict.guard,
                "lockgate.guard.action": verdict.action,
                "lockgate.guard.side": verdict.side,
                "lockgate.guard.where": verdict.where or None,
                "lockgate.guard.score": verdict.score,
                "lockgate.guard.shadow": verdict.shadow,
                "lockgate.guard.reasons": verdict.reasons or None,
            }
            at = record.queued if verdict.side == "input" else record.duration
            yield self._child(f"guard {verdict.guard}", at, at, facts, number)
        if record.cache:
            facts = {
                "mlflow.spanType": "RETRIEVER",
                "lockgate.cache.verdict": record.cache,
                "lockgate.cache.similarity": record.similarity,
                "lockgate.cache.candidates": [f"{entry} {near:.4f} {why}" for entry, near, why in record.candidates]
                or None,
            }
            yield self._child("cache", record.queued, record.queued, facts)
        if record.flight == "followed":
            yield self._child("single_flight", record.queued, record.queued, {"lockgate.flight": record.flight})

    def _attempts(self) -> list[Span]:
        """From the last one back: it ended when the reply was committed, or when the call was over."""
        record = self._record
        end = record.duration if record.first_content is None else record.first_content
        spans = []
        for number, attempt in reversed(list(enumerate(record.attempts))):
            begin = max(0.0, end - attempt.seconds)
            facts: Attributes = {
                "mlflow.spanType": "LLM",
                "gen_ai.operation.name": _OPERATIONS.get(record.endpoint),
                "gen_ai.provider.name": attempt.provider,
                "gen_ai.request.model": attempt.model,
                "http.response.status_code": attempt.status,
                "error.type": None if attempt.kind == "ok" else attempt.kind,
                "lockgate.deployment": attempt.deployment or None,
                "lockgate.attempt": number + 1,
                "lockgate.wait_seconds": attempt.wait or None,
            }
            span = self._child(f"attempt {attempt.provider} {attempt.model}", begin, end, facts, number)
            span.kind = Span.SPAN_KIND_CLIENT
            ok = attempt.kind == "ok"
            span.status.code = Status.STATUS_CODE_OK if ok else Status.STATUS_CODE_ERROR
            span.status.message = "" if ok else attempt.kind
            spans.append(span)
            end = max(0.0, begin - attempt.wait)
        return spans[::-1]

    def _child(self, name: str, begin: float, end: float, facts: Attributes, number: int = 0) -> Span:
        span = self._span(name, self._span_id(f"{name}\x00{number}"), begin, end, facts)
        span.parent_span_id = self._root
        return span

    def _span(self, name: str, span_id: bytes, begin: float, end: float, facts: Attributes) -> Span:
        return Span(
            trace_id=self._id,
            span_id=span_id,
            name=without_nul(name),
            start_time_unix_nano=self._at(begin),
            end_time_unix_nano=self._at(end),
            attributes=_attributes(facts),
        )

    def _at(self, seconds: float) -> int:
        return self._start + int(seconds * _SECOND)

    def _span_id(self, what: str) -> bytes:
        return hashlib.blake2b(what.encode(), key=self._id, digest_size=8).digest()


def _facts(record: Record) -> dict[str, Value | None]:
    """What is known of a call."""
    usage = record.usage
    session, user = record.session[:_SHORT], (record.user or record.owner or record.caller)[:_SHORT]
    facts: dict[str, Value | None] = {
        "mlflow.spanType": _KINDS.get(record.endpoint, "CHAIN"),
        "mlflow.llm.model": record.upstream_model or record.model or None,
        "mlflow.llm.provider": record.provider or None,
        "mlflow.message.format": "openai",
        "session.id": session or None,
        "user.id": user or None,
        "gen_ai.operation.name": _OPERATIONS.get(record.endpoint),
        "gen_ai.conversation.id": session or None,
        "gen_ai.provider.name": record.provider or None,
        "gen_ai.request.model": record.model or None,
        "gen_ai.response.model": record.upstream_model or None,
        "http.response.status_code": record.status or None,
        "error.type": record.error or None,
        "lockgate.first_content_seconds": record.first_content,
        "lockgate.upstream_seconds": record.upstream,
        "lockgate.events": record.events or None,
        "lockgate.changed": record.changed or None,
        "lockgate.dropped": record.dropped or None,
        "lockgate.saved_usd": record.saved / NANO if record.saved is not None else None,
    }
    facts |= {name: record.parameters[own] for own, name in _PARAMETERS.items() if own in record.parameters}
    if usage is not None:
        facts |= {
            "gen_ai.usage.input_tokens": usage.prompt,
            "gen_ai.usage.output_tokens": usage.completion,
            "gen_ai.usage.cache_read.input_tokens": usage.cached or None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
            "lockgate.usage_estimated": usage.estimated or None,
            "mlflow.chat.tokenUsage": _json(
                input_tokens=usage.prompt,
                output_tokens=usage.completion,
                total_tokens=usage.prompt + usage.completion,
                **({"cache_read_input_tokens": usage.cached} if usage.cached else {}),
                **({"cache_creation_input_tokens": usage.cache_write} if usage.cache_write else {}),
            ),
        }
        # without a cost MLflow would put one in, by its own list and the model's name
        facts["mlflow.llm.cost"] = _json(total_cost=record.cost / NANO) if record.cost is not None else "{}"
    elif record.cost is not None:
        facts["mlflow.llm.cost"] = _json(total_cost=record.cost / NANO)
    return facts | {f"mlflow.traceTag.{name}": value for name, value in _tags(record).items() if value}


def _tags(record: Record) -> dict[str, str]:
    """What MLflow can be searched by."""
    return {
        "mlflow.traceName": f"{record.endpoint} {record.route or record.model}".strip()[:_SHORT],
        "outcome": record.outcome or "",
        "status": str(record.status or ""),
        "error": record.error,
        "endpoint": record.endpoint,
        "route": record.route,
        "provider": record.provider,
        "model": record.upstream_model,
        "cache": record.cache,
        "guard": record.guard,
        "flight": record.flight if record.flight == "followed" else "",
        "attempts": str(len(record.attempts) or ""),
        "fallbacks": str(record.fallbacks or ""),
        "stream": "true" if record.stream else "false",
        "caller": record.caller,
        "owner": record.owner,
        "tags": ",".join(record.tags),
        "unpriced": "true" if record.usage is not None and record.cost is None else "",
        "client_request_id": record.client_request_id,
    }


_PARAMETERS: Mapping[str, str] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "top_k": "gen_ai.request.top_k",
    "n": "gen_ai.request.choice.count",
    "seed": "gen_ai.request.seed",
    "dimensions": "gen_ai.embeddings.dimension.count",
}


def _said(texts: Texts, redact: Redact) -> dict[str, Value | None]:
    """Inputs and outputs."""
    return {"mlflow.spanInputs": asked(texts, redact) or None, "mlflow.spanOutputs": answered(texts, redact) or None}


def _json(**members: float) -> str:
    return msgspec.json.encode(members).decode()


def _attributes(facts: Attributes) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in facts.items() if value is not None]


def _value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=without_nul(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=max(-(2**63), min(value, 2**63 - 1)))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=without_nul(each)) for each in value]))
