"""E-mail addresses, phone numbers, payment cards, bank accounts, national ids, IP addresses.

Check digits are verified where a number has them, so that order numbers pass: Luhn (ISO/IEC 7812-1) for cards, MOD 97-10
(ISO 7064) for IBAN, and each national id by its authority's published rule.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from policies.guards.settings import PersonalDataConfig
from policies.guards.spans import Pattern, Patterns, SpanGuard

# Lengths of the SWIFT IBAN registry.
_IBAN: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
    "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30,
    "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31,
    "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24,
    "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
# A number with blanks has at most 68 characters; it may grow while the text ends in characters that such numbers hold.
_OPEN: Final = re.compile(r"(?:[A-Z]{2}\d{2}[A-Z0-9 ]{0,68}|[+(]?[\dA-Z][\dA-Z ().+/-]{0,48})\Z", re.ASCII)
_BEGINS: Final = re.compile(r"[0-9A-Z+(]")
_WINDOW: Final = 72
# All have a digit or an @, but for an IPv6 address, which has two colons.
_SUSPECTS: Final = re.compile(r"[0-9@]|:[0-9A-Fa-f]{0,4}:")
_ALPHABET: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def _digits(text: str) -> list[int]:
    return [int(char) for char in text if char.isdigit()]


def luhn(text: str) -> bool:
    """The check digit of ISO/IEC 7812-1; false for a number of one repeated digit."""
    digits = _digits(text)
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return len(set(digits)) > 1 and (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _card(text: str) -> bool:
    return 13 <= len(_digits(text)) <= 19 and text[0] in "23456" and luhn(text)


def iban(text: str) -> bool:
    """ISO 13616: the country's length and MOD 97-10."""
    plain = text.replace(" ", "")
    if _IBAN.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _weighted(text: str, weights: tuple[int, ...], modulus: int) -> int:
    return sum(digit * weight for digit, weight in zip(_digits(text), weights, strict=False)) % modulus


def _us(text: str) -> bool:
    area, group, serial = text[:3], text[4:6], text[7:]
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def _fr(text: str) -> bool:
    digits = "".join(map(str, _digits(text.replace("2A", "19").replace("2B", "18"))))
    return len(digits) == 15 and 97 - int(digits[:13]) % 97 == int(digits[13:])


def _es(text: str) -> bool:
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2").rstrip("-")
    return _ALPHABET[int(number) % 23] == text[-1]


def _de(text: str) -> bool:
    """The tax id: ISO 7064 MOD 11,10."""
    digits, product = _digits(text), 10
    for digit in digits[:-1]:
        product = ((product + digit) % 10 or 10) * 2 % 11
    return (
        len(digits) == 11 and digits[0] != 0 and (11 - product) % 10 == digits[-1] and 7 <= len(set(digits[:-1])) <= 9
    )


def _nl(text: str) -> bool:
    return _weighted(text, (9, 8, 7, 6, 5, 4, 3, 2, -1), 11) == 0 and len(set(text)) > 1


def _pl(text: str) -> bool:
    month = int(text[2:4]) % 20
    return (
        1 <= month <= 12 and 1 <= int(text[4:6]) <= 31 and _weighted(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), 10) == 0
    )


def _br(text: str) -> bool:
    digits = _digits(text)
    if len(set(digits)) == 1:
        return False
    return all(
        sum(d * w for d, w in zip(digits, range(n + 1, 1, -1), strict=False)) * 10 % 11 % 10 == digits[n]
        for n in (9, 10)
    )


def _it(text: str) -> bool:
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True))  # fmt: skip
    total = sum(odd[c] if i % 2 == 0 else int(c) if c.isdigit() else ord(c) - 65 for i, c in enumerate(text[:15]))
    return chr(65 + total % 26) == text[15]


def _cn(text: str) -> bool:
    return (
        "10X98765432"[_weighted(text[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), 11)]
        == text[-1].upper()
    )


def _in(text: str) -> bool:
    """Aadhaar: Verhoeff's dihedral check."""
    product = [
        [
            (i + j) % 5 if i < 5 and j < 5 else (i + j) % 5 + 5 if i < 5 else (i - j) % 5 + 5 if j < 5 else (i - j) % 5
            for j in range(10)
        ]
        for i in range(10)
    ]
    shift, check = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4], 0
    for position, digit in enumerate(reversed(_digits(text))):
        moved = digit
        for _ in range(position % 8):
            moved = shift[moved]
        check = product[check][moved]
    return check == 0


def _phone(text: str) -> bool:
    return 8 <= len(_digits(text)) <= 15


def _ipv4(text: str) -> bool:
    return all(int(part) < 256 and str(int(part)) == part for part in text.split(".")) and text not in {
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
    }


