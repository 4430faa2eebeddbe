import json
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from adapters.otlp import encode
from proxy.call import Attempt, Charge, Record, Usage, Verdict
from proxy.segments import Stored, Texts

ID = "0123456789abcdef0123456789abcdef"


def spans_of(record: Record, texts: Texts | None = None) -> list[Span]:
    request = encode([Stored(1, record, texts.encode() if texts else b"")], str, {"service.instance.id": "i"})
    resource = {each.key: each.value.string_value for each in request.resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["service.instance.id"]) == ("lockgate", "i")
    return list(request.resource_spans[0].scope_spans[0].spans)


def attributes(span: Span) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {each.key: plain(each.value) for each in span.attributes}


def seconds(span: Span) -> tuple[float, float]:
    return span.start_time_unix_nano / 1e9 - 1000, span.end_time_unix_nano / 1e9 - 1000


def full() -> Record:
    return Record(
        id=ID,
        endpoint="chat",
        started=1000.0,
        client_request_id="theirs",
        caller="key-1",
        owner="team",
        user="ann",
        session="s-1",
        tags=("a", "b"),
        queued=0.125,
        model="gpt-4o-primary",
        route="gpt-4o-primary",
        provider="groq",
        upstream_model="kimi",
        stream=True,
        attempts=[
            Attempt("openai", "gpt-4o", "openai/gpt-4o", 503, "status", 0.0, 0.5),
            Attempt("groq", "kimi", "groq/kimi", 200, "ok", 0.25, 1.0),
        ],
        fallbacks=1,
        changed=["temperature"],
        charges=(Charge("key-1", "day", 900, 2_000_000_000),),
        cache="miss",
        similarity=0.5,
        candidates=[("entry", 0.5, "too far")],
        guard="flag",
        guards=[Verdict("injection", "flag", where="messages[0].content", score=0.75, reasons=("rule",))],
        usage=Usage(10, 20, cached=4, reasoning=5),
        cost=1_500_000_000,
        status=200,
        outcome="complete",
        first_content=2.0,
        upstream=1.75,
        duration=4.0,
        events=7,
    )


def test_a_call_is_one_trace_under_its_own_id() -> None:
    """A root, a span for what each policy did and one for each attempt, with times that fit into each other."""
    root, *children = spans_of(full())
    assert root.trace_id.hex() == ID
    assert {span.trace_id for span in children} == {root.trace_id}
    assert {span.parent_span_id for span in children} == {root.span_id}
    assert len({span.span_id for span in [root, *children]}) == 1 + len(children)
    assert {span.name: seconds(span) for span in [root, *children]} == {
        "chat gpt-4o-primary": (0.0, 4.0),
        "queue": (0.0, 0.125),
        "parameters": (0.125, 0.125),
        "budget": (0.125, 0.125),
        "guard injection": (0.125, 0.125),
        "cache": (0.125, 0.125),
        "attempt openai gpt-4o": (0.25, 0.75),
        "attempt groq kimi": (1.0, 2.0),
    }
    assert [(event.name, event.time_unix_nano) for event in root.events] == [("first content", 1002 * 10**9)]


def test_what_is_sent_again_is_the_same() -> None:
    """Resending changes nothing."""
    assert spans_of(full()) == spans_of(full())


