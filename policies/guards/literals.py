"""Finds given texts, whatever their case: keywords, a canary."""

import re
from collections.abc import Iterable
from typing import Final

from policies.guards.spans import Pattern, Patterns

LONGEST_LITERAL: Final = 200
_I: Final = "iI\u0131\u0130"


def literals(texts: Iterable[str], what: str, *, whole_words: bool) -> Patterns:
    """A finder of the texts. ValueError when there is none, or one of no or too many characters."""
    wanted = sorted({text.strip() for text in texts}, key=lambda text: (-len(text), text))
    if not wanted or not wanted[-1] or len(wanted[0]) > LONGEST_LITERAL:
        raise ValueError(f"give one or more texts of 1 to {LONGEST_LITERAL} characters")
    beginnings = {_alike(text[:size]) for text in wanted for size in range(1, len(text) + 1)}
    longest = len(wanted[0])
    firsts = re.compile("|".join(sorted({re.escape(text[0]) for text in wanted})), re.IGNORECASE)

    def open_from(text: str) -> int:
        """The earliest end of the text that one of the wanted ones begins with."""
        first = firsts.search(text, max(0, len(text) - longest))
        while first is not None:
            if _alike(text[first.start() :]) in beginnings:
                return first.start()
            first = firsts.search(text, first.end())
        return len(text)

    any_of = "|".join(map(re.escape, wanted))
    before, after = (r"(?<!\w)", r"(?!\w)") if whole_words else ("", "")
    regex = re.compile(rf"{before}(?=({any_of}){after})", re.IGNORECASE)
    return Patterns([Pattern(what, f"(?i){'|'.join(map(_quoted, wanted))}", regex)], open_from, least=len(wanted[-1]))


def _alike(text: str) -> str:
    """One form for all that a pattern takes for the same when case does not count (its table is odd about the i)."""
    return text.casefold().replace("\u0307", "").replace("\u0131", "i")


def _quoted(text: str) -> str:
    """A text as an RE2 pattern for itself, and for all that Python's takes for the same: RE2 tells dotted and dotless i
    apart where case does not count, and of all letters only those.
    """
    return "".join(map(_quoted_letter, text))


def _quoted_letter(char: str) -> str:
    if char in _I:
        return f"[{_I}]"
    return char if char.isalnum() or ord(char) > 127 else f"\\x{{{ord(char):x}}}"  # noqa: PLR2004
