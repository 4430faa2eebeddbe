"""One prompt in, one text out."""

import gzip
import json
from typing import Any

import pytest
from support.calls import Provider, answers, text_of

from policies.read import ReadBody
from policies.short_form import ShortForm, as_chat, in_short
from proxy.call import Call, Record
from proxy.chain import chain
from proxy.deployments import Deployment, Route
from proxy.endpoints import CHAT
from proxy.errors import BadRequest
from proxy.paths import GENERATE, find_target
from proxy.reply import Reply
from proxy.router import Router


def record(cache: str = "") -> Record:
    return Record(id="r1", endpoint="generate", started=0.0, cache=cache, provider="p")


def completion(message: dict[str, Any]) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "x", "model": "m-1", "choices": [choice], "usage": {"total_tokens": 7}}).encode()


async def generate(body: bytes, answer: bytes, **headers: str) -> tuple[Call, dict[str, Any]]:
    """The chat call that others see, and what the client gets."""
    seen: list[Call] = []

    async def innermost(call: Call) -> Reply:
        seen.append(call)
        call.record.provider = "p"
        return Reply.whole(answer, headers={"x-lockgate-guard": "flag"})

    async def read(limit: int) -> bytes:
        assert len(body) <= limit
        return body

    deployment = Deployment(id="p/m", provider_name="p", model="m", provider=Provider(answers))
    reader = ReadBody(Router([Route(name="*", deployments=(deployment,))]), limit=10_000, in_flight=10_000)
    call = Call(
        id="r1",
        endpoint=GENERATE,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        record=record(),
        read_body=read,
    )
    reply = await chain([ShortForm(), reader], innermost)(call)
    assert reply.headers == {"x-lockgate-guard": "flag"}
    return seen[0], json.loads(await text_of(reply))


async def test_a_prompt_becomes_a_chat_call_and_its_answer_a_text() -> None:
    """Everything else passes as it is, known or not."""
    body = b'{"model":"gpt","prompt":"S\\u00e4y \\"hi\\"","temperature":0.70,"max_tokens":5,"new":{"a":1}}'
    call, short = await generate(body, completion({"role": "assistant", "content": "hi"}))
    assert call.endpoint is CHAT
    assert {name: bytes(raw) for name, raw in call.head.members.items()} == {
        "model": b'"gpt"',
        "temperature": b"0.70",
        "max_tokens": b"5",
        "new": b'{"a":1}',
        "messages": b'[{"role":"user","content":"S\\u00e4y \\"hi\\""}]',
    }
    assert short == {
        "response": "hi",
        "model": "m-1",
        "usage": {"total_tokens": 7},
        "cached": False,
        "cache_type": None,
        "finish_reason": "stop",
        "provider": "p",
        "request_id": "r1",
    }


async def test_a_compressed_body_is_read_as_everywhere() -> None:
    """Decoded before it is translated."""
    call, _ = await generate(
        gzip.compress(b'{"model":"m","prompt":"x"}'), completion({"content": "y"}), content_encoding="gzip"
    )
    assert bytes(call.head.members["messages"]) == b'[{"role":"user","content":"x"}]'


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"model":"m"}', "prompt", "missing_required_parameter"),
        (b'{"model":"m","prompt":["a","b"]}', "prompt", "invalid_type"),
        (b'{"model":"m","prompt":null}', "prompt", "invalid_type"),
        (b'{"model":"m","prompt":"x","messages":[]}', "messages", "unsupported_parameter"),
        (b'{"model":"m","prompt":"x","stream":true}', "stream", "unsupported_parameter"),
        (b'{"prompt":"x"}', "model", "missing_required_parameter"),
        (b'{"prompt":"x","model":7}', "model", "invalid_type"),
        (b"[]", None, "invalid_type"),
        (b"prompt=x", None, "invalid_json"),
    ],
)
async def test_what_is_no_short_form_is_refused_by_name(body: bytes, param: str | None, code: str) -> None:
    """In OpenAI's shape, with `param`."""
    with pytest.raises(BadRequest) as caught:
        await generate(body, b"{}")
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize("stream", [b"false", b"null"])
def test_a_stream_that_is_not_asked_for_is_none(stream: bytes) -> None:
    """`stream: false` is what clients send by habit."""
    assert b'"messages"' in as_chat(b'{"model":"m","prompt":"x","stream":%b}' % stream)


@pytest.mark.parametrize(
    ("cache", "cached", "kind"),
    [("hit-exact", True, "exact"), ("hit-semantic", True, "semantic"), ("miss", False, None), ("bypass", False, None)],
)
def test_a_cache_hit_is_said_to_be_one(cache: str, cached: bool, kind: str | None) -> None:
    """And which."""
    short = json.loads(in_short(completion({"content": "x"}), record(cache)))
    assert (short["cached"], short["cache_type"]) == (cached, kind)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": None, "tool_calls": []}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": ""}, ""),
    ],
)
def test_an_answer_without_a_text_is_still_one(message: dict[str, Any], text: str) -> None:
    """Refusals, tools, parts."""
    assert json.loads(in_short(completion(message), record()))["response"] == text


def test_an_answer_without_choices_is_empty() -> None:
    """The provider checked that the list is there, not that it holds anything."""
    assert json.loads(in_short(b'{"choices": []}', record()))["response"] == ""


def test_it_has_one_path() -> None:
    """And takes POST only."""
    target = find_target(b"/llm/generate")
    assert target is not None
    assert (target.endpoint, target.methods) == (GENERATE, ("POST",))
