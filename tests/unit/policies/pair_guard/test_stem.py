"""Stems: what is one word in other forms, and what is not."""

import functools

import pytest

from policies.pair_guard.stem import Stemmer
from policies.pair_guard.words import Words


@functools.cache
def stemmer() -> Stemmer:
    return Stemmer(Words.load())


@pytest.mark.parametrize(
    "forms",
    ["study studies studied studying", "run running runs", "hope hoping hoped", "hop hopping hopped", "box boxes", "watch watches",
     "create creating created", "open opening", "organise organize organised", "colour color", "travelling traveling", "catalogue catalog"],
)  # fmt: skip
def test_forms_of_an_english_word_have_one_stem(forms: str) -> None:
    assert len({stemmer().english(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "words",
    [
        "employer employee",
        "care careless",
        "plan plane",
        "safe unsafe",
        "bus busy",
        "four for",
        "evening even",
        "king kin",
    ],
)
def test_different_english_words_keep_apart(words: str) -> None:
    assert len({stemmer().english(word) for word in words.split()}) == 2


@pytest.mark.parametrize(
    "forms", ["chanter chante chantez", "cheval chevaux", "nationale nationales", "bateau bateaux"]
)
def test_forms_of_a_french_word_have_one_stem(forms: str) -> None:
    assert len({stemmer().french(form) for form in forms.split()}) == 1


def test_common_words_are_known_and_misspelt_ones_are_not() -> None:
    words = Words.load()
    assert all(word in words for word in ("invoice", "password", "subscription", "vegan", "question"))
    assert sum(word in words for word in ("invioce", "pasword", "subscripton", "adress", "recieve", "seperate")) <= 1
