"""What the edge does with requests, good, odd and hostile, over raw sockets."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import zstandard
from support.http import CHAT, Answered, Connection, chat, head
from support.live import Gateway, gateway, upstream

from adapters.fake_http import Received
from adapters.fake_server import FakeServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 2_000_000
RENAME = {"max_tokens": "max_completion_tokens", "system": "developer"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, FakeServer]]:
    async with (
        upstream() as (fake, base_url),
        gateway(
            tmp_path_factory.mktemp("edge"),
            {
                "server": {"body_limit": LIMIT},
                "cors": {"origins": ["https://app.example.com"]},
                "providers": {"up": {"kind": "openai", "base_url": base_url, "api_key": "sk-up"}},
                "routes": {
                    "*": {"deployments": [{"provider": "up", "model": "*"}]},
                    "renaming": {"deployments": [{"provider": "up", "model": "echo", "rename": RENAME}]},
                },
            },
        ) as gate,
    ):
        yield gate, fake


@pytest_asyncio.fixture(loop_scope="module")
async def wire(live: tuple[Gateway, FakeServer]) -> AsyncIterator[Connection]:
    async with Connection(live[0].url) as connection:
        yield connection


def received(fake: FakeServer) -> Received:
    """The last request as the upstream saw it."""
    assert fake.stats.last is not None
    return fake.stats.last


def assert_error(answer: Answered, status: int, code: str | None, param: str | None = None) -> None:
    """An error in OpenAI's shape, with an id."""
    assert answer.status == status, answer.body
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert answer.headers["content-type"] == "application/json"
    if code != "invalid_http":
        assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_type", None),
        (b'"text"', "invalid_type", None),
        (b'{"model":"m","messages":[],"x":NaN}', "invalid_json", None),
        (b'{"model":"m","messages":[],"x":"\xff"}', "invalid_json", None),
        (b'{"model":"m","messages":[],"x":"\\ud800"}', "invalid_json", None),
        (b'{"model":"m","messages":[]} x', "invalid_json", None),
        (b'\xef\xbb\xbf{"model":"m","messages":[]}', "invalid_json", None),
        (b'{"model":"m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "invalid_json", None),
        (b'{"messages":[]}', "missing_required_parameter", "model"),
        (b'{"model":"m"}', "missing_required_parameter", "messages"),
        (b'{"model":5,"messages":[]}', "invalid_type", "model"),
        (b'{"model":null,"messages":[]}', "invalid_type", "model"),
        (b'{"model":"","messages":[]}', "invalid_type", "model"),
        (b'{"model":"m","messages":"hi"}', "invalid_type", "messages"),
        (b'{"model":"m","messages":[],"stream":"yes"}', "invalid_type", "stream"),
        (b'{"model":"m","messages":[],"stream":true,"stream_options":3}', "invalid_type", "stream_options"),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_400_that_says_why(
    wire: Connection, body: bytes, code: str, param: str | None
) -> None:
    """Never a 500, and the connection goes on."""
    assert_error(await wire.request("POST", CHAT, body), 400, code, param)
    assert (await wire.request("POST", CHAT, chat())).status == 200


async def test_of_two_equal_names_the_last_counts_here_and_upstream(
    live: tuple[Gateway, FakeServer], wire: Connection
) -> None:
    """Nobody is authorised for one model and served another."""
    body = b'{"model":"secret","messages":[{"role":"user","content":"hi"}],"mod\\u0065l":"echo"}'
    assert (await wire.request("POST", CHAT, body)).json["model"] == "echo"
    assert received(live[1]).body.count(b'"model"') == 1


@pytest.mark.parametrize(
    "encode",
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("GZIP", gzip.compress),
        ("identity", bytes),
    ],
    ids=lambda pair: pair[0],
)
async def test_compressed_bodies_are_read(wire: Connection, encode: tuple[str, Any]) -> None:
    """gzip, deflate and zstd, whatever the case."""
    body = encode[1](chat(text="compressed é"))
    answer = await wire.request("POST", CHAT, body, content_encoding=encode[0])
    assert answer.json["choices"][0]["message"]["content"] == "compressed é"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
