"""What stands in a record as its cost: what was answered, and nothing that was not."""

import json

import pytest
from support.calls import Provider, make_call, make_route

from policies.attempt import SendOnce
from proxy.call import Attempt, Call, Outcome, Record, Usage
from proxy.costs import Costs
from proxy.deployments import Deployment
from proxy.guess import tokens_asked, tokens_of
from proxy.money import Price, Rates
from proxy.reply import Reply

PRICES = {"m": Price(Rates(1_000, 2_000))}


def price_of(_provider: str, model: str, _route: str) -> Price | None:
    return PRICES.get(model)


def sealed(**facts: object) -> Record:
    record = Record(id="1", endpoint="chat", started=0.0, provider="p", upstream_model="m", prompt=40)
    for name, value in facts.items():
        setattr(record, name, value)
    Costs(price_of).seal(make_call(), record)
    return record


def tried(kind: str = "ok") -> list[Attempt]:
    return [Attempt("p", "m", kind=kind)]


def test_an_answer_costs_its_usage() -> None:
    assert sealed(attempts=tried(), usage=Usage(10, 5)).cost == 20


def test_a_model_without_a_price_has_no_cost() -> None:
    """Which is not a cost of nothing."""
    assert sealed(attempts=tried(), usage=Usage(10, 5), upstream_model="unknown").cost is None


def test_a_call_that_failed_everywhere_costs_nothing_and_one_never_tried_has_none() -> None:
    assert sealed(attempts=tried("status"), outcome="error").cost == 0
    assert sealed(outcome="error").cost is None


@pytest.mark.parametrize(
    ("outcome", "kind", "cost"), [("client_disconnect", "cancelled", 40), ("client_disconnect", "status", 0)]
)
def test_a_client_that_leaves_a_working_provider_pays_for_what_it_asked(outcome: Outcome, kind: str, cost: int) -> None:
    """Estimated; between two attempts nobody works."""
    record = sealed(attempts=tried(kind), outcome=outcome)
    assert record.cost == cost
    assert (record.usage is not None and record.usage.estimated) == bool(cost)


@pytest.mark.parametrize("facts", [{"cache": "hit-exact"}, {"cache": "hit-semantic"}, {"flight": "followed"}])
def test_what_another_call_paid_for_costs_nothing_and_says_what_it_saved(facts: dict[str, object]) -> None:
    record = sealed(usage=Usage(10, 5), **facts)
    assert (record.cost, record.saved) == (0, 20)


def test_a_hit_that_knows_what_it_saved_is_believed() -> None:
    assert sealed(cache="hit-exact", usage=Usage(10, 5), saved=7).saved == 7


def test_an_amended_record_is_priced_anew() -> None:
    """By what is known then."""
    record = sealed(attempts=tried("cancelled"), outcome="client_disconnect")
    record.usage = Usage(10, 5)
    Costs(price_of).seal(make_call(), record)
    assert record.cost == 20


def test_tokens_are_guessed_by_bytes_and_files_apart() -> None:
    """Four bytes a token; a picture is not the length of its base64."""
    assert (tokens_of(0), tokens_of(1), tokens_of(4), tokens_of(5)) == (0, 1, 1, 2)
    text = b'{"messages":[{"content":[{"image_url":{"url":"data:image/png;base64,' + b"A" * 40_000 + b'"}}]}]}'
    assert 1500 < tokens_asked(text) < 1600
    sound = b'{"input_audio":{"data":"' + b"A" * 4_000_000 + b'","format":"wav"}}'
    assert 8000 < tokens_asked(sound) < 8100
    assert tokens_asked(b'{"x": "' + b"a" * 393 + b'"}') == tokens_of(402)
    assert tokens_asked(b'"data":"' + b"A" * 90_000) == tokens_of(8) + 1500
    prose = b'{"messages":[{"content":"' + b"some words and more " * 20_000 + b'"}]}'
    assert tokens_asked(prose) == tokens_of(len(prose))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "high"}},
        {"type": "input_image", "image_url": "http://example.com/cat.png"},
        {"type": "input_file", "file_url": "https://example.com/report.pdf"},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_file_behind_an_address_is_a_file(part: dict[str, object], separators: tuple[str, str]) -> None:
    """The provider fetches it, and charges for it what it charges for one inside."""
    body = json.dumps({"messages": [{"role": "user", "content": [part, part]}]}, separators=separators).encode()
    assert tokens_asked(body) == tokens_of(len(body)) + 2 * 1500


async def test_what_an_answer_cost_is_known_before_a_cache_keeps_it() -> None:
    """As soon as its usage is."""

    async def answer(call: Call, _deployment: Deployment) -> Reply:
        call.record.usage = Usage(10, 5)
        return Reply.whole(b"{}")

    call = make_call(route=make_route(Provider(answer), "m"))
    await SendOnce(lambda: 0.0, Costs(price_of).seal)(call)
    assert call.record.cost == 20
