"""Other readings of a text: what it says once decoded, unspaced, turned round. Each is made only when the text looks like it."""

import base64
import binascii
import codecs
import html
import re
import urllib.parse
from collections.abc import Iterator
from typing import Final

import re2

from policies.guards.normalise import LOOKALIKES

_MOST: Final = 4  # views of one text
_DEPTH: Final = 3  # encodings within encodings
_READABLE: Final = 0.9  # share of printable characters of a text worth reading

_BASE64: Final = re2.compile(rb"[A-Za-z0-9+/_-]{20,}={0,2}")
_BASE32: Final = re2.compile(rb"[A-Z2-7]{32,}={0,6}")
_HEX: Final = re.compile(r"(?:(?:\\x|0x|%)?[0-9a-fA-F]{2}[ :,;-]?){12,}")
_BINARY: Final = re.compile(r"(?:[01]{7,8}[ ,;]{0,2}){5,}")
_MORSE: Final = re.compile(r"(?:[.·\-−–_]{1,6}[ /|]{1,3}){10,}[.·\-−–_]{0,6}")
_ESCAPE: Final = re.compile(r"\\u\{?([0-9a-fA-F]{4,5})\}?|\\x([0-9a-fA-F]{2})")
_JOINED: Final = re.compile(r"(?<!\w)(?:\w[._*|~+\-/\\]){2,}\w(?!\w)")
_SEPARATOR: Final = re.compile(r"[._*|~+\-/\\]")
_WIDE_GAP: Final = re.compile(r"[ \t]{2,}|\n|[ \t]*[|/_][ \t]*")
_ALONE: Final = re.compile(r"(?<!\S)(?:\w ){3,}\w(?!\S)")
_LEET: Final = str.maketrans("0134578@$!|+€£", "oieastbasilteg"[:14])
_LEET_WORD: Final = re2.compile(rb"[a-z][013457@$!8][a-z]|\b[013457@$!][a-z]{2}|[a-z]{2}[013457@$][^0-9a-z]")
# Frequent words of requests and of attacks; those that are words of some language when disguised are left out.
_FREQUENT: Final = [
    "the",
    "and",
    "you",
    "your",
    "this",
    "that",
    "with",
    "from",
    "what",
    "will",
    "please",
    "tell",
    "give",
    "show",
    "write",
    "text",
    "prompt",
    "system",
    "message",
    "ignore",
    "forget",
    "disregard",
    "previous",
    "prior",
    "above",
    "instructions",
    "instruction",
    "rules",
    "guidelines",
    "password",
    "secret",
    "reveal",
    "repeat",
    "print",
    "output",
    "execute",
    "without",
    "never",
    "must",
    "follow",
    "answer",
    "everything",
    "following",
    "pretend",
    "mode",
    "developer",
    "restrictions",
    "respond",
    "model",
    "language",
    "say",
    "now",
    "code",
    "word",
    "words",
    "before",
    "have",
    "should",
    "which",
    "would",
    "about",
    "user",
    "admin",
    "access",
    "key",
]
_ROT13: Final = re2.compile(rf"\b(?:{'|'.join(codecs.encode(word, 'rot13') for word in _FREQUENT)})\b".encode())
_TURNED: Final = re2.compile(
    rf"\b(?:{'|'.join(word[::-1] for word in _FREQUENT if word not in {'and', 'now', 'say', 'key', 'mode'})})\b".encode()
)
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_ASCII: Final = bytes(range(128))
_ENOUGH: Final = 2  # words that give a disguise away
_SHORT: Final = 80  # characters of a text in which one such word is enough
_SEVERAL: Final = 3  # the same where harmless texts have them too
_ALPHABET: Final = dict(zip(
    [".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---", ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--.."],
    "abcdefghijklmnopqrstuvwxyz", strict=True,
))  # fmt: skip

_LOOKS: Final = ("base64", "hex", "binary", "morse", "escape", "percent", "html", "joined", "spaced")


def _probe() -> re2.Set:
    probe = re2.Set.SearchSet()
    for pattern in (
        r"[A-Za-z0-9+/_-]{20}",
        r"(?:(?:\\x|0x|%)?[0-9a-fA-F]{2}[ :,;-]?){12}",
        r"(?:[01]{7,8}[ ,;]{0,2}){5}",
        r"(?:[.·\-−–_]{1,6}[ /|]{1,3}){10}",
        r"\\u\{?[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}",
        r"(?:%[0-9a-fA-F]{2}[^%]{0,12}){2}",
        r"&(?:#\d+|#x[0-9a-fA-F]+|[a-z]{2,8});",
        r"(?:^|[^\pL\pN])(?:[\pL\pN][._*|~+\-/\\]){3}[\pL\pN]",
        r"(?:^|\s)(?:[\pL\pN][ \t_|/]{1,4}){5}",
    ):
        probe.Add(pattern)
    probe.Compile()
    return probe


_PROBE: Final = _probe()


def _readable(data: bytes) -> str:
    """The text that bytes are, or "" when they are none worth reading."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    printable = sum(char.isprintable() or char.isspace() for char in text)
    return text if len(text) >= 8 and printable >= _READABLE * len(text) else ""  # noqa: PLR2004


def _base64(text: str) -> Iterator[str]:
    data = text.encode("utf-8", "replace")
    for found in _BASE32.findall(data)[:_MOST]:
        body = found.rstrip(b"=")
        try:
            yield _readable(base64.b32decode(body + b"=" * (-len(body) % 8)))
        except (binascii.Error, ValueError):
            continue
    for found in _BASE64.findall(data)[:_MOST]:
        body = found.rstrip(b"=")
        body = body[: len(body) - (len(body) % 4 == 1)].translate(_URL_SAFE)
        try:
            yield _readable(base64.b64decode(body + b"=" * (-len(body) % 4)))
        except (binascii.Error, ValueError):
            continue


def _hex(text: str) -> Iterator[str]:
    for found in _HEX.findall(text)[:_MOST]:
        digits = re.sub(r"\\x|0x|[^0-9a-fA-F]", "", found)
        yield _readable(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _binary(text: str) -> Iterator[str]:
    for found in _BINARY.findall(text)[:_MOST]:
        yield _readable(bytes(int(octet, 2) for octet in re.findall(r"[01]{7,8}", found)))


def _morse(text: str) -> Iterator[str]:
    for found in _MORSE.findall(text)[:_MOST]:
        plain = found.translate(str.maketrans("·−–_", ".---"))
        words = re.split(r" {2,}|/|\|", plain)
        yield " ".join("".join(_ALPHABET.get(letter, "") for letter in word.split()) for word in words)


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1] or found[2], 16))


def _spaced(text: str) -> str:
    """Letters that stand alone, put together: words where wider gaps part them, else one run without spaces."""
    lines = []
    for part in _WIDE_GAP.split(text):
        letters = part.split()
        alone = sum(len(letter) == 1 for letter in letters)
        mostly = alone > 0.7 * len(letters)
        lines.append("".join(letters) if mostly else _ALONE.sub(lambda run: run[0].replace(" ", ""), part))
    return " ".join(lines)


def _decoded(text: str) -> Iterator[tuple[str, str]]:
    looks = {_LOOKS[index] for index in _PROBE.Match(text.encode("utf-8", "replace")) or ()}
    if not looks:
        return
    for name, decode in (("base64", _base64), ("hex", _hex), ("binary", _binary), ("morse", _morse)):
        if name in looks:
            joined = " ".join(filter(None, decode(text)))
            if joined:
                yield name, joined
    if "escape" in looks:
        yield "escape", _ESCAPE.sub(_unescape, text)
    if "percent" in looks:
        yield "percent", urllib.parse.unquote(text.replace("+", " "))
    if "html" in looks:
        yield "html", html.unescape(text)
    if "joined" in looks:
        yield "joined", _JOINED.sub(lambda found: _SEPARATOR.sub("", found[0]), text)
    if "spaced" in looks:
        yield "spaced", _spaced(text)


def _turned(plain: str) -> Iterator[tuple[str, str]]:
    data = plain.encode("utf-8", "replace")
    if len(_LEET_WORD.findall(data)) >= _SEVERAL:
        yield "leet", plain.translate(_LEET)
    enough = 1 if len(plain) < _SHORT else _ENOUGH
    if len(_ROT13.findall(data)) >= enough:
        yield "rot13", codecs.decode(plain, "rot13")
    if len(_TURNED.findall(data)) >= enough:
        yield "reversed", plain[::-1]
        yield "reversed", " ".join(word[::-1] for word in plain.split())
    foreign = data.translate(None, _ASCII).decode("utf-8")
    if len(foreign) > _SEVERAL:
        latin = foreign.translate(LOOKALIKES).encode("ascii", "ignore")
        if len(latin) > 0.8 * len(foreign):
            yield "lookalikes", plain.translate(LOOKALIKES)


def views(text: str, plain: str) -> list[tuple[str, str]]:
    """At most four other readings of a text, (how, reading), none longer than it. `plain` is its plain form."""
    found: list[tuple[str, str]] = []
    layer = [("", text)]
    for _ in range(_DEPTH):
        layer = [(f"{outer}{how}", inner[: len(text)]) for outer, body in layer for how, inner in _decoded(body)
                 if inner != body][:_MOST]  # fmt: skip
        found += layer
        if not layer:
            break
        layer = [(f"{how}+", body) for how, body in layer]
    found += _turned(plain)
    return found[:_MOST] if len(found) <= _MOST else found[:2] + found[-2:]