async def test_a_corrupt_encoding_is_a_400(wire: Connection, encoding: str) -> None:
    """And a truncated one too."""
    assert_error(await wire.request("POST", CHAT, b"nonsense", content_encoding=encoding), 400, "invalid_encoding")
    cut = gzip.compress(chat(text="x" * 500))[:-20]
    assert_error(await wire.request("POST", CHAT, cut, content_encoding="gzip"), 400, "invalid_encoding")


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", gzip.compress(b" " * 50_000_000)),
        ("deflate", zlib.compress(b" " * 50_000_000)),
        ("zstd", zstandard.ZstdCompressor().compress(b" " * 50_000_000)),
    ],
    ids=["gzip", "deflate", "zstd"],
)
async def test_a_bomb_is_a_413(wire: Connection, encoding: str, bomb: bytes) -> None:
    """50 MB in a few kB are not unpacked."""
    assert_error(await wire.request("POST", CHAT, bomb, content_encoding=encoding), 413, "request_too_large")


async def test_an_unknown_encoding_or_type_is_a_415(wire: Connection) -> None:
    """Only what is read here is accepted."""
    assert_error(await wire.request("POST", CHAT, chat(), content_encoding="br"), 415, "unsupported_content_encoding")
    form = await wire.request("POST", CHAT, chat(), content_type="application/x-www-form-urlencoded")
    assert_error(form, 415, "unsupported_content_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "-", "APPLICATION/JSON", "application/vnd.x+json"]
)
async def test_any_spelling_of_json_is_accepted(wire: Connection, content_type: str) -> None:
    """Absent, with a charset, in capitals."""
    assert (await wire.request("POST", CHAT, chat(), content_type=content_type)).status == 200


async def test_too_large_a_body_is_refused_before_it_is_sent(live: tuple[Gateway, FakeServer]) -> None:
    """413 comes while most of the body is still with the client."""
    async with Connection(live[0].url) as wire:
        await wire.send(head("POST", CHAT, b"", content_length=str(10**9)) + b"x" * (LIMIT + 100_000))
        assert_error(await wire.answer(), 413, "request_too_large")


async def test_a_large_body_within_the_limit_passes_unchanged(
    live: tuple[Gateway, FakeServer], wire: Connection
) -> None:
    """1.9 MB of image in base64 reach the upstream."""
    image = "data:image/png;base64," + "A" * 1_900_000
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": image}}]
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": parts}]}).encode()
    assert (await wire.request("POST", CHAT, body)).status == 200
    sent = json.loads(received(live[1]).body)
    assert sent["messages"][0]["content"] == parts


async def test_chunked_bodies_and_expect_are_understood(wire: Connection) -> None:
    """As curl sends large bodies."""
    body = chat()
    await wire.send(head("POST", CHAT, b"", content_length="-", transfer_encoding="chunked", expect="100-continue"))
    status, _ = await wire.answer_head()
    assert status == 100
    for at in range(0, len(body), 7):
        piece = body[at : at + 7]
        await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await wire.send(b"0\r\n\r\n")
    assert (await wire.answer()).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost : localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["nonsense", "length x", "two lengths", "length and chunked", "bad chunk", "space before colon", "huge header"],
)
async def test_bytes_that_are_no_http_get_an_answer_and_no_hang(live: tuple[Gateway, FakeServer], raw: bytes) -> None:
    """400 in shape, or the connection is closed; never a hang and never a second reading of the bytes."""
    async with Connection(live[0].url) as wire:
        await wire.send(raw)
        try:
            answer = await asyncio.wait_for(wire.answer(), 10)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return  # closed, with what we had sent unread
        assert answer.status in (400, 408, 431), answer.body
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "hosts",
    [b"", b"host: localhost\r\nhost: evil.example\r\n", b"host: evil.example\r\n", b"host: localhost@evil.example\r\n"],
)
async def test_a_host_that_is_not_ours_is_refused(live: tuple[Gateway, FakeServer], hosts: bytes) -> None:
    """Missing, doubled and foreign: without authentication a page must not reach us by another name."""
    async with Connection(live[0].url) as wire:
        await wire.send(b"GET /v1/models HTTP/1.1\r\n" + hosts + b"\r\n")
        answer = await wire.answer()
        assert answer.status in (400, 403)
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


