"""What kind of answer a text wants, and the words that say only that, or are only polite."""

from typing import Final

from policies.pair_guard.tables import Vocabulary
from policies.pair_guard.tokens import Token

AUXILIARY: Final = frozenset(
    {"is", "are", "am", "was", "were", "do", "does", "did", "can", "could", "will", "would", "should", "shall", "may", "might",
     "must", "has", "have", "had"}
)  # fmt: skip
_ASKING: Final = {
    "en": {"how": "how", "when": "when", "where": "where", "why": "why", "who": "who", "what": "what", "which": "what"},
    "fr": {"comment": "how", "quand": "when", "pourquoi": "why", "quel": "what", "quelle": "what", "quels": "what", "quelles": "what",
           "combien": "howmuch"},
}  # fmt: skip


_BEFORE_TAILS: Final = ("", "do", "what", "wish")
_WHETHER: Final = frozenset({"if", "whether", "si"})
_INVERTED: Final = {
    "en": AUXILIARY,
    "fr": frozenset(
        {"est", "sont", "peut", "peux", "puis", "pouvez", "pouvons", "dois", "doit", "faut", "avez", "ai", "ont"}
    ),
}


def drop_politeness(tokens: list[Token], known: Vocabulary) -> None:
    """Take greetings, thanks and the like off both ends."""
    before = -1
    while before != len(tokens) and len(tokens) > 1:
        before = len(tokens)
        for phrase in known.openings.get(tokens[0].text, ()):
            if len(tokens) > len(phrase) and all(tokens[k].text == word for k, word in enumerate(phrase)):
                del tokens[: len(phrase)]
                break
        for phrase in known.closings.get(tokens[-1].text, ()):
            start = len(tokens) - len(phrase)
            if start > 0 and all(tokens[start + k].text == word for k, word in enumerate(phrase)):
                del tokens[start:]
                break


def take_kind(tokens: list[Token], known: Vocabulary, language: str, *, asks: bool) -> str:
    """The kind of question: `how`, `when`, `yn` for yes or no, `do` for what is none. What only says so is cut off.

    `asks`: it has a question mark.
    """
    line = "".join(token.text + " " for token in tokens)
    told = False
    while (match := known.ask.match(line)) is not None:
        del tokens[: line.count(" ", 0, match.end())]
        line = line[match.end() :]
        told = True
    frame = known.frame.match(line)
    kind = frame.lastgroup or "" if frame is not None else ""
    if kind in _BEFORE_TAILS:
        for name, pattern in known.tails.items():
            tail = pattern.search(line.rstrip())
            if tail is not None:  # `I would like to … How do I do that?`
                del tokens[line.count(" ", 0, tail.start()) + 1 :]
                if frame is not None and kind in ("do", "wish"):
                    del tokens[: line.count(" ", 0, frame.end())]
                return "how" if kind == "wish" else name
    if frame is not None:
        del tokens[: line.count(" ", 0, line.rfind(" ", 0, frame.end()) + 1)]
        return "how" if kind == "wish" else kind
    return _without_frame(tokens, language, asks=asks, told=told)


def _without_frame(tokens: list[Token], language: str, *, asks: bool, told: bool) -> str:
    """By single words. `told`: it began with `tell me`, so that what follows is what is asked for."""
    asking = _ASKING[language]
    for token in tokens:
        if token.text in asking:
            return asking[token.text]
    first = tokens[0].text if tokens else ""
    if told and first not in _WHETHER:
        return "what"
    return "yn" if asks or told or first in _INVERTED[language] else "do"
