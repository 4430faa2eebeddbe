"""The kernel's small parts: replies, the chain, routers, values, usage, errors, limits, ids."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.calls import Provider, answers, make_call, make_route

from proxy import errors
from proxy.call import Call, Caller, Outcome, Record, Usage
from proxy.chain import Handler, chain
from proxy.cors import Cors
from proxy.deployments import Deployment, Route
from proxy.errors import UnknownModel, retry_headers
from proxy.ids import new_id
from proxy.limits import IdleLimit, Limit
from proxy.paths import find_target
from proxy.reply import Reply
from proxy.router import Router
from proxy.segments import frame_of
from proxy.usage import parse_usage, read_usage
from proxy.values import Duration, Rate, Secret, Size, spell


async def test_a_reply_closes_once_in_order_whatever_a_callback_does(caplog: pytest.LogCaptureFixture) -> None:
    """A failing callback does not keep the others from releasing what they hold."""
    said: list[str] = []
    reply = Reply.whole(b"{}")

    async def note(outcome: Outcome) -> None:
        said.append(outcome)

    async def fail(_outcome: Outcome) -> None:
        raise RuntimeError("bug")

    def note_at_once(outcome: Outcome) -> None:
        said.append(f"at once: {outcome}")

    for callback in (note, fail, note_at_once, note):
        reply.on_close(callback)
    await reply.aclose("complete")
    await reply.aclose("error")
    assert said == ["complete", "at once: complete", "complete"]
    assert "a callback failed" in caplog.text


@pytest.mark.parametrize("with_callback", [True, False])
@pytest.mark.parametrize("outcome", ["complete", "client_disconnect"])
async def test_what_is_only_for_another_end_runs_last_and_then_alone(outcome: Outcome, with_callback: bool) -> None:
    """And nothing need be awaited where nothing is to be done."""
    said: list[str] = []
    reply = Reply.whole(b"{}")
    reply.unless_complete(lambda outcome: said.append(f"otherwise: {outcome}"))
    if with_callback:
        reply.on_close(said.append)
    closing = reply.over(outcome)
    assert (closing is None) == (outcome == "complete" and not with_callback)
    if closing is not None:
        await closing
    await reply.aclose("error")
    expected = ([outcome] if with_callback else []) + ([] if outcome == "complete" else [f"otherwise: {outcome}"])
    assert (said, reply.outcome) == (expected, outcome)


async def test_items_pass_through_wrappers_in_order() -> None:
    """The last wrapper is outermost."""

    async def louder(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item + b"!"

    async def doubled(items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for item in items:
            yield item + item

    reply = Reply.whole(b"a").through(louder).through(doubled)
    assert [item async for item in reply.items] == [b"a!a!"]


async def test_the_first_policy_is_outermost() -> None:
    """And an empty chain is the handler itself."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __call__(self, call: Call, next: Handler, /) -> Reply:  # noqa: A002
            order.append(self.name)
            return await next(call)

    async def innermost(_call: Call) -> Reply:
        order.append("innermost")
        return Reply.whole(b"")

    await chain([Named("first"), Named("second")], innermost)(make_call())
    assert order == ["first", "second", "innermost"]


def route(name: str, model: str = "*") -> Route:
    deployment = Deployment(id=f"p/{model}", provider_name="p", model=model, provider=Provider(answers))
    return Route(name=name, deployments=(deployment,))


@pytest.mark.parametrize(
    ("model", "found", "upstream"),
    [
        ("gpt-4o", "gpt-4o", "gpt-4o-2024"),
        ("openai/gpt-4o", "openai/*", "gpt-4o"),
        ("openai/mini/x", "openai/mini/*", "x"),
        ("other", "*", "other"),
    ],
)
def test_an_exact_name_comes_before_a_pattern_and_a_longer_before_a_shorter(
    model: str, found: str, upstream: str
) -> None:
    """`*` in the deployment is the matched rest."""
    router = Router([route("*"), route("openai/*"), route("openai/mini/*"), route("gpt-4o", "gpt-4o-2024")])
    assert router.find(model).name == found
    assert router.find(model).deployments[0].model == upstream


