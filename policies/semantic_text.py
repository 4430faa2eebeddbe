"""Which calls the semantic cache considers, and what of them it compares."""

import re
import unicodedata
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from policies.fingerprint import canonical_value
from policies.pair_guard.tokens import spell
from proxy.call import Call
from proxy.endpoints import CHAT

_FILE: Final = Path(__file__).with_name("semantic_words.yaml")
_BLANKS: Final = re.compile(r"\s+")
_CODE: Final = re.compile(
    r"```|~~~|^(?: {4}|\t)\S.*\n(?: {4}|\t)|</\w+>|[{};]\s*\n|=>|\(\)\s*[:{]|def \w+\(|\$\(", re.MULTILINE
)
_PRIVATE: Final = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+"  # mail addresses
    r"|https?://\S+"
    r"|(?<!\w)\+?\d(?:[ .()/-]{0,2}\d){8,}"  # phone, card and account numbers
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9]{12,}\b"  # long ids
    r"|\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"  # UUIDs
    r"|\b[A-Z]{2,}[-_]?\d{4,}\b|#\d{4,}|\b\d{7,}\b"  # order and ticket numbers
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b"  # addresses of machines
)
_TOKENS_A_WORD: Final = 1.35
_BYTES_A_TOKEN: Final = 4
_LONGEST: Final = 256
"""Tokens: longer texts hold more than a vector of a sentence can say."""


class Compared(NamedTuple):
    """The last user turn in canonical form, and everything else that was said, as bytes to be equal."""

    text: str
    rest: bytes


class Unfit(NamedTuple):
    """Why a call is not compared."""

    why: str


class Eligibility:
    """Finds what is compared. `window` is the most tokens that the embedder reads."""

    def __init__(self, words: "Words", window: int) -> None:
        self._deictic = _pattern(words.deictic)
        self._time = _pattern(words.time)
        self._window = min(window, _LONGEST)

    def read(self, call: Call) -> Compared | Unfit:
        """What is compared of this call, or why nothing is."""
        if call.endpoint is not CHAT:
            return Unfit(f"the endpoint {call.endpoint.name}")
        try:
            messages = msgspec.json.decode(call.head.members["messages"])
            last = messages[-1]
            text = _only_text(last)
        except (AttributeError, KeyError, IndexError, TypeError, msgspec.DecodeError):
            return Unfit("no messages")
        if text is None:
            return Unfit("the last message is not one text of the user")
        why = self.why_not(text)
        if why is not None:
            return Unfit(why)
        rest = {name: value for name, value in last.items() if name != "content"}
        return Compared(canonical_text(text), canonical_value(msgspec.json.encode([*messages[:-1], rest])))

    def why_not(self, text: str) -> str | None:
        """Why a text is not compared; None when it is."""
        if not text.strip():
            return "it is empty"
        if max(len(text.encode()) / _BYTES_A_TOKEN, text.count(" ") * _TOKENS_A_WORD) > self._window:
            return f"it may have more than {self._window} tokens"
        if _CODE.search(text):
            return "it holds code"
        plain = canonical_text(spell(text))  # no kind of blank, hyphen or accent gets a text past what follows
        if _PRIVATE.search(plain):
            return "it holds an address, a number or an id"
        lower = plain.lower()
        if self._deictic.search(lower):
            return "it points at something outside of it"
        if self._time.search(lower):
            return "its answer may change with time"
        return None


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`semantic_words.yaml`."""

    version: int
    deictic: str
    time: str

    @classmethod
    def load(cls) -> "Words":
        """As shipped."""
        return msgspec.convert(yaml.safe_load(_FILE.read_text(encoding="utf-8")), cls)


def canonical_text(text: str) -> str:
    """Unicode NFC and single blanks; case and punctuation stay, for they change answers."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", text)).strip()


def _only_text(message: dict[str, Any]) -> str | None:
    """The text of a user's message that is one text and nothing else."""
    if message.get("role") != "user":
        return None
    content = message["content"]
    if isinstance(content, str):
        return content
    if len(content) != 1 or content[0].get("type") != "text" or set(content[0]) - {"type", "text"}:
        return None
    text = content[0]["text"]
    return text if isinstance(text, str) else None


def _pattern(words: str) -> re.Pattern[str]:
    phrases = sorted((re.escape(each.replace("_", " ")) for each in words.split()), key=len, reverse=True)
    return re.compile(rf"(?<![\w'])(?:{'|'.join(phrases)})(?![\w'])")
