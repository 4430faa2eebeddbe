"""Expands the self-written grammars of own.yaml into labelled text, the same text for the same seed."""

import random
import re
from pathlib import Path
from typing import Final

import msgspec
import yaml

_CHOICE: Final = re.compile(r"\[([^\[\]]*)\]")
_SLOT: Final = re.compile(r"\{(\w+)\}")


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Templates that share a number of expansions."""

    times: int
    templates: list[str]


class Grammar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file own.yaml."""

    slots: dict[str, list[str]]
    attack: list[Group]
    benign: list[Group]
    languages: dict[str, list[str]]


class Example(msgspec.Struct, frozen=True):
    """One labelled text; `origin` names its set."""

    text: str
    attack: bool
    origin: str


def _expand(template: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    text = template
    while "{" in text or _CHOICE.search(text):
        before = text
        text = _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text, count=1)
        text = _SLOT.sub(lambda found: rng.choice(slots[found[1]]) if found[1] in slots else found[0], text)
        if text == before:
            break
    if rng.random() < 0.4:  # noqa: PLR2004  (people start with a capital letter less often than templates do)
        text = text[:1].upper() + text[1:]
    return text.strip()


def expand(path: Path, seed: int) -> list[Example]:
    """Every distinct expansion; the benign sentences of the languages come five times, alone and in pairs."""
    grammar = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Grammar)
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    examples: dict[str, Example] = {}
    for attack, groups in ((True, grammar.attack), (False, grammar.benign)):
        for number, group in enumerate(groups):
            origin = f"own_{'attack' if attack else 'benign'}_{number}"
            for _ in range(group.times):
                text = _expand(rng.choice(group.templates), grammar.slots, rng)
                examples.setdefault(text, Example(text, attack, origin))
    for language, sentences in grammar.languages.items():
        for times in range(5):
            for sentence in sentences:
                text = " ".join([sentence, *rng.sample(sentences, times % 3)])
                examples.setdefault(text, Example(text, attack=False, origin=f"own_language_{language}"))
    return list(examples.values())
