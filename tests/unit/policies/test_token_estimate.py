"""Tokens guessed before anyone has counted."""

import base64
from typing import Any

import pytest
from support.calls import make_call

from policies.token_estimate import estimate
from proxy.endpoints import EMBEDDINGS, MODERATIONS, RESPONSES


def test_a_prompt_is_a_token_for_four_bytes() -> None:
    """Of the whole body, rounded up."""
    call = make_call(messages=[{"role": "user", "content": "word " * 2000}])
    assert estimate(call, 500) == (-(-len(call.body) // 4), 500)


@pytest.mark.parametrize(
    ("members", "answer"),
    [
        ({}, 500),
        ({"max_tokens": 20}, 20),
        ({"max_completion_tokens": 30}, 30),
        ({"max_tokens": 20, "max_completion_tokens": 30}, 30),
        ({"max_tokens": 20, "n": 3}, 60),
        ({"n": 3}, 1500),
        ({"max_tokens": None}, 500),
        ({"max_tokens": "20"}, 500),
        ({"max_tokens": -5}, 500),
        ({"max_tokens": True}, 500),
        ({"max_tokens": 10**300}, 100_000_000),
        ({"n": 0}, 500),
    ],
)
def test_an_answer_is_what_the_call_allows(members: dict[str, Any], answer: int) -> None:
    """Each of its names; what is no count counts as absent, and none is too large to handle."""
    assert estimate(make_call(**members), 500)[1] == answer


def test_what_has_no_answer_in_tokens_costs_its_prompt() -> None:
    """Embeddings and moderations."""
    for endpoint in (EMBEDDINGS, MODERATIONS):
        assert estimate(make_call(endpoint=endpoint, input="x" * 400), 500)[1] == 0
    assert estimate(make_call(endpoint=RESPONSES, input="x", max_output_tokens=7), 500)[1] == 7


def test_an_image_in_the_body_counts_as_an_image() -> None:
    """Not as half a million tokens of text."""
    data = base64.b64encode(bytes(1_000_000)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    one = make_call(messages=[{"role": "user", "content": [image]}])
    two = make_call(messages=[{"role": "user", "content": [image, image]}])
    assert 1000 < estimate(one, 0)[0] < 1100
    assert 2000 < estimate(two, 0)[0] < 2200


def test_a_torn_image_does_not_run_away() -> None:
    """A body that ends inside of one."""
    call = make_call().replace(body=b'{"x": ";base64,AAAA')
    assert estimate(call, 0)[0] == 5
