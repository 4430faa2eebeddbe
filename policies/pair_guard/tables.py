"""The pair guard's tables, read from `tables.yaml` and turned into what the comparison looks things up in."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import yaml

from policies.pair_guard.words import Words

Language = Literal["en", "fr"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "fr")
_FILE: Final = Path(__file__).with_name("tables.yaml")
_FRAME_ORDER: Final = (
    "like",
    "opinion",
    "difference",
    "meaning",
    "howlong",
    "howoften",
    "howmany",
    "howmuch",
    "howfar",
    "howold",
    "how",
    "then",
    "when",
    "where",
    "why",
    "whom",
    "who",
    "what",
    "wish",
    "order",
    "want",
    "yn",
    "canyou",
    "do",
)


class TableFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tables.yaml` as it stands."""

    version: int
    light: dict[Language, str]
    negators: str
    first: dict[Language, str]
    second: dict[Language, str]
    past: dict[Language, str]
    future: dict[Language, str]
    can: dict[Language, str]
    should: dict[Language, str]
    prepositions: dict[Language, str]
    compound: dict[Language, str]
    determiners: dict[Language, str]
    opposites: dict[Language, str]
    cased: str
    openings: dict[Language, str]
    closings: dict[Language, str]
    frame_sets: dict[Language, dict[str, str]]
    frames: dict[str, dict[Language, list[str]]]
    tails: dict[str, dict[Language, str]]
    phrases: dict[Language, dict[str, str]]
    synonyms: str
    irregular: dict[Language, str]
    numbers: dict[Language, str]
    ordinals: dict[Language, str]
    soft: dict[Language, str]
    participles: dict[Language, str]
    unchanged: str
    states: dict[Language, str]
    agentless: str
    recipes: str
    accents: str
    contrasts: list[dict[str, str | list[str]]]


class Contrast(NamedTuple):
    """What one text says and the other, so that they are two questions."""

    what: str
    one: Callable[[str], re.Match[str] | None]
    other: Callable[[str], re.Match[str] | None]


class Vocabulary(msgspec.Struct, frozen=True):
    """What is known of one language."""

    light: frozenset[str]
    negators: frozenset[str]
    first: frozenset[str]
    second: frozenset[str]
    past: frozenset[str]
    future: frozenset[str]
    can: frozenset[str]
    should: frozenset[str]
    prepositions: frozenset[str]
    soft: frozenset[str]
    openings: dict[str, tuple[tuple[str, ...], ...]]
    """Phrases of politeness by their first word, longest first; `closings` by their last."""
    closings: dict[str, tuple[tuple[str, ...], ...]]
    ask: re.Pattern[str]
    frame: re.Pattern[str]
    tails: dict[str, re.Pattern[str]]
    phrases: dict[str, tuple[tuple[tuple[str, ...], str], ...]]
    """By first word: the words that follow, longest first, and what they make."""
    concepts: dict[str, str]
    """A word's group of synonyms; groups have the same name in every language."""
    irregular: dict[str, str]
    numbers: dict[str, int]
    ordinals: dict[str, int]
    compound: frozenset[str]
    determiners: frozenset[str]
    """How statements begin, and orders do not."""
    degrees: bool
    """Whether adjectives are compared by their endings."""
    participles: frozenset[str]
    """Irregular ones."""
    states: frozenset[str]
    """Participles that say how something is."""


