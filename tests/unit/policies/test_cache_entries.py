"""An answer becomes an entry and is the same answer again."""

from typing import Any

import pytest
from support.calls import make_call

from policies.cache_answers import Stored
from policies.cache_entries import entry_for, stored_in, told_of
from proxy.entries import Entry

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}


def entry(meta: dict[str, Any]) -> Entry:
    return Entry(id="0" * 32, partition="p", route="r", fingerprint="f", body=b"{}", created=1, expires_at=9, meta=meta)


@pytest.mark.parametrize("usage", [USAGE, None])
def test_an_entry_holds_the_answer_it_was_made_of(usage: dict[str, Any] | None) -> None:
    stored = Stored("stream", b"{}", usage)
    assert stored_in(entry(told_of(stored))) == stored


@pytest.mark.parametrize("now", [1000.0, 1000.05, 1000.5, 1000.95])
@pytest.mark.parametrize("ttl", [1.0, 1.5, 60.0])
def test_an_answer_is_served_no_longer_than_was_asked(now: float, ttl: float) -> None:
    """And at first it is served; its age is never said to be less than it is."""
    made = entry_for(b"k" * 32, b"{}", call=make_call(), partition="p", now=now, ttl=ttl, meta={})
    assert now < made.expires_at <= now + ttl
    assert made.expires_at > now + ttl - 1
    assert made.created <= now


@pytest.mark.parametrize("usage", ["", [], 7])
def test_a_usage_that_is_none_costs_no_more_than_itself(usage: object) -> None:
    assert stored_in(entry({"shape": "whole", "usage": usage})) == Stored("whole", b"{}", None)
