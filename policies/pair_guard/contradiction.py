"""What no choice of words makes good: negation, mode, tense, quantity, person."""

import re
from typing import Final

from policies.pair_guard.text import Text

AMOUNTS: Final = frozenset({"when", "howlong", "howmuch", "howmany", "howoften", "howold", "howfar"})
"""Kinds of question that ask for so much of something."""
_SERVICE: Final = re.compile(
    r"\b(?:ship|deliver|accept|offer|repair|sell|send|refund|book|take|provide|livre[rz]|accepte[rz]|envoye[rz])\b"
)
"""What is offered to anyone: whether one does it is whether one can."""
_LIMITS: Final = {
    frozenset({"can", "should"}): AMOUNTS | {"who", "whom", "where", "what"},
    frozenset({"can", ""}): frozenset({"howmuch", "howmany", "howoften", "who", "whom"}),
    frozenset({"should", ""}): frozenset({"howmuch", "howmany"}),
}
"""Kinds of question in which what may be is not what should be, or is."""
_COMPANY: Final = re.compile(
    r"\b(?:customers?|clients?|data|complaints?|feel|help|deliver|parcels?|staff|employees|money|rooms)\b"
)
_ADDRESSED: Final = re.compile(
    r"\b(?:do|did|are|were|will|would) you\b(?! (?:think|recommend|suggest|know|believe))|\byour\b(?! (?:own|self|favou?rite|opinion|view))"
)
"""That `you` is the one who answers, or whoever he answers for."""


def contradiction(a: Text, b: Text) -> str:
    """What two texts differ in that no choice of words makes good; empty for nothing."""
    if a.negations != b.negations:
        return "negation"
    offered = {a.mode, b.mode} == {"", "can"} and a.persons == b.persons == "2" and _SERVICE.search(a.plain)
    if a.mode != b.mode and a.kind == b.kind and a.kind in ("yn", "why", "do") and not offered:
        return "mode"
    if a.kind == b.kind and a.kind in _LIMITS.get(frozenset({a.mode, b.mode}), ()):
        return "mode"
    if "past" in (a.tense, b.tense) and a.tense != b.tense and "?" not in (a.tense, b.tense):
        return "tense"
    if a.quantity and b.quantity and a.quantity != b.quantity and a.kind == b.kind and a.kind in ("yn", "do"):
        return "quantity"
    if {a.persons, b.persons} == {"12", "21"} and a.kind == b.kind:
        return "person"
    if ("2" in a.persons) != ("2" in b.persons) and not _is_anyone(a, b):
        return "person"
    return ""


def _is_anyone(a: Text, b: Text) -> bool:
    """Whether `you` is anyone: `how do you get there`, `can you freeze rice`; in French it is not, nor beside what is mine."""
    persons = {a.persons, b.persons}
    if persons == {"1", "12"}:  # `how do I send you a parcel`
        return a.kind == b.kind == "how"
    if a.language != "en" or a.kind != b.kind or not persons <= {"", "1", "2"}:
        return False
    if a.kind in ("how", "like"):
        return "" in persons or not _COMPANY.search(a.plain)
    addressed = _ADDRESSED.search(a.plain) or _ADDRESSED.search(b.plain)
    if a.plain.startswith("are you") or b.plain.startswith("are you"):
        return False
    return "1" not in persons and (a.kind == "yn" or (a.kind in ("what", "who") and not addressed))