async def test_http_1_0_gets_a_whole_answer_and_the_connection_ends(live: tuple[Gateway, FakeServer]) -> None:
    """No chunks for a client that knows none."""
    body = chat()
    async with Connection(live[0].url) as wire:
        await wire.send(
            b"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        raw = await asyncio.wait_for(wire.reader.read(), 10)
        assert b" 200 " in raw.split(b"\r\n", 1)[0]
        assert raw.endswith(b"}")


async def test_one_connection_serves_a_hundred_calls_errors_and_streams_among_them(wire: Connection) -> None:
    """Keep-alive survives everything that is answered."""
    for number in range(100):
        kind = number % 4
        if kind == 0:
            assert (await wire.request("POST", CHAT, chat())).status == 200
        elif kind == 1:
            assert (await wire.request("POST", CHAT, b"{")).status == 400
        elif kind == 2:
            streamed = await wire.request("POST", CHAT, chat(stream=True))
            assert streamed.body.endswith(b"data: [DONE]\n\n")
        else:
            assert (await wire.request("GET", "/v1/models/any")).status == 200


async def test_head_on_models_has_no_body(wire: Connection) -> None:
    """And leaves the connection usable."""
    assert (await wire.request("HEAD", "/v1/models")).status == 200
    assert (await wire.request("GET", "/v1/models")).json["object"] == "list"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/v1/images/generations", 404, "unknown_url"),
        ("GET", "/v1/responses/resp_1", 404, "unknown_url"),
        ("DELETE", "/v1/responses/resp_1", 404, "unknown_url"),
        ("POST", "/v1/files", 404, "unknown_url"),
        ("POST", "/v1/batches", 404, "unknown_url"),
        ("POST", "/v1/audio/speech", 404, "unknown_url"),
        ("GET", "/openai/deployments/x/nothing", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/health/live", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_served_says_so_in_shape(
    wire: Connection, method: str, path: str, status: int, code: str
) -> None:
    """404 and 405 of every route."""
    answer = await wire.request(method, path)
    assert_error(answer, status, code)
    assert (status == 405) == ("allow" in answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/openai/v1/chat/completions",
        "/v1/chat/completions?api-version=1",
    ],
)
async def test_a_path_may_be_written_in_several_ways(wire: Connection, path: str) -> None:
    """With and without /v1, doubled and trailing slashes, Azure's new form."""
    assert (await wire.request("POST", path, chat())).status == 200


@pytest.mark.parametrize("model", ["echo", "vendor/model:free", "a.b"])
async def test_azures_path_names_the_model(wire: Connection, model: str) -> None:
    """The path counts, whatever the body says."""
    for spelled in (model, model.replace("/", "%2F")):
        path = f"/openai/deployments/{spelled}/chat/completions?api-version=2024-10-21"
        assert (await wire.request("POST", path, chat("other"))).json["model"] == model


@pytest.mark.parametrize("spelled", ["a/b:c.d", "a%2Fb%3Ac.d"])
async def test_a_models_name_may_hold_any_character(wire: Connection, spelled: str) -> None:
    """Slash, colon and dot, plain or encoded."""
    assert (await wire.request("GET", f"/v1/models/{spelled}")).json["id"] == "a/b:c.d"


