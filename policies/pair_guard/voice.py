"""The passive voice as the active one."""

from collections.abc import Sequence
from typing import Final

_BE: Final = frozenset({"is", "are", "was", "were", "be", "been", "get", "gets", "got", "getting", "été"})


def active(
    meanings: Sequence[str], follows: Sequence[str], kind: str, said: Sequence[str], *, somebodys: bool
) -> tuple[str, ...]:
    """The words that count, as the active voice has them; empty where there is no passive: `is rice eaten by cats`, `how is
    rice cooked`, `by whom was rice found`.

    `follows` has the preposition before each of them, `said` is all that was. `somebodys`: it speaks of someone's own, whose
    salary is paid by others.
    """
    by = "by" in meanings[1:]
    if not meanings or not (by or kind in ("how", "who")) or _BE.isdisjoint(said):
        return ()
    if by:
        place = meanings.index("by", 1)
        end = next((k for k in range(place + 1, len(meanings)) if follows[k]), len(meanings))
        return (*meanings[place + 1 : end], meanings[place - 1], *meanings[: place - 1], *meanings[end:])
    asks_who = kind == "who" and said[0] in ("by", "par")
    asks_how = kind == "how" and said[0] == "how" and not somebodys and (said[1] in _BE or "be" in said)
    return (meanings[-1], *meanings[:-1]) if asks_who or asks_how else ()
