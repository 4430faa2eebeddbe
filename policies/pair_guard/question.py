"""What kind of answer a text wants, and the words that say only that, or are only polite."""

import re
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


_KINDS: Final = {"wish": "how", "order": "do"}
"""Frames that say another kind of question."""
_BEFORE_TAILS: Final = ("", "do", "what", "wish", "want")
_TELLS: Final = re.compile(r"\b(?:tell|give|dire|dites|dis|indiquer|donner|communiquer)\b")
_DEFINITE: Final = frozenset(
    {"the", "my", "your", "our", "le", "la", "les", "l", "mon", "ma", "mes", "votre", "vos", "notre", "nos"}
)
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


def drop_asking(tokens: list[Token], known: Vocabulary) -> bool:
    """Take `could you tell me` and the like off the beginning; whether that was said, so that what follows is asked for."""
    line = "".join(token.text + " " for token in tokens)
    told = False
    while (match := known.ask.match(line)) is not None:
        del tokens[: line.count(" ", 0, match.end())]
        line = line[match.end() :]
        told = _TELLS.search(match[0]) is not None
    return told


def take_kind(tokens: list[Token], known: Vocabulary, language: str, *, asks: bool, told: bool) -> str:
    """The kind of question: `how`, `when`, `yn` for yes or no, `do` for what is none. What only says so is cut off.

    `asks`: it has a question mark. `told`: it began with `tell me`.
    """
    line = "".join(token.text + " " for token in tokens)
    frame = known.frame.match(line)
    kind = frame.lastgroup or "" if frame is not None else ""
    if kind in _BEFORE_TAILS:
        for name, pattern in known.tails.items():
            tail = pattern.search(line.rstrip())
            if tail is not None:  # `I would like to … How do I do that?`
                del tokens[line.count(" ", 0, tail.start()) + 1 :]
                if frame is not None and kind in ("do", "wish", "want"):
                    del tokens[: line.count(" ", 0, frame.end())]
                return "how" if kind in ("wish", "want") else name
    if frame is not None:
        del tokens[: line.count(" ", 0, line.rfind(" ", 0, frame.end()) + 1)]
        return _KINDS.get(kind, kind)
    return _without_frame(tokens, language, asks=asks, told=told)


def _without_frame(tokens: list[Token], language: str, *, asks: bool, told: bool) -> str:
    """By single words."""
    asking = _ASKING[language]
    for token in tokens:
        if token.text in asking:
            return asking[token.text]
    first = tokens[0] if tokens else Token("", "")
    if told and first.text not in _WHETHER:
        return "what" if first.text in _DEFINITE or first.written[:1].isupper() else "do"
    return "yn" if asks or told or first.text in _INVERTED[language] else "do"