def test_the_root_says_all_that_mlflow_and_the_conventions_have_names_for() -> None:
    """Tokens, cost, model, provider, session, user and tags."""
    root = attributes(spans_of(full())[0])
    assert json.loads(root.pop("mlflow.chat.tokenUsage")) == {
        "input_tokens": 10,
        "output_tokens": 20,
        "total_tokens": 30,
        "cache_read_input_tokens": 4,
    }
    assert json.loads(root.pop("mlflow.llm.cost")) == {"total_cost": 1.5}
    assert root == {
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.llm.model": "kimi",
        "mlflow.llm.provider": "groq",
        "mlflow.message.format": "openai",
        "session.id": "s-1",
        "user.id": "ann",
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "s-1",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "gpt-4o-primary",
        "gen_ai.response.model": "kimi",
        "http.response.status_code": 200,
        "lockgate.first_content_seconds": 2.0,
        "lockgate.upstream_seconds": 1.75,
        "lockgate.events": 7,
        "lockgate.changed": ["temperature"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "mlflow.traceTag.mlflow.traceName": "chat gpt-4o-primary",
        "mlflow.traceTag.outcome": "complete",
        "mlflow.traceTag.status": "200",
        "mlflow.traceTag.endpoint": "chat",
        "mlflow.traceTag.route": "gpt-4o-primary",
        "mlflow.traceTag.provider": "groq",
        "mlflow.traceTag.model": "kimi",
        "mlflow.traceTag.cache": "miss",
        "mlflow.traceTag.guard": "flag",
        "mlflow.traceTag.attempts": "2",
        "mlflow.traceTag.fallbacks": "1",
        "mlflow.traceTag.stream": "true",
        "mlflow.traceTag.caller": "key-1",
        "mlflow.traceTag.owner": "team",
        "mlflow.traceTag.tags": "a,b",
        "mlflow.traceTag.client_request_id": "theirs",
    }


def test_attempts_and_guards_say_how_they_went() -> None:
    """A failed attempt is an error of its own, the call it was part of is not."""
    spans = {span.name: span for span in spans_of(full())}
    failed, good = attributes(spans["attempt openai gpt-4o"]), attributes(spans["attempt groq kimi"])
    assert (failed["error.type"], failed["http.response.status_code"], failed["lockgate.attempt"]) == ("status", 503, 1)
    assert (good["lockgate.wait_seconds"], "error.type" in good) == (0.25, False)
    assert spans["attempt openai gpt-4o"].status.code == Status.STATUS_CODE_ERROR
    assert spans["chat gpt-4o-primary"].status.code == Status.STATUS_CODE_OK
    guard = attributes(spans["guard injection"])
    assert (guard["lockgate.guard.action"], guard["lockgate.guard.score"]) == ("flag", 0.75)
    assert attributes(spans["parameters"])["lockgate.changed"] == ["temperature"]
    budget = attributes(spans["budget"])
    assert (budget["lockgate.budget.accounts"], budget["lockgate.budget.reserved_usd"]) == (["key-1 day"], 2.0)
    assert attributes(spans["cache"])["lockgate.cache.candidates"] == ["entry 0.5000 too far"]


def test_an_error_is_an_error_and_a_departure_or_a_block_is_not() -> None:
    """Nobody's service failed when a client left or a guard did its work."""

    def status_of(outcome: str) -> int:
        record = Record(id=ID, endpoint="chat", started=1000.0, outcome=outcome, error="e")  # type: ignore[arg-type]
        return spans_of(record)[0].status.code

    bad, good = Status.STATUS_CODE_ERROR, Status.STATUS_CODE_OK
    assert [status_of(each) for each in ("error", "upstream_interrupted")] == [bad, bad]
    assert [status_of(each) for each in ("complete", "client_disconnect", "guard_blocked")] == [good, good, good]


def test_a_call_without_a_price_costs_nothing_that_mlflow_made_up() -> None:
    """Its own list of prices would be used where nothing is said."""
    record = Record(id=ID, endpoint="chat", started=1000.0, usage=Usage(1, 1), upstream_model="gpt-4o")
    root = attributes(spans_of(record)[0])
    assert (root["mlflow.llm.cost"], root["mlflow.traceTag.unpriced"]) == ("{}", "true")


def test_parameters_are_told_without_texts_too() -> None:
    """Under OpenTelemetry's names."""
    record = full()
    record.parameters = {"temperature": 0.5, "max_tokens": 5, "seed": 2**64}
    root = attributes(spans_of(record)[0])
    assert (root["gen_ai.request.temperature"], root["gen_ai.request.max_tokens"]) == (0.5, 5)
    assert "gen_ai.request.top_p" not in root


def test_texts_become_inputs_and_outputs() -> None:
    """Only when they were kept."""
    texts = Texts("full", b'{"model":"m","temperature":0.5,"max_tokens":5,"messages":[]}', False, [b'{"choices":[]}'])
    root = attributes(spans_of(full(), texts)[0])
    assert json.loads(root["mlflow.spanInputs"])["messages"] == []
    assert json.loads(root["mlflow.spanOutputs"]) == {"choices": []}
    assert "mlflow.spanInputs" not in attributes(spans_of(full())[0])


def test_a_bare_record_is_a_trace_too() -> None:
    """A call refused before anything was known of it."""
    (root,) = spans_of(Record(id=ID, endpoint="chat", started=1000.0, status=401, outcome="error"))
    assert root.name == "chat"
    assert root.end_time_unix_nano == root.start_time_unix_nano


def test_no_nul_of_a_client_stands_in_a_trace() -> None:
    """A server on PostgreSQL would refuse it, and the call would be seen nowhere."""
    record = Record(
        id=ID, endpoint="chat", started=1000.0, model="m\x00", user="a\x00b", tags=("\x00",), changed=["x\x00"]
    )
    texts = Texts("full", b'{"messages":["\\u0000"]}', False, [b"\x00 no JSON"])
    spans = spans_of(record, texts)
    root = attributes(spans[0])
    assert spans[0].name == "chat m\ufffd"
    assert (root["user.id"], root["mlflow.traceTag.tags"], root["lockgate.changed"]) == (
        "a\ufffdb",
        "\ufffd",
        ["x\ufffd"],
    )
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ('{"messages":["\ufffd"]}', "\ufffd no JSON")
