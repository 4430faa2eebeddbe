"""Which calls are compared, and what of them."""

from typing import Any

import pytest
from support.calls import make_call

from policies.semantic_text import Compared, Eligibility, Unfit, Words, canonical_text
from proxy.endpoints import EMBEDDINGS

READER = Eligibility(Words.load(), 256)


def read(*messages: dict[str, Any]) -> Compared | Unfit:
    return READER.read(make_call(messages=list(messages)))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


FIT = [
    "How do I reset my password?",
    "What is the capital of Kenya?",
    "How many calories are in 100 g of rice?",
    "Comment faire des crêpes ?",
    "Who won the World Cup in 2014?",
    "How do I sort a list in Python?",
    "What does HTTP status 404 mean?",
    "Can I take 2 tablets every 4 hours?",
]


@pytest.mark.parametrize("text", FIT)
def test_questions_that_stand_alone_are_compared(text: str) -> None:
    found = read(user(text))
    assert isinstance(found, Compared)
    assert found.text == text


UNFIT = {
    "code": ["Fix it:\n```\nx = 1\n```", "What does def f(x): do?", "for (;;) {\n}", "Explain:\n    x = 1\n    y = 2\n"],
    "addresses and ids": [
        "Write to ann@example.com about rent", "Call +33 1 23 45 67 89 for me", "Where is order A1B2C3D4E5F6?", "What is https://example.com?",
        "Who owns 192.168.1.10?", "Status of 123e4567-e89b-12d3-a456-426614174000?", "Where is parcel 12345678?", "Is TICKET-20931 done?",
    ],
    "pointing": ["Explain this code", "Translate the text below", "What about Norway?", "Explique ce texte", "And the previous one?", "fix this"],
    "time": ["What is the weather like?", "Latest news?", "What day is it today?", "Who is the current president?", "Quelle heure est-il maintenant ?",
             "Quel temps fera-t-il demain ?", "What is the price of gold?", "What is the Bitcoin price?", "What are the gas prices for Texas?",
             "What\u2019s the price for a ticket?", "Quel est le prix du pain ?", "Give me today\u2019s headlines"],
    "addresses and time in other blanks, hyphens and accents": [
        "Call 06\u00a012\u00a034\u00a056\u00a078 for me", "Call 06\u202f12\u202f34\u202f56\u202f78", "Call 06\u201112\u201134\u201156\u201178",
        "What  time is it in Rome?", "quel  jour sommes-nous ?", "Quelle est la me\u0301te\u0301o ?", "What is the\u00a0weather like?",
    ],
    "length": ["word " * 300, "字" * 400],
    "emptiness": ["", "  \n"],
}  # fmt: skip


@pytest.mark.parametrize(("why", "text"), [(why, text) for why, texts in UNFIT.items() for text in texts])
def test_other_texts_are_not(why: str, text: str) -> None:
    assert isinstance(read(user(text)), Unfit), why


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "hi"}],
        [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
        [user([{"type": "image_url", "image_url": {"url": "x"}}])],
        [user([])],
        [user(None)],
        [user([{"type": "text", "text": 7}])],
        [{"role": "tool", "tool_call_id": "1", "content": "42"}],
        ["hi"],
    ],
)
def test_only_one_text_of_the_user_is_compared(messages: list[Any]) -> None:
    assert isinstance(READER.read(make_call(messages=messages)), Unfit)


def test_a_single_text_part_is_the_same_as_a_string() -> None:
    assert read(user([{"type": "text", "text": FIT[0]}])) == read(user(FIT[0]))


def test_everything_else_of_the_messages_must_be_equal() -> None:
    """Earlier turns in any spelling of the JSON, and the name of the last message."""
    alone = read(user(FIT[0]))
    assert isinstance(alone, Compared)
    others = [
        read({"role": "system", "content": "s"}, user(FIT[0])),
        read({**user(FIT[0]), "name": "ann"}),
        read(user("hi"), {"role": "assistant", "content": "yo"}, user(FIT[0])),
    ]
    rests = {each.rest for each in [*others, alone] if isinstance(each, Compared)}
    assert len(rests) == 4
    assert read({"content": FIT[1], "role": "user"}) == read(user(FIT[1]))


def test_other_endpoints_are_left_alone() -> None:
    assert isinstance(READER.read(make_call(endpoint=EMBEDDINGS, input="x")), Unfit)


def test_canonical_text_keeps_case_and_punctuation() -> None:
    assert canonical_text("  e\u0301t\u00e9 \n\n US? ") == "\u00e9t\u00e9 US?"