def _ipv6(text: str) -> bool:
    try:
        return not ipaddress.IPv6Address(text).is_loopback
    except ValueError:
        return False


def _number(what: str, body: str, valid: Callable[[str], bool] | None) -> Pattern:
    return Pattern(what, body, re.compile(rf"(?<![A-Za-z0-9])(?=({body})(?![A-Za-z0-9]))", re.ASCII), valid)


def _local_phone(body: str) -> Pattern:
    """A phone number without a country: not within a longer row of numbers."""
    return Pattern(
        "phone", body, re.compile(rf"(?<![A-Za-z0-9])(?<!\d[ .-])(?=({body})(?![A-Za-z0-9]|[ .-]\d))", re.ASCII)
    )


def _open_from(text: str) -> int:
    start = max(0, len(text) - _WINDOW)
    if _BEGINS.search(text, start) is None:
        return len(text)
    found = _OPEN.search(text, start)
    return found.start() if found else len(text)


# Countries whose national ids are looked for, each with its check.
IDS: Final = {
    "us": _number("national id", r"\d{3}-\d{2}-\d{4}", _us),
    "gb": _number("national id", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", None),
    "fr": _number("national id", r"[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2A|2B) ?\d{3} ?\d{3} ?\d{2}", _fr),
    "es": _number("national id", r"(?:\d{8}|[XYZ]\d{7})-?[A-HJ-NP-TV-Z]", _es),
    "de": _number("national id", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", _de),
    "it": _number("national id", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", _it),
    "nl": _number("national id", r"\d{9}", _nl),
    "pl": _number("national id", r"\d{11}", _pl),
    "br": _number("national id", r"\d{3}\.\d{3}\.\d{3}-\d{2}", _br),
    "cn": _number("national id", r"\d{6}(?:19|20)\d{2}(?:0[1-9]|1[0-2])\d{5}[\dX]", _cn),
    "in": _number("national id", r"[2-9]\d{3} \d{4} \d{4}", _in),
    "ca": _number("national id", r"\d{3}[ -]\d{3}[ -]\d{3}", luhn),
}


def personal_data(countries: tuple[str, ...] = tuple(IDS), kinds: frozenset[str] | None = None) -> Patterns:
    """The finder of personal data; `kinds` limits it to some of: email, phone, card, iban, national id, ip."""
    ibans = [
        Pattern("iban", rf"[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]){{{size - 4}}}",
                re.compile(rf"(?<![A-Za-z0-9])(?=((?:{'|'.join(c for c, n in _IBAN.items() if n == size)})\d{{2}}(?: ?[A-Z0-9]){{{size - 4}}})(?![A-Za-z0-9]))", re.ASCII), iban)
        for size in sorted(set(_IBAN.values()))
    ]  # fmt: skip
    found = (
        Pattern("email", r"[A-Za-z0-9._%+-]@[A-Za-z0-9-]", re.compile(r"(?<![A-Za-z0-9._%+-])(?=([A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?![A-Za-z0-9]))")),
        _number("card", r"\d{13,19}", _card),
        _number("card", r"\d{4} \d{4} \d{4} \d{4}(?: \d{3})?", _card),
        _number("card", r"\d{4} \d{4} \d{4} \d{4}", _card),
        _number("card", r"\d{4}-\d{4}-\d{4}-\d{4}", _card),
        _number("card", r"\d{4}[ -]\d{6}[ -]\d{4,5}", _card),
        *ibans,
        Pattern("phone", r"\+[1-9]\d{0,2}[ .-]?\(?\d", re.compile(r"(?<![A-Za-z0-9+])(?=(\+[1-9]\d{0,2}(?:[ .-]?\(?\d{1,4}\)?){2,7})(?!\d))", re.ASCII), _phone),
        _local_phone(r"\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"),
        _local_phone(r"0[1-9](?:[ .-]\d{2}){4}"),
        _local_phone(r"0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}"),
        *(IDS[country] for country in countries),
        _number("ip", r"(?:\d{1,3}\.){3}\d{1,3}", _ipv4),
        Pattern("ip", r"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{2}", re.compile(r"(?<![0-9A-Za-z:.])(?=((?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4})(?![0-9A-Za-z:.]))"), _ipv6),
    )  # fmt: skip
    return Patterns((pattern for pattern in found if kinds is None or pattern.what in kinds), _open_from, _SUSPECTS)


def build(config: PersonalDataConfig) -> SpanGuard:
    """The guard."""
    finder = personal_data(config.countries or tuple(IDS), frozenset(config.kinds) or None)
    return SpanGuard("personal_data", finder, f"{config.kinds} {config.countries}")
