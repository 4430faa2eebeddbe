"""What tokens cost: whole nano-USD from usage and a price, and the most that a call can come to."""

from collections.abc import Mapping

import msgspec

from proxy.call import Usage

_PICO = 1000
"""pico-USD in a nano-USD."""


class Rates(msgspec.Struct, frozen=True):
    """pico-USD a token: some prices are half a nano-dollar. One that is absent is as the plain one beside it."""

    input: int
    output: int = 0
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None

    def dearest_input(self, *, audio: bool) -> int:
        """The most that a token sent can cost."""
        return max(self.input, self.cached or 0, self.cache_write or 0, (self.audio_input or 0) if audio else 0)

    def dearest_output(self, *, audio: bool) -> int:
        """The most that a token made can cost."""
        return max(self.output, self.reasoning or 0, (self.audio_output or 0) if audio else 0)


class Price(msgspec.Struct, frozen=True):
    """What one model costs somewhere.

    `above` are other rates for the whole call once its input has more tokens than so many, the fewest first. `tiers`
    are those of a vendor's service tiers by name. `most_output` is the most tokens that the model makes in one answer.
    """

    rates: Rates
    above: tuple[tuple[int, Rates], ...] = ()
    tiers: Mapping[str, "Price"] = {}
    most_input: int | None = None
    most_output: int | None = None
    source: str = ""
    """Where it is from, for people."""

    def rates_for(self, prompt: int, tier: str = "") -> Rates:
        """The rates of a call with so many tokens of input; a tier without a price of its own costs as none does."""
        price = self.tiers.get(tier, self) if tier else self
        rates = price.rates
        for least, higher in price.above:
            if prompt > least:
                rates = higher
        return rates


FREE = Price(Rates(0), source="nothing is paid")


def cost_of(price: Price, usage: Usage) -> int:
    """nano-USD: exact to the pico-USD, then rounded to the nearest, a half upwards.

    Cached, cache-write and audio tokens are parts of the input, reasoning and audio tokens parts of the output, as
    OpenAI counts them.
    """
    prompt, completion = usage.prompt, usage.completion
    rates = price.rates_for(prompt, usage.tier) if price.above or usage.tier else price.rates
    if usage.cached or usage.cache_write or usage.reasoning or usage.audio:
        pico = _in_parts(rates, usage)
    else:
        pico = prompt * rates.input + completion * rates.output
    return (pico + _PICO // 2) // _PICO


def _in_parts(rates: Rates, usage: Usage) -> int:
    heard = max(0, usage.audio - usage.audio_output)
    inputs = (
        (usage.cached, rates.cached),
        (usage.cache_write, rates.cache_write),
        (heard, rates.audio_input),
    )
    outputs = ((usage.reasoning, rates.reasoning), (usage.audio_output, rates.audio_output))
    return _parted(usage.prompt, rates.input, inputs) + _parted(usage.completion, rates.output, outputs)


def _parted(tokens: int, plain: int, parts: tuple[tuple[int, int | None], ...]) -> int:
    pico = 0
    for count, rate in parts:
        part = min(count, tokens)  # parts that come to more than the whole are a provider's mistake
        pico += part * (plain if rate is None else rate)
        tokens -= part
    return pico + tokens * plain


def most_of(  # noqa: PLR0913 - what a call asks for, by name
    price: Price, prompt: int, completion: int, *, choices: int = 1, tier: str = "", audio: bool = False
) -> int:
    """nano-USD, rounded up: what a call can cost at most, should its tier be granted or not.

    `completion` tokens are those of each of `choices` answers.
    """
    if price.most_input is not None:
        prompt = min(prompt, price.most_input)
    if price.most_output is not None:
        completion = min(completion, price.most_output)
    pico = max(
        prompt * rates.dearest_input(audio=audio) + choices * completion * rates.dearest_output(audio=audio)
        for rates in (price.rates_for(prompt), price.rates_for(prompt, tier))
    )
    return -(-pico // _PICO)
