"""One word that counts."""

import msgspec


class Word(msgspec.Struct, frozen=True):
    """A word that counts. `meaning` is its group of synonyms or its stem; numbers are `#` and their value.

    `follows` is the preposition before it; `linked`: one that would make a compound. `joined`: a conjunction stands
    before it. `loose`: what it follows may be the `to` of an infinitive.
    """

    meaning: str
    written: str
    linked: bool = False
    joined: bool = False
    capital: bool = False
    follows: str = ""
    loose: bool = False
