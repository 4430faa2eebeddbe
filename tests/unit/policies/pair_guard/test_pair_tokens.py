"""How texts are cut: contractions spelled out, numbers by value."""

import pytest

from policies.pair_guard.tokens import cut, spell, value


def tokens(text: str) -> list[str]:
    return [token.text for token in cut(spell(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't", ["i", "can", "not"]),
        ("They won\u2019t", ["they", "will", "not"]),
        ("dont", ["do", "not"]),
        ("I want it", ["i", "want", "it"]),
        ("What's up", ["what", "is", "up"]),
        ("l'eau n'est pas", ["le", "eau", "ne", "est", "pas"]),
        ("qu'est-ce que c'est", ["que", "est", "que", "ce", "est"]),
        ("Wi-Fi", ["wi", "fi"]),
        ("a-t-il plu", ["a", "plu"]),
        ("15k", ["#15000"]),
        ("the 2nd", ["the", "#2."]),
        ("100ml", ["#100", "ml"]),
        ("£50", ["pound", "#50"]),
        ("7-3", ["#7", "-", "#3"]),
        ("C++ and C#", ["c++", "and", "c#"]),
        ("read/write", ["read", "or", "write"]),
        ("7:00", ["#7"]),
    ],
)
def test_a_text_is_cut_into_what_it_says(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("1,000", "1000"), ("1 000", "1000"), ("1,5", "1.5"), ("1.50", "1.5"), ("007", "7"), ("1.2.3", "1.2.3"), ("0.125", "0.125")],
)  # fmt: skip
def test_numbers_are_known_by_their_value(digits: str, expected: str) -> None:
    assert value(digits) == expected


def test_a_comma_is_remembered() -> None:
    assert [token.after_comma for token in cut("in git, undo it")] == [False, False, True, False]
