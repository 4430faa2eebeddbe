"""Whole answers that are none: always the provider's fault, never ours."""

import pytest
from support.calls import make_call

from adapters.whole import check_whole
from proxy.call import Usage
from proxy.endpoints import CHAT, EMBEDDINGS, Endpoint
from proxy.errors import UpstreamUnavailable
from proxy.response_events import ResponseReader


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, '{"choices":[{"message":{"tool_calls":5}}]}'),
        (CHAT, '{"choices":[{"message":{"tool_calls":true}}]}'),
        (CHAT, '{"choices":[{"message":{"tool_calls":[]}}],"x":1e999}'),
        (EMBEDDINGS, '{"data":[{"embedding":[null]}]}'),
        (EMBEDDINGS, '{"data":[{"embedding":["x"]}]}'),
        (EMBEDDINGS, '{"data":[{"embedding":[1e308]}]}'),
        (EMBEDDINGS, '{"data":[3,{"embedding":[1]}]}'),
    ],
)
def test_an_answer_out_of_shape_is_the_providers_fault(endpoint: Endpoint, body: str) -> None:
    """502 and failover, not a 500."""
    with pytest.raises(UpstreamUnavailable):
        check_whole(body.encode(), 200, make_call(endpoint=endpoint, input="x", encoding_format="base64"))


def test_bad_base64_is_the_providers_fault() -> None:
    """When floats were asked for."""
    with pytest.raises(UpstreamUnavailable):
        check_whole(b'{"data":[{"embedding":"!"}]}', 200, make_call(endpoint=EMBEDDINGS, input="x"))


def test_usage_out_of_range_is_no_usage() -> None:
    """The answer stands, and what it used is our own guess."""
    body, usage = check_whole(b'{"choices":[],"usage":{"prompt_tokens":1e999}}', 200, make_call())
    assert (body[:1], usage) == (b"{", Usage(estimated=True))


@pytest.mark.parametrize("response", ["null", "3", "[]", '{"usage":null}', '{"usage":1e999}'])
def test_a_completed_response_without_usage_is_still_complete(response: str) -> None:
    """Whatever stands there instead."""
    reader = ResponseReader()
    reader.take(b"", f'{{"type":"response.completed","sequence_number":0,"response":{response}}}'.encode())
    assert (reader.complete, reader.usage) == (True, None)
