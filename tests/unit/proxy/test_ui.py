"""The dashboard's files, as text: what a browser need not be asked."""

import itertools
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "proxy" / "dashboard"
HTML, SCRIPT, STYLE = ((FOLDER / name).read_text() for name in ("index.html", "app.js", "style.css"))
SCHEMES = [
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\n *\}", STYLE, re.DOTALL)
]
TEXTS = [
    *itertools.product(("ink", "dim"), ("paper", "card", "soft", "plain-soft")),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad")),
    ("bad", "card"),
    ("on-accent", "accent"),
]
MARKS = ["answered", "refused", "failed", "p50", "p95", "exact", "spent", "saved"]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark"])
def test_texts_can_be_read_and_marks_be_seen(scheme: dict[str, str]) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for what charts are drawn with."""
    assert not [pair for pair in TEXTS if contrast(scheme[pair[0]], scheme[pair[1]]) < 4.5]
    assert not [name for name in MARKS if contrast(scheme[f"c-{name}"], scheme["card"]) < 3]


def test_the_page_names_nothing_outside_and_has_nothing_inline() -> None:
    """No address, no inline script or style, no handler in markup."""
    for text in (HTML, SCRIPT, STYLE):
        assert not set(re.findall(r"https?://[^\s\"'`)]*", text)) - {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*src=)", HTML)


def test_texts_never_become_markup() -> None:
    """The script has no way to make elements but by name."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function", SCRIPT
    )
