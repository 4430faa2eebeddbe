"""One adapter, many providers: what each is sent."""

from collections.abc import Mapping

import msgspec
import pytest
from support.calls import make_call, text_of

from adapters.openai import OpenAIProvider, OpenAISettings
from adapters.transport import Answer, Opened, Request
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.endpoints import RESPONSES
from proxy.errors import BadRequest, UpstreamRefused

WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
STREAM = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
REFUSED = (
    b'{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error"}}'
)


class Body:
    """An opened answer out of memory."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream" if status == 200 else "application/json"}
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        pass


class Recorder:
    """A transport that keeps what it is asked to send; refuses `stream_options` if told to."""

    def __init__(self, *, refuses_options: bool = False) -> None:
        self.requests: list[Request] = []
        self._refuses = refuses_options

    async def send(self, request: Request) -> Answer:
        self.requests.append(request)
        return Answer(200, {"content-type": "application/json"}, WHOLE)

    async def stream(self, request: Request) -> Opened:
        self.requests.append(request)
        refused = self._refuses and b"stream_options" in request.body
        return Body(400, REFUSED) if refused else Body(200, STREAM)

    async def aclose(self) -> None:
        pass


async def ask(settings: OpenAISettings, call: Call, transport: Recorder, model: str = "m") -> None:
    provider = OpenAIProvider(settings, transport, lambda: 0.0)
    await text_of(await provider(call, Deployment(id="d", provider_name="p", model=model, provider=provider)))


async def test_a_provider_gets_its_key_and_headers_and_nothing_else() -> None:
    """Of its own configuration."""
    transport = Recorder()
    settings = OpenAISettings("p", "http://x/v1/", api_key="sk", headers={"OpenAI-Organization": "org"})
    await ask(settings, make_call(headers={"authorization": "Bearer client"}), transport)
    sent = transport.requests[0]
    assert sent.url == "http://x/v1/chat/completions"
    assert sent.headers == {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer sk",
        "openai-organization": "org",
    }


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("gpt-4o", "gpt-4o"),
        ("../../admin", "..%2F..%2Fadmin"),
        ("a?b#c", "a%3Fb%23c"),
        ("a\r\nb", "a%0D%0Ab"),
        ("é", "%C3%A9"),
    ],
)
async def test_azure_has_the_model_in_the_path_and_it_cannot_leave_its_segment(model: str, segment: str) -> None:
    """A client may have named it, where a route is a pattern."""
    transport = Recorder()
    settings = OpenAISettings("p", "https://x.example", api_key="sk", api_version="2024-10-21")
    await ask(settings, make_call(), transport, model)
    sent = transport.requests[0]
    assert sent.url == f"https://x.example/openai/deployments/{segment}/chat/completions?api-version=2024-10-21"
    assert sent.headers["api-key"] == "sk"
    assert "authorization" not in sent.headers


async def test_a_server_that_refuses_stream_options_is_asked_without_and_remembered() -> None:
    """The client notices nothing."""
    transport = Recorder(refuses_options=True)
    provider = OpenAIProvider(OpenAISettings("p", "http://x"), transport, lambda: 0.0)
    deployment = Deployment(id="d", provider_name="p", model="m", provider=provider)
    for _ in range(2):
        assert b"[DONE]" in await text_of(await provider(make_call(stream=True), deployment))
    assert [b"stream_options" in request.body for request in transport.requests] == [True, False, False]


async def test_what_the_client_asked_for_itself_is_refused_to_it() -> None:
    """Its own `stream_options` are not taken out behind its back."""
    transport = Recorder(refuses_options=True)
    call = make_call(stream=True, stream_options={"include_usage": True})
    with pytest.raises(UpstreamRefused) as caught:
        await ask(OpenAISettings("p", "http://x"), call, transport)
    assert caught.value.body() == REFUSED


async def test_usage_is_not_asked_for_where_configured_so() -> None:
    """`usage: omit`."""
    transport = Recorder()
    await ask(OpenAISettings("p", "http://x", usage="omit"), make_call(stream=True), transport)
    assert "stream_options" not in msgspec.json.decode(transport.requests[0].body)


async def test_a_provider_without_responses_says_so_and_names_the_route() -> None:
    """A clear error instead of a 404 from afar."""
    with pytest.raises(BadRequest) as caught:
        await ask(
            OpenAISettings("p", "http://x", responses=False), make_call(endpoint=RESPONSES, input="x"), Recorder()
        )
    assert "'m'" in caught.value.message
    assert caught.value.code == "unsupported_endpoint"