async def test_a_preflight_gets_what_it_asks_for_and_errors_and_streams_carry_the_origin(wire: Connection) -> None:
    """No authentication on OPTIONS; foreign origins get nothing."""
    asked = "authorization,content-type,x-stainless-lang"
    ours = {"origin": "https://app.example.com"}
    preflight = await wire.request(
        "OPTIONS", CHAT, b"", **ours, access_control_request_headers=asked, access_control_request_method="POST"
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == asked
    for body in (b"{", chat(), chat(stream=True)):
        answer = await wire.request("POST", CHAT, body, **ours)
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
    foreign = await wire.request("POST", CHAT, chat(), origin="https://evil.example")
    assert_error(foreign, 403, "forbidden")
    assert "access-control-allow-origin" not in foreign.headers


async def test_accept_decides_nothing(wire: Connection) -> None:
    """The body alone says whether there is a stream."""
    whole = await wire.request("POST", CHAT, chat(), accept="text/event-stream")
    assert whole.headers["content-type"] == "application/json"
    streamed = await wire.request("POST", CHAT, chat(stream=True), accept="application/json")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert (streamed.headers["cache-control"], streamed.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert (await wire.request("POST", CHAT, chat(stream=None))).headers["content-type"] == "application/json"


async def test_nothing_of_the_client_but_its_body_goes_upstream(
    live: tuple[Gateway, FakeServer], wire: Connection
) -> None:
    """Its key, cookies and library's headers stay here; ours is what the provider sees, and never comes back."""
    headers = {"authorization": "Bearer sk-client", "cookie": "a=b", "x_stainless_lang": "python", "x_api_key": "sk-2"}
    answer = await wire.request("POST", CHAT, chat(), **headers)
    sent = received(live[1]).headers
    assert sent["authorization"] == "Bearer sk-up"
    assert not {"cookie", "x-api-key", "x-stainless-lang"} & set(sent)
    assert "sk-up" not in str(answer.headers) + answer.body.decode()


async def test_every_answer_has_an_id_of_its_own(wire: Connection) -> None:
    """Ours, never the client's."""
    ids = {(await wire.request("POST", CHAT, chat(), x_request_id="mine")).headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert "mine" not in ids


@pytest.mark.parametrize("member", ["previous_response_id", "conversation", "prompt"])
async def test_what_is_stored_at_the_provider_is_refused(wire: Connection, member: str) -> None:
    """All callers share one upstream account: its objects are nobody's here."""
    body = json.dumps({"model": "echo", "input": "hi", member: {"id": "x"}}).encode()
    assert_error(await wire.request("POST", "/v1/responses", body), 400, "unsupported_parameter", member)
    body = json.dumps({"model": "echo", "input": "hi", member: None}).encode()
    assert (await wire.request("POST", "/v1/responses", body)).status == 200


async def test_what_goes_on_at_the_provider_after_the_answer_is_refused(wire: Connection) -> None:
    """A response in the background would be fetched later, by an id that is nobody's here."""
    for background in (True, False):
        body = json.dumps({"model": "echo", "input": "hi", "background": background}).encode()
        answer = await wire.request("POST", "/v1/responses", body)
        if background:
            assert_error(answer, 400, "unsupported_parameter", "background")
        else:
            assert answer.status == 200


async def test_references_to_stored_files_are_refused(wire: Connection) -> None:
    """In chat parts and in Responses items."""
    part = {"type": "file", "file": {"file_id": "file-1"}}
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": [part]}]}).encode()
    assert_error(
        await wire.request("POST", CHAT, body), 400, "unsupported_parameter", "messages[0].content[0].file.file_id"
    )
    item = {"type": "item_reference", "id": "msg_1"}
    body = json.dumps({"model": "echo", "input": [item]}).encode()
    assert_error(await wire.request("POST", "/v1/responses", body), 400, "unsupported_parameter", "input[0]")
    text = json.dumps({"model": "echo", "messages": [{"role": "user", "content": 'say "file_id"'}]}).encode()
    assert (await wire.request("POST", CHAT, text)).status == 200


@pytest.mark.parametrize("value", ['""', "[]", "null"])
async def test_an_empty_embedding_input_is_a_400(wire: Connection, value: str) -> None:
    """Never a 200 without data."""
    body = f'{{"model":"echo","input":{value}}}'.encode()
    assert_error(await wire.request("POST", "/v1/embeddings", body), 400, "invalid_value", "input")


async def test_two_hundred_calls_at_once_get_each_their_own_answer(live: tuple[Gateway, FakeServer]) -> None:
    """No cross-talk, streams and whole answers mixed."""

    async def one(number: int) -> None:
        async with Connection(live[0].url) as wire:
            text = f"nonce-{number}"
            answer = await wire.request("POST", CHAT, chat(text=text, stream=number % 2 == 0))
            assert text in answer.body.decode()

    await asyncio.gather(*(one(number) for number in range(200)))


async def test_an_idempotency_key_is_not_heeded(live: tuple[Gateway, FakeServer], wire: Connection) -> None:
    """As documented: two calls under one key are two calls, and the provider is not shown it."""
    for text in ("first", "second"):
        answer = await wire.request("POST", CHAT, chat(text=text), idempotency_key="one")
        assert answer.json["choices"][0]["message"]["content"] == text
        assert "idempotency-key" not in received(live[1]).headers


@pytest.mark.parametrize(
    ("model", "limit", "role"), [("renaming", "max_completion_tokens", "developer"), ("echo", "max_tokens", "system")]
)
async def test_members_are_renamed_where_that_is_configured_and_nowhere_else(
    live: tuple[Gateway, FakeServer], wire: Connection, model: str, limit: str, role: str
) -> None:
    """A model that knows `max_tokens` and `system` by other names gets them under those."""
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": 7}).encode()
    assert (await wire.request("POST", CHAT, body)).status == 200
    sent = json.loads(received(live[1]).body)
    assert (sent["model"], sent[limit], sent["messages"][0]["role"]) == ("echo", 7, role)
    assert len(sent) == 3
