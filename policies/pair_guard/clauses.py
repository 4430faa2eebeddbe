"""What small words say of a clause: who does what it tells, whether it is done or suffered, has been or will be."""

import re
from collections.abc import Sequence
from typing import Final

from policies.pair_guard.tables import Contrast
from policies.pair_guard.text import Text

_HAS_BEEN: Final = {
    "en": re.compile(
        r"\b(?:have|has|had) (?:\w+ ){0,3}(?:been|won|paid|sent|gone|come|slept|found|lost|sold|bought|made|got|\w+ed)\b"
    ),
    "fr": re.compile(r"\b(?:a|ont|ai|as|avons|avez|est|sont) (?:été |déjà )?\w+(?:é|ée|és|ées|u|us|ue|i|is|it|ert)\b"),
}
_UNIT: Final = re.compile(r"\b(?:what|which|quel|quelle) (time|hour|day|date|month|year|heure|jour|mois|année)\b")
_UNITS: Final = {"hour": "time", "heure": "time", "date": "day", "jour": "day", "mois": "month", "année": "year"}


def differ(a: Text, b: Text, contrasts: Sequence[Contrast], *, sure: bool) -> str:
    """Why two texts of the same words are not one, either way round; empty where nothing speaks against it. Of texts in
    largely other words (not `sure`) the voice says nothing.
    """
    if sure and a.suffers != b.suffers:
        return "voice"
    shared = {word.meaning for word in a.words} & {word.meaning for word in b.words}
    if (a.negated ^ b.negated) & shared:
        return "negation"
    units = {_unit(a), _unit(b)} - {""}
    if len(units) > 1:
        return "unit"
    for one, other in ((a, b), (b, a)):
        if one.tense == "future" and _HAS_BEEN[other.language].search(other.plain):
            return "tense"
        for contrast in contrasts:
            if contrast.one(one.plain) and contrast.other(other.plain):
                return contrast.what
    return ""


def _unit(text: Text) -> str:
    """Of `what time`, `which day` and the like."""
    found = _UNIT.search(text.plain)
    return _UNITS.get(found[1], found[1]) if found is not None else ""