def test_an_unknown_model_is_said_so_and_names_are_remembered_within_bounds() -> None:
    """Clients cannot fill the memory with names."""
    with pytest.raises(UnknownModel):
        Router([route("a")]).find("b")
    router = Router([route("*")])
    for number in range(5000):
        router.find(f"m{number}")
    assert len(router._matched) <= 1024
    with pytest.raises(UnknownModel):
        router.find("m" * 501)


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h", 3600), ("1.5h", 5400), ("7d", 604800)]
)
def test_durations(text: str, seconds: float) -> None:
    """As written in the file."""
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-5s", "s", None, 5])
def test_what_is_no_duration_is_refused(text: object) -> None:
    """With a word on what is one."""
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("seconds", "spelt"),
    [(0, "0ms"), (0.0204, "20ms"), (1, "1s"), (1.5, "1.5s"), (59.9999, "60s"), (360, "6m0s"), (3599.7, "1h0m0s")],
)
def test_durations_are_spelt_as_openai_does(seconds: float, spelt: str) -> None:
    assert spell(seconds) == spelt


def test_sizes_and_rates() -> None:
    """Decimal units; a count and a window."""
    assert (Size.parse("64MB"), Size.parse("512kB"), Size.parse(100)) == (64_000_000, 512_000, 100)
    assert Rate.parse("60/minute") == (60, 60)
    for bad in ("0/minute", "60", "60/fortnight"):
        with pytest.raises(ValueError, match="rate"):
            Rate.parse(bad)


def test_a_secret_does_not_show_itself() -> None:
    """Not in a repr, a format, a log line; only where it is asked for."""
    secret = Secret("sk-1")
    assert f"{secret} {secret!r} {secret!s} %s" % secret == "*** *** *** ***"
    assert secret.reveal() == "sk-1"
    assert "sk-1" not in repr({"key": secret})


@pytest.mark.parametrize(
    "value",
    [
        {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
        {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
        {"prompt_tokens": 3.0, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1, "x": None}},
    ],
)
def test_usage_is_read_in_either_naming(value: dict[str, Any]) -> None:
    """And read the same from raw JSON."""
    expected = Usage(prompt=3, completion=2, cached=1)
    assert read_usage(value) == expected
    assert parse_usage(json.dumps(value).encode()) == expected


@pytest.mark.parametrize(
    "value", [{"prompt_tokens": -3}, {"prompt_tokens": "3"}, {"prompt_tokens": True}, {"prompt_tokens": None}]
)
def test_counts_are_never_negative_and_never_guessed(value: dict[str, Any]) -> None:
    """What is no count is 0."""
    assert read_usage(value) == Usage()
    assert parse_usage(json.dumps(value).encode()) == Usage()


@pytest.mark.parametrize("count", [10**20, 1e300, 2**63 - 1])
def test_a_count_beyond_all_measure_still_has_its_record(count: float) -> None:
    """A provider's mistake must cost neither the client the answer nor the operator the record."""
    value = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": -1}}
    usage = parse_usage(json.dumps(value).encode())
    assert usage == read_usage(value) == Usage(10**12, 10**12)
    most = 2 * 10**12 * 10**6  # at a thousand dollars a million tokens
    assert frame_of(Record(id="0" * 32, endpoint="chat", started=1.0, usage=usage, cost=most))


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"3"])
def test_what_is_no_usage_is_none(raw: bytes) -> None:
    """Absent, null, something else."""
    assert parse_usage(raw) is None


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"), [(0.0, "1", "1"), (0.4, "1", "400"), (2.0, "2", "2000"), (2.001, "3", "2001")]
)
def test_retry_headers_agree(seconds: float, whole: str, milliseconds: str) -> None:
    """Whole seconds of at least one; milliseconds exact."""
    assert retry_headers(seconds) == {"retry-after": whole, "retry-after-ms": milliseconds}


