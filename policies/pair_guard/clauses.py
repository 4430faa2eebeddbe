"""What small words say of a clause: who does what it tells, whether it is done or suffered, has been or will be."""

import re
from collections.abc import Callable
from typing import Final

from policies.pair_guard.text import Text

_DONE_THERE: Final = re.compile(
    r"^where (?:can|do|should|could|must|may|would|will|did) (?:i|you|we|one|people|they) (?!find |locate |see |get )"
)
_IS_THERE: Final = re.compile(r"^where (?:is|are|was|were) ")
_HAS_BEEN: Final = {
    "en": re.compile(r"\b(?:have|has|had) (?:\w+ ){0,3}(?:been|\w+ed)\b"),
    "fr": re.compile(r"\b(?:a|ont|ai|as|avons|avez|est|sont) (?:été |déjà )?\w+(?:é|ée|és|ées|u|us|ue|i|is|it|ert)\b"),
}
_SOMEONE_ACTS: Final = re.compile(
    r"(?:^|\b(?:if|when|can|could|does|did|is|would|will|may|should|si|que|quand|est) )(?:someone|somebody|anyone|anybody|quelque un)\b"
)
_SELF: Final = frozenset({"i", "we", "je", "nous"})
_SOMEONE: Final = frozenset({"someone", "somebody", "quelque"})
_OBJECT: Final = frozenset({"me", "us"})


def differ(a: Text, b: Text, *, sure: bool) -> str:
    """Why two texts of the same words are not one, either way round; empty where nothing speaks against it. Of texts in
    largely other words (not `sure`) the voice says nothing.
    """
    for one, other in ((a, b), (b, a)):
        for what, (this, that) in _PAIRS.items():
            if (sure or what != "voice") and this(one) and that(other):
                return what
    return ""


def _tells_of_me(text: Text) -> bool:
    """`I broke a window`."""
    return text.plain.partition(" ")[0] in _SELF


def _tells_of_someone(text: Text) -> bool:
    """`someone broke my window`: both words are light."""
    return text.plain.partition(" ")[0] in _SOMEONE


def _by_someone_to_me(text: Text) -> bool:
    """`someone's dog bites me`."""
    said = text.plain.split()
    return not _SOMEONE.isdisjoint(said) and not _OBJECT.isdisjoint(said)


def _by_mine_to_someone(text: Text) -> bool:
    """`my dog bites someone`."""
    said = text.plain.split()
    return not _SOMEONE.isdisjoint(said) and "my" in said and _OBJECT.isdisjoint(said)


def _is_suffered(text: Text) -> bool:
    """`how am I charged for it`."""
    return text.suffers


def _is_done(text: Text) -> bool:
    """`how do I charge it`."""
    return not text.suffers


def _someone_acts(text: Text) -> bool:
    """`if someone bites me`."""
    return _SOMEONE_ACTS.search(text.plain) is not None


def _someone_does_not(text: Text) -> bool:
    return not _someone_acts(text)


def _asks_where_to_do(text: Text) -> bool:
    """`where can I park`."""
    return _DONE_THERE.search(text.plain) is not None


def _asks_where_it_is(text: Text) -> bool:
    """`where is the park`."""
    return _IS_THERE.search(text.plain) is not None


def _will_be(text: Text) -> bool:
    """`will win`, `va gagner`."""
    return text.tense == "future"


def _has_been(text: Text) -> bool:
    """`has won`, `a gagné`."""
    return _HAS_BEEN[text.language].search(text.plain) is not None


_PAIRS: Final[dict[str, tuple[Callable[[Text], bool], Callable[[Text], bool]]]] = {
    "voice": (_is_suffered, _is_done),
    "actor": (_someone_acts, _someone_does_not),
    "place": (_asks_where_to_do, _asks_where_it_is),
    "person": (_tells_of_me, _tells_of_someone),
    "whose": (_by_someone_to_me, _by_mine_to_someone),
    "tense": (_will_be, _has_been),
}
"""Of each kind of difference, what one text says and the other."""
