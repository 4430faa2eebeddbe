"""Texts cut into tokens: contractions spelled out, numbers by their value, signs as words."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"(?<=\w)-(?:t-)?(?:ils?|elles?|on|ce)\b|"  # a pronoun that only makes a French question
    r"\d+(?:[., \u00a0](?=\d{3}(?!\d))\d{3})+(?:[.,]\d+)?|\d+(?:[.,:]\d+)*|[cC](?:\+\+|#)(?!\w)|"
    r"[^\W\d_]+(?:'[^\W\d_]+)*'?|[,;?!]|[%$£€°+*/=<>×÷^~|\\-]"
)
_SPELLED: Final = str.maketrans(
    {
        **dict.fromkeys("\u2019\u2018\u00b4`\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb\u201e", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\ufeff\u00ad"),
        **dict.fromkeys("\u00a0\u202f\u2009", " "),
    }
)
_SIGNS: Final = {"%": "percent", "$": "dollar", "£": "pound", "€": "euro", "°": "degree"}
_ELIDED: Final = {"l": "le", "d": "de", "j": "je", "m": "me", "t": "te", "s": "se", "c": "ce", "n": "ne", "qu": "que",
                  "jusqu": "jusque", "lorsqu": "lorsque", "puisqu": "puisque", "quelqu": "quelque"}  # fmt: skip
_NEGATED: Final = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is", "do": "do", "does": "does", "did": "did", "is": "is", "are": "are",
                   "was": "was", "were": "were", "would": "would", "should": "should", "could": "could", "has": "has", "have": "have",
                   "had": "had", "must": "must", "might": "might", "need": "need", "dare": "dare"}  # fmt: skip
_ENDINGS: Final = {"s": "is", "re": "are", "m": "am", "ll": "will", "ve": "have", "d": "would"}
_RUN_TOGETHER: Final = {"whats": ("what", "is"), "hows": ("how", "is"), "wheres": ("where", "is"), "whos": ("who", "is"), "im": ("i", "am"),
                        "ive": ("i", "have"), "cannot": ("can", "not"), "gonna": ("going", "to"), "wanna": ("want", "to")}  # fmt: skip
_MULTIPLES: Final = {"k": 1_000, "bn": 1_000_000_000, "mn": 1_000_000}
_ORDINAL: Final = frozenset({"st", "nd", "rd", "th", "er", "ère", "ème", "e"})


class Token(NamedTuple):
    """One token in lower case, as it was written, and whether a comma stands before it.

    A number is `#` and its value, an ordinal ends in `.`.
    """

    text: str
    written: str
    after_comma: bool = False


def spell(text: str) -> str:
    """The text with one kind of quote, hyphen and blank, compatible characters unified, and nothing invisible."""
    return unicodedata.normalize("NFKC", text.translate(_SPELLED)).translate(_SPELLED)


def cut(text: str) -> list[Token]:
    """The tokens of a text that was spelled."""
    found: list[Token] = []
    comma = False
    for match in _TOKEN.finditer(text):
        written = match[0]
        first = written[0]
        if first.isalpha():
            word = written.lower()
            if found and text[match.start() - 1].isdigit() and _joined(found, word):
                continue
            if word.endswith("nt") or "'" in word or word in _RUN_TOGETHER:
                for each in _words(word):
                    found.append(Token(each, written, comma))
                    comma = False
            else:
                found.append(Token(word, written, comma))
        elif first == "-" and len(written) > 1:
            continue
        elif first in ",;?!":
            comma = comma or written in ",;"
            continue
        elif first.isdigit():
            found.append(Token("#" + value(written), written, comma))
        else:
            found += _sign(written, text, match.start(), match.end(), comma)
        comma = False
    return found


def value(digits: str) -> str:
    """A number's value as text, whatever parts its thousands: `1,000` is `1000`, `3,5` is `3.5`."""
    digits = digits.replace(" ", "").replace("\u00a0", "")
    if ":" in digits:
        return digits.removesuffix(":00")
    parts = re.split(r"[.,]", digits)
    if len(parts) > 1 and all(len(each) == 3 for each in parts[1:]) and parts[0] != "0":  # noqa: PLR2004 - thousands
        whole, fraction = "".join(parts), ""
    else:
        whole, fraction = "".join(parts[:-1]) if len(parts) > 1 else parts[0], parts[-1] if len(parts) > 1 else ""
        if len(parts) > 2:  # noqa: PLR2004 - 3.11.7 is a version and no number
            return digits
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + ("." + fraction if fraction else "")


def _joined(found: list[Token], ending: str) -> bool:
    """Whether letters right after a number only say how it is counted; the number then holds them."""
    number = found[-1]
    if ending in _MULTIPLES and "." not in number.text:
        found[-1] = number._replace(text=f"#{int(number.text[1:]) * _MULTIPLES[ending]}")
        return True
    if ending in _ORDINAL:
        found[-1] = number._replace(text=number.text + ".")
        return True
    return False


def _words(word: str) -> Iterator[str]:
    if word in _RUN_TOGETHER:
        yield from _RUN_TOGETHER[word]
        return
    if word.endswith("nt") and word[:-2] in _NEGATED and word != "want":
        yield _NEGATED[word[:-2]]
        yield "not"
        return
    if "'" not in word:
        yield word
        return
    if word.endswith("n't") and word[:-3] in _NEGATED:
        yield _NEGATED[word[:-3]]
        yield "not"
        return
    head, _, rest = word.partition("'")
    if head in _ELIDED and rest:
        yield _ELIDED[head]
        yield from _words(rest)
    elif rest in _ENDINGS:
        yield head
        yield _ENDINGS[rest]
    else:
        yield from (part for part in word.split("'") if part)


def _sign(sign: str, text: str, start: int, end: int, comma: bool) -> Iterator[Token]:
    """Signs count between numbers, or where they are no punctuation."""
    if sign in _SIGNS:
        yield Token(_SIGNS[sign], sign, comma)
    elif sign in "-/":
        if text[:start].rstrip()[-1:].isdigit() and text[end:].lstrip()[:1].isdigit():
            yield Token(sign, sign, comma)
        elif sign == "/" and text[start - 1 : start].isalpha() and text[end : end + 1].isalpha():
            yield Token("or", sign, comma)
    else:
        yield Token(sign, sign, comma)