def test_a_wait_that_no_sdk_believes_says_not_to_retry() -> None:
    """Over a minute they come back after a second of their own: they are told not to."""
    assert "x-should-retry" not in retry_headers(60.0)
    assert retry_headers(61.0) == {"retry-after": "61", "retry-after-ms": "61000", "x-should-retry": "false"}


def test_every_error_has_four_keys_and_no_status_without_a_meaning() -> None:
    """Code is a text or null."""
    made: list[errors.GatewayError] = [
        errors.BadRequest("m", param="p"),
        errors.Unauthenticated("m"),
        errors.Forbidden("m"),
        errors.UnknownModel("m"),
        errors.RateLimited("m", unit="tokens", headers={}),
        errors.BudgetExceeded("m"),
        errors.InternalError(),
        errors.Overloaded("m"),
        errors.NoDeployment("m", retry_after=3),
        errors.UpstreamLimited("m", retry_after=None, exhausted=True),
        errors.UpstreamUnavailable("m", kind="status"),
        errors.UpstreamInterrupted("m", kind="cut"),
    ]
    for error in made:
        body = json.loads(error.body())["error"]
        assert set(body) == {"message", "type", "param", "code"}
        assert body["code"] is None or isinstance(body["code"], str)
        assert 400 <= error.http_status < 600
    assert json.loads(made[4].body())["error"]["type"] == "tokens"
    assert "quota" not in made[9].body().decode()


async def test_a_limit_ends_a_wait_and_nothing_else() -> None:
    """Its own cancellation becomes TimeoutError; another's stays one."""
    with pytest.raises(TimeoutError), Limit(0.01):
        await asyncio.sleep(5)
    with Limit(5):
        await asyncio.sleep(0)

    async def waits() -> None:
        with Limit(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_idle_limit_counts_each_wait_anew() -> None:
    """Many short waits are no long one; one long wait is."""
    limit = IdleLimit(0.05)
    for _ in range(5):
        with limit:
            await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(5)
    limit.stop()


def test_ids_are_unique_and_in_order_of_time() -> None:
    """32 hexadecimal digits: a trace id."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(len(each) == 32 and int(each, 16) for each in ids)


def test_an_origin_that_is_not_allowed_gets_nothing() -> None:
    """And the answer varies by it."""
    cors = Cors(["https://a.example"])
    assert dict(cors.headers("https://a.example"))[b"access-control-allow-origin"] == b"https://a.example"
    assert cors.headers("https://b.example") == cors.headers(None) == [(b"vary", b"Origin")]


@pytest.mark.parametrize("path", [b"/health/live", b"/", b"/v1", b"/v1/models2", b"/admin/routes", b"/v1/chat"])
def test_what_is_not_openais_is_left_to_others(path: bytes) -> None:
    """The web framework answers it."""
    assert find_target(path) is None


@pytest.mark.parametrize(
    ("models", "model", "may"),
    [
        (("*",), "a", True),
        ((), "a", False),
        (("a",), "a", True),
        (("a",), "ab", False),
        (("a/*",), "a/b", True),
        (("a/*",), "b", False),
    ],
)
def test_a_caller_uses_what_its_list_has(models: tuple[str, ...], model: str, may: bool) -> None:
    """Deny by default; a trailing star is a prefix."""
    assert Caller(id="x", models=models).may_use(model) is may


def test_a_call_is_changed_by_copy() -> None:
    """What the client sent stays."""
    call = make_call(route=make_route(Provider(answers), "a"))
    assert call.replace(peer="x").peer == "x"
    assert call.peer == ""
    with pytest.raises(AttributeError):
        call.peer = "y"  # type: ignore[misc]


async def test_a_recorded_stream_is_its_events_one_by_one_or_all_as_one() -> None:
    """Whoever reads along gets whole events; who sends it on may send it at once."""
    events = [b'data: {"a":1}\n\n', b"event: x\ndata: {}\n\n", b"data: [DONE]\n\n"]
    reply = Reply.recorded(b"".join(events))
    assert reply.at_hand == b"".join(events)
    assert [item async for item in reply.items] == events
