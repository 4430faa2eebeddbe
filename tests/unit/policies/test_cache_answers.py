"""One entry for both shapes."""

import json
from typing import Any

import pytest

from policies.cache_answers import Stored, as_stream, as_whole, keep
from proxy.call import Usage
from proxy.endpoints import CHAT, COMPLETIONS, Endpoint
from proxy.sse import DONE_ITEM, frame
from proxy.usage import read_usage

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HEAD: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
TOOL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
LOGPROBS: dict[str, Any] = {
    "content": [
        {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []},
        {"token": "!", "logprob": -0.2, "bytes": [33], "top_logprobs": []},
    ],
    "refusal": None,
}


def answer(message: dict[str, Any] | None = None, reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A whole chat answer; `more` are members of the answer, `choice` of its choice."""
    said = {"role": "assistant", "content": "Hi!", "refusal": None, **(message or {})}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": reason, **more.pop("choice", {})}
    return {**HEAD, "choices": [choice], "usage": USAGE, **more}


def events(*deltas: dict[str, Any], reason: str = "stop", **more: Any) -> list[dict[str, Any]]:
    """The chunks of a chat stream."""
    head = {**HEAD, "object": "chat.completion.chunk", **more}
    choices = [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}]
    choices += [{"index": 0, "logprobs": None, "finish_reason": None, "delta": {}, **delta} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason})
    return [{**head, "choices": [choice]} for choice in choices]


def items_of(chunks: list[dict[str, Any]]) -> list[bytes]:
    return [*(frame(json.dumps(chunk).encode()) for chunk in chunks), DONE_ITEM]


def chunks_in(events: bytes | None) -> list[dict[str, Any]]:
    assert events is not None
    assert events.endswith(DONE_ITEM)
    return [json.loads(event[6:]) for event in events.split(b"\n\n")[:-2]]


async def kept(
    given: dict[str, Any] | list[dict[str, Any]],
    *,
    endpoint: Endpoint = CHAT,
    tools: bool = False,
    usage: Usage | None = None,
) -> Stored | None:
    if isinstance(given, dict):
        items = [json.dumps(given).encode()]
        return await keep(endpoint, items, streamed=False, tools=tools, usage=usage)
    return await keep(endpoint, items_of(given), streamed=True, tools=tools, usage=usage)


@pytest.mark.parametrize(
    "given",
    [
        answer(),
        answer({"content": 'é\u2028"\\\n'}),
        answer({"content": None, "refusal": "No."}),
        answer({"reasoning_content": "Let me think."}),
        answer({"content": None, "tool_calls": [TOOL, {**TOOL, "id": "call_2"}]}, "tool_calls"),
        answer({"content": "Calling.", "tool_calls": [TOOL]}, "tool_calls"),
        answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
        answer(choice={"logprobs": LOGPROBS}),
        answer(choice={"native_finish_reason": "STOP"}, system_fingerprint="fp", service_tier="default", seed=2**62),
    ],
    ids=["plain", "escapes", "refusal", "reasoning", "tools", "text and tools", "function", "logprobs", "unknown"],
)
async def test_a_whole_answer_streams_and_comes_back(given: dict[str, Any]) -> None:
    """Whole byte for byte; as a stream; and what keeps that stream makes the same whole answer of it."""
    stored = await kept(given, tools=True)
    assert stored is not None
    assert as_whole(stored) == json.dumps(given).encode()
    chunks = chunks_in(as_stream(CHAT, stored, usage=True))
    again = await kept(chunks, tools=True)
    assert again is not None
    assert json.loads(as_whole(again) or b"") == given


@pytest.mark.parametrize("usage", [True, False], ids=["usage asked", "not asked"])
async def test_a_stream_has_what_clients_look_for(usage: bool) -> None:
    """Role first, then content, then the finish reason, usage last and only if asked for; one id throughout."""
    stored = await kept(answer())
    assert stored is not None
    chunks = chunks_in(as_stream(CHAT, stored, usage=usage))
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Hi!"
    assert [choice["finish_reason"] for choice in choices][-2:] == [None, "stop"]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-1"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    if usage:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"] == USAGE
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
    else:
        assert all("usage" not in chunk for chunk in chunks)


async def test_a_stream_is_served_whole() -> None:
    """Pieces of text, of tool arguments and of log probabilities are put together; padding is left out."""
    chunks = events(
        {"delta": {"content": "Hi"}, "logprobs": {"content": LOGPROBS["content"][:1], "refusal": None}},
        {"delta": {"content": "!"}, "logprobs": {"content": LOGPROBS["content"][1:], "refusal": None}},
        {"delta": {"tool_calls": [{"index": 0, **TOOL, "function": {"name": "f", "arguments": ""}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}},
        reason="tool_calls",
    )
    for number, chunk in enumerate(chunks):
        chunk["obfuscation"] = "x" * number
    stored = await kept(chunks, tools=True, usage=Usage(prompt=3, completion=2))
    assert stored is not None
    assert json.loads(as_whole(stored) or b"") == answer(
        {"tool_calls": [TOOL]}, "tool_calls", choice={"logprobs": LOGPROBS}
    )


@pytest.mark.parametrize(
    "chunks",
    [
        events({"delta": {"content": "Hi!", "audio": {"id": "a", "data": "AAAA"}}}),
        events({"delta": {"content": "Hi!"}, "content_filter_results": {"hate": {"filtered": False}}}),
        events({"delta": {"content": "Hi!"}}, citations=["https://example.com"]),
        [{**events()[0], "choices": [], "prompt_filter_results": []}, *events({"delta": {"content": "Hi!"}})],
    ],
    ids=["audio", "filter results", "citations", "a chunk without a choice"],
)
async def test_a_stream_that_has_no_whole_form_is_only_streamed(chunks: list[dict[str, Any]]) -> None:
    """Chunk for chunk as it came."""
    stored = await kept(chunks, usage=Usage(prompt=3, completion=2))
    assert stored is not None
    assert as_whole(stored) is None
    assert chunks_in(as_stream(CHAT, stored, usage=False)) == chunks
    with_usage = chunks_in(as_stream(CHAT, stored, usage=True))
    assert with_usage[-1]["usage"] == USAGE
    assert [{**chunk, "usage": None} for chunk in chunks] == with_usage[:-1]


@pytest.mark.parametrize(
    "given",
    [
        answer({"audio": {"id": "a", "data": "AAAA"}}),
        answer({"annotations": [{"type": "url_citation"}]}),
        answer(citations=["https://example.com"]),
        answer(choice={"content_filter_results": {"hate": {"filtered": False}}}),
    ],
    ids=["audio", "annotations", "citations", "filter results"],
)
async def test_a_whole_answer_that_has_no_stream_is_only_served_whole(given: dict[str, Any]) -> None:
    """Rather a miss than a loss."""
    stored = await kept(given)
    assert stored is not None
    assert as_whole(stored) == json.dumps(given).encode()
    assert as_stream(CHAT, stored, usage=False) is None


async def test_what_contradicts_itself_is_not_put_together() -> None:
    """Two values of one unknown member in a stream: no whole answer could hold both."""
    chunks = events({"delta": {"content": "Hi!"}})
    chunks[0]["provider"], chunks[1]["provider"] = "one", "two"
    stored = await kept(chunks)
    assert stored is not None
    assert as_whole(stored) is None


@pytest.mark.parametrize(
    ("usage", "details"),
    [
        (Usage(9, 7), {}),
        (
            Usage(9, 7, cached=2, cache_write=3, reasoning=4, audio=6, audio_output=5),
            {
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 5},
            },
        ),
        (Usage(9, 7, audio=5, audio_output=5), {"completion_tokens_details": {"audio_tokens": 5}}),
        (Usage(9, 7, audio=5), {"prompt_tokens_details": {"audio_tokens": 5}}),
    ],
)
async def test_a_stream_is_kept_with_every_count_that_is_known(usage: Usage, details: dict[str, Any]) -> None:
    """Though its client had not asked to see them: read again, the usage is the same."""
    stored = await kept(events({"delta": {"content": "Hi!"}}), usage=usage)
    assert stored is not None
    assert stored.usage == {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16, **details}
    assert read_usage(stored.usage) == usage


async def test_usage_that_nobody_counted_is_not_made_up() -> None:
    """A client that asks for it is not served; others are."""
    stored = await kept(events({"delta": {"content": "Hi!"}}), usage=Usage(prompt=3, estimated=True))
    assert stored is not None
    assert as_stream(CHAT, stored, usage=True) is None
    assert as_stream(CHAT, stored, usage=False) is not None
    assert "usage" not in json.loads(as_whole(stored) or b"")


@pytest.mark.parametrize(
    "given",
    [
        answer(reason="length"),
        answer(reason="content_filter"),
        answer({"tool_calls": [TOOL]}, "tool_calls"),
        answer({"tool_calls": [TOOL]}, "stop"),
        answer({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
        {**answer(), "choices": answer()["choices"] * 2},
        {**answer(), "choices": []},
        {"error": {"message": "no"}},
        events({"delta": {"content": "Hi"}}, reason="length"),
        events({"delta": {"content": "Hi"}}, reason="content_filter"),
        events({"delta": {"tool_calls": [{"index": 0, **TOOL}]}}, reason="tool_calls"),
        events({"delta": {"content": "Hi"}}, reason="length", citations=["x"]),
        [
            *events({"delta": {"content": "Hi"}}),
            {**events()[0], "choices": [{**events()[0]["choices"][0], "index": 1}]},
        ],
        [],
    ],
    ids=[
        "length",
        "content filter",
        "tools",
        "tools that stop",
        "function",
        "two choices",
        "no choice",
        "an error",
        "streamed length",
        "streamed content filter",
        "streamed tools",
        "streamed length, no whole form",
        "two streamed choices",
        "an empty stream",
    ],
)
async def test_what_must_not_be_kept_is_not(given: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Cut, filtered, calling tools without being asked to keep those, more or less than one choice."""
    assert await kept(given) is None


async def test_a_stream_without_its_end_is_not_kept() -> None:
    """However complete it looks."""
    items = items_of(events({"delta": {"content": "Hi"}}))[:-1]
    assert await keep(CHAT, items, streamed=True, tools=False, usage=None) is None


@pytest.mark.parametrize("streamed", [True, False])
async def test_legacy_completions_have_both_shapes_too(streamed: bool) -> None:
    """Text and log probabilities, either way."""
    logprobs: dict[str, Any] = {
        "tokens": ["Hi", "!"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": None,
        "text_offset": [0, 2],
    }
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    choice = {"index": 0, "text": "Hi!", "logprobs": logprobs, "finish_reason": "stop"}
    whole = {**head, "choices": [choice], "usage": USAGE}
    pieces = [("Hi", 0, 1), ("!", 1, 2)]
    chunks: list[dict[str, Any]] = [
        {
            **head,
            "choices": [
                {
                    "index": 0,
                    "text": text,
                    "logprobs": {name: value and value[start:end] for name, value in logprobs.items()},
                    "finish_reason": None,
                }
            ],
        }
        for text, start, end in pieces
    ]
    chunks.append({**head, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]})
    chunks.append({**head, "choices": [], "usage": USAGE})
    stored = await kept(chunks if streamed else whole, endpoint=COMPLETIONS)
    assert stored is not None
    assert json.loads(as_whole(stored) or b"") == whole
    again = await kept(chunks_in(as_stream(COMPLETIONS, stored, usage=True)), endpoint=COMPLETIONS)
    assert again is not None
    assert json.loads(as_whole(again) or b"") == whole


async def test_a_long_stream_lets_others_run() -> None:
    """Two thousand events are put together in slices."""
    stored = await kept(events(*({"delta": {"content": "x"}} for _ in range(2000))))
    assert stored is not None
    assert json.loads(as_whole(stored) or b"")["choices"][0]["message"]["content"] == "x" * 2000
