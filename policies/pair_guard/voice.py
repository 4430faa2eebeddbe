"""The passive voice: who suffers what is done, as the active one has it, and participles that only describe."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from policies.pair_guard.tables import Vocabulary
from policies.pair_guard.tokens import Token
from policies.pair_guard.word import Word

_BE: Final = frozenset({"is", "are", "am", "was", "were", "be", "been", "being", "get", "gets", "got", "getting"})
_ETRE: Final = frozenset(
    {"être", "suis", "es", "est", "sommes", "êtes", "sont", "été", "était", "étaient", "sera", "seront", "serai"}
)
_NO_AGENTS: Final = frozenset(
    {"phone", "card", "mail", "email", "post", "bus", "train", "car", "plane", "boat", "bike", "hand", "law", "default", "ear", "monday",
     "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "cash", "cheque", "transfer", "text", "sms", "weight", "month"}
)  # fmt: skip
"""What stands behind `by` and does nothing."""
_RECIPES: Final = frozenset(
    {"calculated", "computed", "converted", "measured", "pronounced", "spelled", "spelt", "solved", "cooked", "baked", "roasted", "boiled",
     "prepared", "pruned", "grown", "cleaned", "washed", "written", "played"}
)  # fmt: skip
"""Of these, how it is done is how to do it; of what others do it is not."""
_IRREGULAR: Final = frozenset(
    [
        "paid",
        "sent",
        "sold",
        "told",
        "taught",
        "caught",
        "bitten",
        "bit",
        "stolen",
        "chosen",
        "written",
        "given",
        "taken",
        "lost",
        "broken",
        "frozen",
        "hidden",
        "forgotten",
        "worn",
        "torn",
        "known",
        "driven",
        "made",
        "built",
        "held",
        "kept",
        "found",
        "hit",
        "shot",
        "cut",
        "put",
        "set",
        "sued",
        "fed",
        "led",
        "hurt",
        "struck",
        "stuck",
        "beaten",
        "eaten",
        "drunk",
        "seen",
        "heard",
        "read",
        "understood",
        "spent",
        "lent",
        "left",
        "shown",
        "thrown",
        "blown",
        "drawn",
        "grown",
        "fired",
        "robbed",
        "hired",
        "done",
        "won",
        "bought",
        "brought",
        "thought",
        "spoken",
        "sworn",
        "shut",
        "split",
        "spread",
    ]
)
_UNCHANGED: Final = frozenset(["hurt", "cut", "put", "set", "hit", "bit", "split", "spread", "read", "shut", "shot"])
_STATES: Final = frozenset(
    [
        "allowed",
        "permitted",
        "supposed",
        "located",
        "situated",
        "called",
        "named",
        "needed",
        "required",
        "included",
        "based",
        "interested",
        "related",
        "used",
        "married",
        "divorced",
        "closed",
        "opened",
        "started",
        "excited",
        "scared",
        "tired",
        "worried",
        "open",
        "made",
        "left",
        "set",
    ]
)
_REGULAR: Final = re.compile(r"[a-zé]{2,}(?<!e)ed$")
_FRENCH: Final = re.compile(r"\w{2,}(?:é|ée|és|ées)$")
_FRENCH_IRREGULAR: Final = frozenset(
    [
        "vendu",
        "vendue",
        "vendus",
        "perdu",
        "perdue",
        "perdus",
        "perdues",
        "rendu",
        "mordu",
        "mordue",
        "battu",
        "élu",
        "élue",
        "pris",
        "prise",
        "mis",
        "mise",
        "offert",
        "offerte",
        "reçu",
        "reçue",
        "trahi",
        "puni",
        "punie",
        "averti",
        "avertie",
        "servi",
        "servie",
        "choisi",
        "choisie",
        "remplie",
        "cuit",
        "cuite",
        "cuits",
        "écrit",
        "écrite",
        "écrits",
        "volé",
    ]
)
_MOVING: Final = frozenset(
    [
        "allé",
        "allée",
        "allés",
        "arrivé",
        "arrivée",
        "arrivés",
        "entré",
        "entrée",
        "tombé",
        "tombée",
        "resté",
        "restée",
        "passé",
        "passée",
        "monté",
        "montée",
        "né",
        "née",
        "situé",
        "située",
        "fermé",
        "fermée",
        "fermés",
        "décédé",
        "décédée",
    ]
)
_INFINITIVE: Final = re.compile(r"\w{2,}(?:er|ir|re)$")
_ACTING: Final = {
    True: frozenset(
        [
            "i",
            "you",
            "we",
            "he",
            "she",
            "they",
            "it",
            "who",
            "have",
            "has",
            "had",
            "having",
            "not",
            "n't",
            "be",
            "is",
            "are",
            "am",
            "was",
            "were",
            "been",
            "being",
            "get",
            "gets",
            "got",
            "getting",
            "do",
            "does",
            "did",
            "to",
            "will",
            "would",
            "can",
            "could",
            "should",
        ]
    ),
    False: frozenset(
        [
            "je",
            "j",
            "tu",
            "il",
            "elle",
            "on",
            "nous",
            "vous",
            "ils",
            "elles",
            "ai",
            "as",
            "a",
            "avons",
            "avez",
            "ont",
            "avoir",
            "est",
            "sont",
            "suis",
            "être",
        ]
    ),
}
"""Words behind which a participle is a verb, in English and in French."""


def active(words: Sequence[Word], kind: str, said: Sequence[str]) -> tuple[str, ...]:
    """What the words that count mean, as the active voice has them; empty where there is no passive: `is rice eaten by cats`,
    `how is rice cooked`, `by whom was rice found`. `said` is all that was.
    """
    meanings = [word.meaning for word in words]
    by = "by" in meanings[1:]
    if not meanings or not (by or kind in ("how", "who")) or (_BE.isdisjoint(said) and _ETRE.isdisjoint(said)):
        return ()
    if by:
        place = meanings.index("by", 1)
        end = next((k for k in range(place + 1, len(words)) if words[k].follows), len(words))
        if end > place + 1 and (words[place + 1].written in _NO_AGENTS or meanings[place + 1][0] == "#"):
            return ()
        return (*meanings[place + 1 : end], meanings[place - 1], *meanings[: place - 1], *meanings[end:])
    asks_who = kind == "who" and said[0] in ("by", "par")
    asks_how = kind == "how" and said[0] == "how" and words[-1].written in _RECIPES
    return (meanings[-1], *meanings[:-1]) if asks_who or asks_how else ()


def suffers(said: Sequence[str], language: str) -> bool:
    """Whether someone has something done to him: `how do I get paid`, `comment être payé`, `faire réparer`."""
    if language == "fr":
        return any(_is_suffered(said, place) for place in range(len(said)))
    for place, word in enumerate(said):
        if word in _BE:
            for before, after in pairwise(said[place : place + 5]):
                if before != "to" and after not in _STATES and (after in _IRREGULAR or _REGULAR.match(after)):
                    return True
    return False


def _is_suffered(said: Sequence[str], place: int) -> bool:
    word, after = said[place], said[place + 1 : place + 3]
    if word == "faire":
        return bool(after) and (_INFINITIVE.match(after[0]) is not None)
    return word in _ETRE and any(
        each not in _MOVING and (each in _FRENCH_IRREGULAR or _FRENCH.match(each) is not None) for each in after
    )


def describes(tokens: Sequence[Token], place: int, known: Vocabulary) -> bool:
    """Whether a participle belongs to a noun: `deleted photos`, `les photos supprimées`."""
    word = tokens[place].text
    if known.degrees:
        if not ((word in _IRREGULAR and word not in _UNCHANGED) or _REGULAR.match(word)) or place + 1 >= len(tokens):
            return False
        after = tokens[place + 1].text
        counts = (
            after not in known.light
            and after not in known.prepositions
            and after not in known.negators
            and after.isalpha()
        )
        return counts and (place <= 1 or tokens[place - 1].text not in _ACTING[True])
    if not place or not (word in _FRENCH_IRREGULAR or _FRENCH.match(word)):
        return False
    before = tokens[place - 1].text
    return before not in known.light and before not in _ACTING[False] and before not in known.negators
