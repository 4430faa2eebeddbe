"""Provider keys, tokens, private keys, connection strings."""

import math
import re
from collections import Counter
from typing import Final

from policies.guards.spans import Pattern, Patterns, SpanGuard

# What every secret has in it: a digit, a scheme, a mark, or sixteen characters in a row.
_SUSPECTS: Final = re.compile(r"[0-9]|://|-----BEGIN|[!-~]{16}")
_MARGIN: Final = 200  # a private key that has not gone on for so many characters is over
_PEM_OPEN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,36}(?:-{0,5}\Z|PRIVATE KEY)")
_PEM: Final = (
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:\s|\\n|\\r){1,4}(?:Proc-Type|DEK-Info|Version|Comment|Hash): [^\n\\]{1,90}){0,3}"
    r"(?:(?:\s|\\n|\\r|[\"'+,]){1,8}[A-Za-z0-9+/=]{16,128}){1,400}"
    r"(?:(?:\s|\\n|\\r|[\"'+,]){1,8}[A-Za-z0-9+/=]{1,15}){0,2}"
    r"(?:(?:\s|\\n|\\r|[\"'+,]){0,8}-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_KEY_NAME: Final = r"(?:api[ _-]?key|secret|token|passwd|password|passwort|pwd|passphrase|access[ _-]?key|client[ _-]?secret|private[ _-]?key|auth[ _-]?key)"


_DIGIT: Final = re.compile(r"[0-9]")
_LETTER: Final = re.compile(r"[A-Za-z]")


def _mixed(value: str) -> bool:
    """A made-up string rather than a word or a placeholder: letters and digits, at least 2.5 bits a character."""
    if not (_DIGIT.search(value) and _LETTER.search(value)):
        return False
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values()) >= 2.5  # noqa: PLR2004


def _token(what: str, body: str, inner: str = r"A-Za-z0-9_-") -> Pattern:
    """A token of printable characters with a prefix of its own, bounded by characters that it cannot hold.

    What follows a repeated class is never of that class, so the repetitions give nothing back: time stays linear.
    """
    firm = re.sub(r"\{\d+,\d+\}", r"\g<0>+", body)
    return Pattern(
        what,
        re.sub(r"\{(\d+),\d+\}", r"{\1,}", body),
        re.compile(rf"(?<![A-Za-z0-9_])(?=({firm})(?![{inner}]))", re.ASCII),
    )


def _open_from(text: str) -> int:
    """A private key spans lines: it stays open until its end mark, or until what follows is none of it."""
    start = text.rfind("-----BEGIN ")
    if start < 0:
        return len(text)
    last = None
    for last in _PEM_OPEN.finditer(text):
        key = _PEM_REGEX.match(text, last.start())
        end = key.end(1) if key else last.end()
        closed = key is not None and text.endswith("-----", last.end(), end) and "-----END" in text[last.end() : end]
        if not closed and len(text) - end < _MARGIN:
            return last.start()
    return len(text)


_PEM_REGEX: Final = re.compile(rf"(?=({_PEM}))", re.ASCII)


def secrets() -> Patterns:
    """The finder of secrets. Values after `password:` and the like count when they are mixed; examples are not spared."""
    return Patterns(
        (
            _token("api key", r"sk-[A-Za-z0-9_-]{16,256}"),
            _token("api key", r"(?:gsk|xai|r8|fw|nvapi|pplx|tvly|hf|api_org|csk|sk_live|sk_test|rk_live|rk_test|pk_live|whsec|lsv2_pt|lin_api|ntn|shpat|shpss|dop_v1|doo_v1|npm|ghp|gho|ghu|ghs|ghr|glpat|rubygems|sbp|phc|phx)[_-][A-Za-z0-9_-]{16,255}"),
            _token("api key", r"AIza[0-9A-Za-z_-]{35}"),
            _token("api key", r"github_pat_[A-Za-z0-9_]{22,255}"),
            _token("api key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", r"A-Za-z0-9"),
            _token("token", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
            _token("token", r"xapp-\d-[A-Za-z0-9-]{10,250}"),
            _token("token", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
            _token("token", r"pypi-[A-Za-z0-9_-]{50,512}"),
            _token("token", r"hv[sbr]\.[A-Za-z0-9_-]{20,256}"),
            _token("token", r"ya29\.[A-Za-z0-9_-]{20,512}"),
            _token("token", r"\d{8,10}:[A-Za-z0-9_-]{35}"),
            _token("token", r"eyJ[A-Za-z0-9_-]{8,1024}\.eyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{8,900}"),
            _token("url", r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,80}"),
            _token("url", r"https://(?:discord|discordapp)\.com/api/webhooks/[0-9]{8,24}/[A-Za-z0-9_-]{20,100}"),
            Pattern("connection string", r"[A-Za-z][A-Za-z0-9+.-]{1,24}://[!-9;-?A-~]{0,128}:[!-.0-?A-~]{1,256}@",
                    re.compile(r"(?<![A-Za-z0-9+.-])(?=([A-Za-z][A-Za-z0-9+.-]{1,24}://[!-.0-9;-?A-~]{0,128}+:[!-.0-?A-~]{1,256}+@[A-Za-z0-9_.:\[\]/?&=%,-]{1,512}))")),
            Pattern("connection string", r"AccountKey=[A-Za-z0-9+/=]{40}", re.compile(r"(?=(AccountKey=[A-Za-z0-9+/=]{40,128}))")),
            Pattern("token", r"(?i)(?:bearer|basic) [A-Za-z0-9._~+/=-]{16}",
                    re.compile(r"(?i:(?<=bearer )|(?<=basic ))(?=([A-Za-z0-9._~+/=-]{16,2048}))"), _mixed),
            Pattern("secret", rf"(?i){_KEY_NAME}[\"'`]?\s{{0,3}}(?:=>|:=|[:=]|\bis\b)\s{{0,3}}[\"'`]?[!-~]{{8}}",
                    re.compile(rf"(?i:{_KEY_NAME})[\"'`]?\s{{0,3}}(?:=>|:=|[:=]|\bis\b)\s{{0,3}}[\"'`]?(?=([!#-&(-+\--:<-_a-~]{{8,256}}))"), _mixed),
            Pattern("private key", r"-----BEGIN [A-Z0-9 ]{0,36}PRIVATE KEY", _PEM_REGEX),
        ),
        _open_from,
        _SUSPECTS,
    )  # fmt: skip


def build() -> SpanGuard:
    """The guard."""
    return SpanGuard("secrets", secrets(), "")
