"""One request presents one key, or none, or is refused: the same every time, whatever the headers look like."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.credentials import presented
from proxy.errors import BadRequest, GatewayError, Unauthenticated

KEY = "sk-lg-" + "a" * 43


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"authorization": f"BEARER   {KEY}  "},
        {"x-api-key": KEY},
        {"api-key": f" {KEY} "},
        {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "api-key": KEY},
        {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": KEY},
        {"authorization": "Bearer ", "api-key": KEY},
        {"x-api-key": "", "api-key": KEY},
    ],
)
def test_all_forms_present_the_same_key(headers: dict[str, str]) -> None:
    """Whatever else stands there that is no key."""
    assert presented(headers) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer   "},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer{KEY}"},
        {"x-api-key": "  "},
        {"cookie": KEY},
    ],
)
def test_no_key_is_told_from_a_bad_one(headers: dict[str, str]) -> None:
    """The code is null, and the client is asked for a bearer token."""
    with pytest.raises(Unauthenticated) as caught:
        presented(headers)
    assert caught.value.code is None
    assert caught.value.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}", "x-api-key": "other"},
        {"authorization": f"Bearer {KEY}", "api-key": KEY + "a"},
        {"x-api-key": KEY, "api-key": "other"},
    ],
)
def test_different_keys_are_refused(headers: dict[str, str]) -> None:
    """And not ranked."""
    with pytest.raises(BadRequest) as caught:
        presented(headers)
    assert caught.value.code == "conflicting_credentials"


@pytest.mark.parametrize("bad", [f"{KEY}, Bearer {KEY}", f"{KEY}, {KEY}", f"{KEY} x", "clé", "a\x00b", "a\tb", '"a"'])
def test_what_cannot_be_a_key_is_a_bad_one(bad: str) -> None:
    """A header that stands twice comes joined by a comma."""
    with pytest.raises(Unauthenticated) as caught:
        presented({"authorization": f"Bearer {bad}"})
    assert caught.value.code == "invalid_api_key"


LATIN = st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=60)
VALUE = LATIN | st.just(KEY) | LATIN.map(lambda text: f"Bearer {text}") | st.just(f"Bearer {KEY}")


def outcome(headers: dict[str, str]) -> tuple[str, str]:
    """The key, or the code and the words of the refusal."""
    try:
        return "key", presented(headers)
    except GatewayError as error:
        return str(error.code), error.message


REFUSALS = {outcome({}), outcome({"x-api-key": "one", "api-key": "other"}), outcome({"api-key": "clé"})}


@given(st.dictionaries(st.sampled_from(["authorization", "x-api-key", "api-key", "host"]), VALUE))
@example({"x-api-key": "0", "api-key": "x-api-key"})
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    """A key of visible characters that was sent, or a refusal in words that no header changes: the same in whatever order."""
    code, said = outcome(headers)
    if code == "key":
        assert set(said) <= set(string.printable) - set(string.whitespace)
        assert any(said in value for value in headers.values())
    else:
        assert (code, said) in REFUSALS
    assert outcome(dict(reversed(headers.items()))) == (code, said)
