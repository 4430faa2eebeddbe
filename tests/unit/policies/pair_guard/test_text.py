"""What is read from a text: its language, the kind of question, the words that count."""

import functools

import pytest

from policies.pair_guard.tables import Tables
from policies.pair_guard.text import Reader


@functools.cache
def reader() -> Reader:
    return Reader(Tables.load())


@pytest.mark.parametrize(
    ("text", "language"),
    [("How do I cancel?", "en"), ("Comment annuler ?", "fr"), ("¿Cómo puedo cancelarlo?", ""), ("你好", ""), ("", ""), ("Deux journalistes tués au Mali", "fr")],
)  # fmt: skip
def test_the_language_is_told_by_its_words(text: str, language: str) -> None:
    assert reader().read(text).language == language


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Can you tell me how to cook rice?", "how"),
        ("What are the steps to cook rice?", "how"),
        ("How much is it to park here?", "howmuch"),
        ("How long is the film?", "howlong"),
        ("What day is the market?", "when"),
        ("For what reason is it closed?", "why"),
        ("Which shoes fit?", "what"),
        ("Is it open?", "yn"),
        ("is it open", "yn"),
        ("Write a poem", "do"),
        ("What do you think about tattoos?", "opinion"),
        ("Define entropy", "meaning"),
        ("Pourquoi est-ce fermé ?", "why"),
        ("Est-ce ouvert ?", "yn"),
    ],
)
def test_the_kind_of_question_is_told_by_its_frame(text: str, kind: str) -> None:
    assert reader().read(text).kind == kind


def test_politeness_is_left_out() -> None:
    polite = reader().read("Sorry to bother you, but how do I cook rice? Thank you very much!")
    assert [word.written for word in polite.words] == ["cook", "rice"]


def test_double_negation_in_french_is_one() -> None:
    assert reader().read("Je ne veux pas de sucre").negations == 1
    assert reader().read("Je n'en veux").negations == 1


def test_numbers_in_words_are_numbers() -> None:
    assert [
        word.meaning for word in reader().read("Give me two hundred and the third").words if word.meaning[0] == "#"
    ] == ["#200", "#3."]
    assert [word.meaning for word in reader().read("twenty five and six").words] == ["#25", "#6"]
