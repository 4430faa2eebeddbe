"""Costs are exact: every law here compares with arithmetic on fractions."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Usage
from proxy.money import Price, Rates, cost_of, most_of

COUNTS = st.integers(0, 3_000_000)
PICO = st.integers(0, 200_000_000)
MAYBE = st.none() | PICO
RATES = st.builds(
    Rates,
    input=PICO,
    output=PICO,
    cached=MAYBE,
    cache_write=MAYBE,
    reasoning=MAYBE,
    audio_input=MAYBE,
    audio_output=MAYBE,
)
PRICES = st.builds(
    Price,
    rates=RATES,
    above=st.lists(st.tuples(st.integers(1, 1_000_000), RATES), max_size=2).map(
        lambda each: tuple(sorted(each, key=lambda level: level[0]))
    ),
    tiers=st.dictionaries(st.sampled_from(["flex", "priority"]), st.builds(Price, rates=RATES), max_size=2),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Parts within their wholes, as OpenAI counts."""
    cached, write, heard, plain = (draw(COUNTS) for _ in range(4))
    reasoning, spoken, said = (draw(COUNTS) for _ in range(3))
    return Usage(
        cached + write + heard + plain,
        reasoning + spoken + said,
        cached=cached,
        cache_write=write,
        reasoning=reasoning,
        audio=heard + spoken,
        audio_output=spoken,
        tier=draw(st.sampled_from(["", "flex", "priority", "unheard-of"])),
    )


def exactly(price: Price, usage: Usage) -> Fraction:
    """nano-USD, not rounded."""
    price = price.tiers.get(usage.tier, price)
    rates = price.rates
    for least, higher in price.above:
        rates = higher if usage.prompt > least else rates
    heard = usage.audio - usage.audio_output
    parts = [
        (usage.prompt - usage.cached - usage.cache_write - heard, rates.input),
        (usage.cached, rates.input if rates.cached is None else rates.cached),
        (usage.cache_write, rates.input if rates.cache_write is None else rates.cache_write),
        (heard, rates.input if rates.audio_input is None else rates.audio_input),
        (usage.completion - usage.reasoning - usage.audio_output, rates.output),
        (usage.reasoning, rates.output if rates.reasoning is None else rates.reasoning),
        (usage.audio_output, rates.output if rates.audio_output is None else rates.audio_output),
    ]
    return sum((Fraction(count * rate, 1000) for count, rate in parts), Fraction(0))


@given(PRICES, usages())
def test_a_cost_is_exact_to_half_a_nano_dollar(price: Price, usage: Usage) -> None:
    """And a half goes up."""
    cost = Fraction(cost_of(price, usage))
    assert -Fraction(1, 2) < cost - exactly(price, usage) <= Fraction(1, 2)


@given(PRICES, usages())
def test_no_call_costs_more_than_was_reserved_for_its_tokens(price: Price, usage: Usage) -> None:
    """Whatever the provider makes of them: cached, reasoned, heard, and whichever of the two tiers it grants."""
    most = most_of(price, usage.prompt, usage.completion, tier=usage.tier, audio=True)
    assert cost_of(price, usage) <= most
    standard = Usage(usage.prompt, usage.completion, cached=usage.cached)
    assert cost_of(price, standard) <= most


@given(PRICES, COUNTS, COUNTS)
def test_parts_that_exceed_their_whole_never_make_a_cost_negative(price: Price, tokens: int, part: int) -> None:
    """A provider's arithmetic is not ours."""
    usage = Usage(tokens, tokens, cached=part, cache_write=part, reasoning=part, audio=part, audio_output=part)
    assert cost_of(price, usage) >= 0


def test_a_price_of_half_a_nano_dollar_is_kept() -> None:
    """62.5 nano-USD a token, as some cached tokens cost."""
    price = Price(Rates(input=125_000, cached=62_500))
    assert cost_of(price, Usage(2, cached=2)) == 125
    assert cost_of(price, Usage(1, cached=1)) == 63


def test_long_contexts_cost_their_own_rates_for_every_token() -> None:
    """Only beyond the threshold, and then for all of them."""
    price = Price(Rates(1000, 2000), above=((200_000, Rates(3000, 5000)),))
    assert cost_of(price, Usage(200_000, 10)) == 200_000 + 20
    assert cost_of(price, Usage(200_001, 10)) == 3 * 200_001 + 50


def test_what_is_reserved_knows_what_a_model_can_do() -> None:
    """Neither more input nor more output than it takes and makes, for each choice."""
    price = Price(Rates(1000, 1000), most_input=100, most_output=50)
    assert most_of(price, 1000, 4096) == 150
    assert most_of(price, 10, 20, choices=3) == 70
