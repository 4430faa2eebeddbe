"""Which price holds: the most particular, and none rather than a wrong one."""

import msgspec
import pytest

from proxy.money import FREE, Price
from proxy.prices import PriceBook, PriceConfig, PricesConfig, Table, vendor_at

TABLE = Table(
    msgspec.json.encode(
        {
            "about": {"source": "test", "made": "2026-01-02", "command": "none", "unit": "pico-USD a token"},
            "prices": {
                "openai": {
                    "m": {
                        "input": 10,
                        "output": 20,
                        "cached": 5,
                        "above": {"1000": {"input": 11}},
                        "tiers": {"flex": {"output": 12}},
                    },
                    "ft:m": {"input": 30},
                },
                "groq": {"m": {"input": 40}},
            },
        }
    )
)


def book(config: PricesConfig | None = None, vendors: dict[str, str] | None = None) -> PriceBook:
    own = {"special": frozenset({("p", "m"), ("q", "*")})}
    return PriceBook(config or PricesConfig(), vendors or {"p": "openai", "q": "groq"}, own, TABLE)


def rate(price: Price | None) -> int | None:
    return None if price is None else price.rates.input


def test_the_more_particular_price_holds() -> None:
    """Route before PROVIDER/MODEL before PROVIDER/* before MODEL before the table."""
    one = PriceConfig(input=1)
    everything = PricesConfig(
        models={"p/m": PriceConfig(input=2), "p/*": PriceConfig(input=3), "m": PriceConfig(input=4)},
        routes={"special": one},
    )
    assert rate(book(everything).find("p", "m", "special")) == 1_000_000
    assert rate(book(everything).find("p", "m", "other")) == 2_000_000
    assert rate(book(everything).find("p", "other", "special")) == 3_000_000, "not a deployment of that route"
    assert rate(book(everything).find("q", "anything", "special")) == 1_000_000, "a pattern of that route"
    assert rate(book(everything).find("q", "m", "")) == 4_000_000
    assert rate(book().find("q", "m", "")) == 40


def test_what_is_not_known_has_no_price() -> None:
    """Neither a model nor a vendor is guessed."""
    assert book().find("p", "m-2", "") is None
    assert book().find("stranger", "m", "") is None


def test_a_vendor_may_be_named_for_an_unknown_address() -> None:
    """A relay charges what its vendor charges, if configuration says so."""
    assert rate(book(PricesConfig(vendors={"relay": "openai"})).find("relay", "m", "")) == 10


def test_the_scripted_provider_costs_nothing_unless_told() -> None:
    """Nobody is paid for it."""
    assert book(vendors={"fake": "fake"}).find("fake", "m", "") == FREE
    told = PricesConfig(models={"fake/*": PriceConfig(input=1)})
    assert rate(book(told, {"fake": "fake"}).find("fake", "m", "")) == 1_000_000


def test_levels_and_tiers_have_what_they_do_not_say_from_the_plain_price() -> None:
    price = TABLE.find("openai", "m")
    assert price is not None
    assert (price.above[0][1].input, price.above[0][1].output, price.above[0][1].cached) == (11, 20, 5)
    assert (price.tiers["flex"].rates.input, price.tiers["flex"].rates.output) == (10, 12)


def test_models_of_somebodys_own_and_of_a_reseller() -> None:
    """A fine-tuned model costs as its kind; OpenRouter charges what the maker charges."""
    assert rate(TABLE.find("openai", "ft:m:acme::x1")) == 30
    assert rate(TABLE.find("openrouter", "openai/m")) == 10
    assert TABLE.find("openrouter", "unknown/m") is None


@pytest.mark.parametrize(
    ("url", "version", "vendor"),
    [
        ("https://api.openai.com/v1", "", "openai"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "", "gemini"),
        ("https://me.openai.azure.com", "2024-10-21", "azure"),
        ("https://api.openai.com.example.org/v1", "", ""),
        ("http://127.0.0.1:11434/v1", "", ""),
    ],
)
def test_vendors_are_known_by_their_whole_host(url: str, version: str, vendor: str) -> None:
    assert vendor_at(url, version) == vendor


def test_names_that_clients_make_up_are_not_kept_for_ever() -> None:
    prices = book()
    for number in range(5000):
        prices.find("p", f"m{number}", "*")
    assert len(prices._found) < 5000


def test_the_shipped_table_is_dated_and_every_entry_is_a_price() -> None:
    """It says what it was made from; known models cost what their vendors' pages say."""
    table = Table()
    assert table.about.made >= "2026-01-01"
    assert table.about.command == "make prices"
    for vendor, models in table._prices.items():
        for model in models:
            price = table.find(vendor, model) if vendor != "openrouter" else FREE
            assert price is not None
            assert price.rates.input >= 0
    gpt = table.find("openai", "gpt-4o")
    assert gpt is not None
    assert (gpt.rates.input, gpt.rates.output, gpt.rates.cached) == (2_500_000, 10_000_000, 1_250_000)
    assert rate(table.find("openai", "omni-moderation-latest")) == 0
