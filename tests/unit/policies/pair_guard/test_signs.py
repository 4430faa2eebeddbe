"""What neither letters nor digits say tells questions apart as well."""

import pytest

from policies.pair_guard.compare import PairGuard
from policies.pair_guard.signs import signs_of
from policies.pair_guard.tables import Tables
from policies.pair_guard.tokens import spell

GUARD = PairGuard(Tables.load())
APART = [
    ("Should I set the oven to -18 C?", "Should I set the oven to 18 C?"),
    ("Should I set the oven to \u221218 C?", "Should I set the oven to 18 C?"),
    ("Is -3 greater than 5?", "Is 3 greater than -5?"),
    ("What is 2e3?", "What is 2e-3?"),
    ("What is 10^3?", "What is 10^-3?"),
    ("What is -log(10)?", "What is log(10)?"),
    ("Combien font -5 + 3 ?", "Combien font 5 + 3 ?"),
    ("Ist -5 kleiner als 3?", "Ist 5 kleiner als 3?"),
    ("How much is 10 mW?", "How much is 10 MW?"),
    ("Convert 5 Mb to kB", "Convert 5 MB to kB"),
    ("Is x = y?", "Is x != y?"),
    ("Is p true?", "Is !p true?"),
    ("Is p true?", "Is \u00acp true?"),
    ("Is A \u2282 B?", "Is A \u2283 B?"),
    ("Is 3 \u2264 x?", "Is 3 \u2265 x?"),
    ("Classify the sentiment: my order arrived \U0001f389", "Classify the sentiment: my order arrived \U0001f62d"),
    ("What is the capital of \U0001f1eb\U0001f1f7?", "What is the capital of \U0001f1e9\U0001f1ea?"),
    ("Is it safe? \u2705", "Is it safe? \u274c"),
    ("Ja \U0001f44d", "Ja \U0001f44e"),
]
TOGETHER = [
    ("Where can I buy a 4g SIM?", "Where can I buy a 4G SIM?"),
    ("When is 2 PM in Rome?", "When is 2 pm in Rome?"),
    ("How long is 5 km?", "How long is 5 kilometers?"),
    ("What is COVID-19?", "What is covid 19?"),
    ("How do I update Windows\u00ae 10?", "How do I update Windows 10?"),
    ("I have 5 \u20ac left", "I have 5 euros left"),
    ("Is it 20\u00b0C outside?", "Is it 20 degrees C outside?"),
    ("How do I open a file - step by step?", "How do I open a file step by step?"),
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_a_sign_a_symbol_or_the_case_of_a_unit_makes_another_question(one: str, other: str) -> None:
    assert GUARD.judge(one, other).closeness == "different"
    assert GUARD.judge(other, one).closeness == "different"


@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_what_says_the_same_in_signs_and_in_words_stays_one_question(one: str, other: str) -> None:
    assert GUARD.judge(one, other).closeness == "same"


@pytest.mark.parametrize("text", ["5-10 days", "5 - 10 days", "covid-19", "(555) -1234", "2020 -2021", "well-known"])
def test_hyphens_ranges_and_differences_are_no_negative_numbers(text: str) -> None:
    assert signs_of(spell(text)).negatives == ()
