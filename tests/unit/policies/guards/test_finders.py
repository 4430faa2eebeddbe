"""What the finders of secrets, personal data, links and keywords find and leave."""

import pytest

from policies.guards.exfiltration import exfiltration
from policies.guards.literals import literals
from policies.guards.personal_data import personal_data
from policies.guards.secrets import secrets
from policies.guards.spans import redact

SECRETS = {
    "key sk-proj-abcDEF1234567890abcdef.": "key [redacted api key].",
    "sk-ant-api03-abcdefghij1234567890": "[redacted api key]",
    "gsk_abcdefghij0123456789abcdefghij0123456789": "[redacted api key]",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv": "[redacted api key]",
    "id AKIAIOSFODNN7EXAMPLE": "id [redacted api key]",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345": "[redacted api key]",
    "xoxb-123456789012-abcdefABCDEF": "[redacted token]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U": "[redacted token]",
    "postgres://bob:hunter2@db.test:5432/x": "[redacted connection string]",
    "Authorization: Bearer abcdef1234567890XYZ": "Authorization: Bearer [redacted token]",
    'password = "hunter2abc"': 'password = "[redacted secret]"',
    "my api key is a1b2c3d4e5": "my api key is [redacted secret]",
}
NO_SECRETS = [
    "sk-learn is a library", "the password is wrong", "password: ********", "token: your_token_here", "task-force-of-nineteen-people",
    "https://example.com/a:b@c", "AKIA is a prefix", "a risk-based-approach-to-everything", "-----BEGIN PUBLIC KEY-----\nMIIB\n",
]  # fmt: skip
PERSONAL = {
    "write to bob.smith+x@mail.example.co.uk.": "write to [redacted email].",
    "call +49 30 901820, or": "call [redacted phone], or",
    "card 12 4111 1111 1111 1111": "card 12 [redacted card]",
    "378282246310005": "[redacted card]",
    "DE89 3704 0044 0532 0130 00 AND": "[redacted iban] AND",
    "ES9121000418450200051332": "[redacted iban]",
    "SSN 536-90-4399": "SSN [redacted national id]",
    "NINO AB 12 34 56 C": "NINO [redacted national id]",
    "fr 1 84 12 76 451 089 46": "fr [redacted national id]",
    "es 12345678Z": "es [redacted national id]",
    "de 86095742719": "de [redacted national id]",
    "it RSSMRA85T10A562S": "it [redacted national id]",
    "nl 111222333": "nl [redacted national id]",
    "pl 44051401359": "pl [redacted national id]",
    "br 111.444.777-35": "br [redacted national id]",
    "cn 11010519491231002X": "cn [redacted national id]",
    "in 2341 2341 2346": "in [redacted national id]",
    "ca 046 454 286": "ca [redacted national id]",
    "from 192.168.1.10": "from [redacted ip]",
    "from 2001:db8::1": "from [redacted ip]",
}
NOT_PERSONAL = [
    "4111 1111 1111 1112", "DE88 3704 0044 0532 0130 00", "ES9121000418450200051333", "SSN 000-90-4399", "es 12345678A", "de 86095742718",
    "pl 44051401358", "br 111.444.777-36", "cn 110105194912310021", "in 2341 2341 2347", "order 123456789012", "at 12:30:45", "version 1.2.3",
    "999.1.1.1", "1 2 3 4 5 6 7 8 9 10 11 12 13 14", "@bob", "std::vector<int>", "0000 0000 0000 0000",
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), SECRETS.items())
def test_secrets_are_found(text: str, wanted: str) -> None:
    assert redact(text, secrets().find(text)) == wanted


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, secrets().find(text)) == text


@pytest.mark.parametrize(("text", "wanted"), PERSONAL.items())
def test_personal_data_is_found(text: str, wanted: str) -> None:
    assert redact(text, personal_data().find(text)) == wanted


@pytest.mark.parametrize("text", NOT_PERSONAL)
def test_numbers_without_the_right_check_digits_stay(text: str) -> None:
    assert redact(text, personal_data().find(text)) == text


def test_kinds_and_countries_narrow_the_search() -> None:
    finder = personal_data(("us",), frozenset({"national id"}))
    assert (
        redact("536-90-4399 bob@mail.test 12345678Z", finder.find("536-90-4399 bob@mail.test 12345678Z"))
        == "[redacted national id] bob@mail.test 12345678Z"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    {
        "![x](https://evil.test/?q=1)": "![x]([redacted link])",
        "[ok](https://a.example.com/x)": "[ok](https://a.example.com/x)",
        "[ok](https://example.com)": "[ok](https://example.com)",
        "[no](https://notexample.com)": "[no]([redacted link])",
        "[no](https://example.com@evil.test/)": "[no]([redacted link])",
        "[no](//evil.test/x)": "[no]([redacted link])",
        "[no](https:\\\\evil.test)": "[no]([redacted link])",
        "[r]: https://evil.test/a": "[r]: [redacted link]",
        '<img src="https://evil.test/a.png">': '<img src="[redacted link]">',
        "<https://evil.test>": "<[redacted link]>",
        "see https://evil.test in plain words": "see https://evil.test in plain words",
        "[here](#top) [file](docs/a.md)": "[here](#top) [file](docs/a.md)",
    }.items(),
)
def test_links_leave_only_for_allowed_hosts(text: str, wanted: str) -> None:
    """Text that no renderer fetches by itself is not touched."""
    assert redact(text, exfiltration((".example.com",)).find(text)) == wanted


def test_keywords_are_whole_words_of_any_case() -> None:
    finder = literals(["red fox", "straße"], "keyword", whole_words=True)
    assert (
        redact("A RED FOX, red foxes, Straße.", finder.find("A RED FOX, red foxes, Straße."))
        == "A [redacted keyword], red foxes, [redacted keyword]."
    )


@pytest.mark.parametrize(
    "said", ["SIX KINDS", "\u017fix kinds", "s\u0131x k\u0131nds", "S\u0130X \u212a\u0130NDS", "s[x k]nds"]
)
def test_a_keyword_is_suspected_wherever_it_is_found(said: str) -> None:
    """Also in letters of which only one of the two engines knows that they are alike; a stream looks no further else."""
    finder = literals(["six kinds", "\u0131i\u0130I"], "keyword", whole_words=True)
    assert bool(finder.suspects(said)) == bool(finder.find(said)) == ("[" not in said)
    assert finder.find("iiii")


@pytest.mark.parametrize("words", [[], [""], ["x" * 201]])
def test_useless_keywords_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="texts of 1 to"):
        literals(words, "keyword", whole_words=True)
