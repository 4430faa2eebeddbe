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
    while (match := known.ask.match(line)) is not None:
        del tokens[: line.count(" ", 0, match.end())]
        line = line[match.end() :]
    tail = known.tail.search(line.rstrip())
    frame = known.frame.match(line)
    kind = frame.lastgroup or "" if frame is not None else ""
    if tail is not None and kind in ("", "do", "what"):  # `I would like to … How do I do that?`
        del tokens[line.count(" ", 0, tail.start()) + 1 :]
        if frame is not None and kind == "do":
            del tokens[: line.count(" ", 0, frame.end())]
        return "how"
    if frame is not None:
        del tokens[: line.count(" ", 0, line.rfind(" ", 0, frame.end()) + 1)]
        return kind
    asking = _ASKING[language]
    for token in tokens:
        if token.text in asking:
            return asking[token.text]
    inverted = language == "en" and tokens and tokens[0].text in AUXILIARY
    return "yn" if asks or inverted else "do"
