"""Spelling: typing mistakes, accents left out, one word in two languages."""

import pytest

from policies.pair_guard.spelling import bare, cognate, one_edit


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [("adress", "address", True), ("chnage", "change", True), ("lock", "clock", True), ("cat", "dog", False), ("abc", "abc", False), ("ab", "abcd", False)],
)  # fmt: skip
def test_one_edit(one: str, other: str, is_one: bool) -> None:
    assert one_edit(one, other) is is_one
    assert one_edit(other, one) is is_one


def test_cognates_are_told_by_their_beginning() -> None:
    assert cognate("photosynthesis", "photosynthèse")
    assert not cognate("president", "presence")
    assert not cognate("pain", "pair")


def test_accents_may_be_missing_where_a_text_has_none() -> None:
    assert bare("numéro", "numero", "quel est le numero")
    assert not bare("numéro", "numero", "où est le numero")
    assert not bare("numero", "numéro", "quel est le numéro")
    assert not bare("numero", "numero", "quel est le numero")