class Tables(msgspec.Struct, frozen=True):
    """All of it."""

    languages: dict[str, Vocabulary]
    cased: frozenset[str]
    opposites: dict[str, tuple[tuple[str, str], ...]]
    unchanged: frozenset[str]
    """Participles that look like their verb."""
    agentless: frozenset[str]
    """What stands behind `by` and does nothing."""
    recipes: frozenset[str]
    """Participles of what anyone does."""
    accents: frozenset[str]
    """Words that are others with an accent."""
    contrasts: dict[str, tuple[Contrast, ...]]
    """By language."""
    words: Words

    @classmethod
    def load(cls) -> "Tables":
        """The tables as shipped."""
        raw = yaml.load(_FILE.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
        file = msgspec.convert(raw, TableFile)
        return cls(
            languages={name: _vocabulary(file, name) for name in LANGUAGES},
            cased=frozenset(file.cased.split()),
            opposites={name: _pairs(file.opposites[name]) for name in LANGUAGES},
            unchanged=_words(file.unchanged),
            agentless=_words(file.agentless),
            recipes=_words(file.recipes),
            accents=_words(file.accents),
            contrasts={name: tuple(_contrast(each, name) for each in file.contrasts) for name in LANGUAGES},
            words=Words.load(),
        )


def _vocabulary(file: TableFile, name: Language) -> Vocabulary:
    irregular = dict(pair.split(":") for pair in file.irregular[name].split())
    grammar = _words(" ".join(part[name] for part in (file.light, file.past, file.future, file.can, file.should)))
    return Vocabulary(
        light=grammar,
        negators=_words(file.negators),
        first=_words(file.first[name]),
        second=_words(file.second[name]),
        past=_words(file.past[name]),
        future=_words(file.future[name]),
        can=_words(file.can[name]),
        should=_words(file.should[name]),
        prepositions=_words(file.prepositions[name]),
        soft=_words(file.soft[name]),
        openings=_phrases_at(0, file.openings[name]),
        closings=_phrases_at(-1, file.closings[name]),
        ask=re.compile(f"(?:{'|'.join(file.frames['ask'][name])}) "),
        frame=_frames(file, name),
        tails={kind: re.compile(f" (?:{patterns[name]})$") for kind, patterns in file.tails.items()},
        phrases=_phrases(file.phrases[name]),
        concepts=_concepts(file.synonyms, name),
        irregular=irregular,
        numbers={word: int(value) for word, value in (pair.split(":") for pair in file.numbers[name].split())},
        ordinals={word: int(value) for word, value in (pair.split(":") for pair in file.ordinals[name].split())},
        compound=_words(file.compound[name]),
        determiners=_words(file.determiners[name]),
        degrees=name == "en",
        participles=_words(file.participles[name]),
        states=_words(file.states[name]),
    )


def _contrast(entry: dict[str, str | list[str]], name: Language) -> Contrast:
    found = [re.compile(each).match if each[0] == "^" else re.compile(each).search for each in entry[name]]
    return Contrast(str(entry["what"]), found[0], found[1])


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    words = text.split()
    return tuple(zip(words[::2], words[1::2], strict=True))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases_at(place: int, text: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted((tuple(each.split("_")) for each in text.split()), key=len, reverse=True):
        found.setdefault(phrase[place], []).append(phrase)
    return {word: tuple(phrases) for word, phrases in found.items()}


def _frames(file: TableFile, name: Language) -> re.Pattern[str]:
    """One pattern with a group for each kind of question."""
    groups = []
    for kind in _FRAME_ORDER:
        patterns = "|".join(file.frames[kind][name])
        for word, meaning in file.frame_sets[name].items():
            patterns = patterns.replace(f"<{word}>", meaning)
        groups.append(f"(?P<{kind}>{patterns})")
    return re.compile("|".join(groups))


def _phrases(table: dict[str, str]) -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    found: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for meaning, spellings in table.items():
        for spelling in spellings.split():
            first, *rest = spelling.split("_")
            found.setdefault(first, []).append((tuple(rest), meaning))
    return {first: tuple(sorted(each, key=lambda item: -len(item[0]))) for first, each in found.items()}


def _concepts(lines: str, name: Language) -> dict[str, str]:
    """A word in two groups belongs to the first."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines.splitlines()):
        sides = line.split("|")
        side = LANGUAGES.index(name)
        words = sides[side] if side < len(sides) else ""
        for word in words.split():
            found.setdefault(word, f"={number}")
    return found
