"""What must be true before others than this machine can reach the gateway, and what each refusal says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config_file import ConfigError, parse_config
from proxy.exposure import identity_notes
from proxy.weak import weakness

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {"providers": {"fake": {"kind": "fake"}}, "routes": {"m": {"deployments": [{"provider": "fake", "model": "fake/echo"}]}}}  # fmt: skip
GOOD = "8f14e45fceea167a5a36dedd4bea2543"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$RxDTyzTnPUi3vXcHPoJkRfEbbWmXbtKwvlBcBbdqBpY"
LOGIN = {"login": {"users": [{"name": "a", "password_hash": HASH}]}}
PUBLIC = {"server": {"exposure": "public"}}
ISSUER = {"issuer": "https://i", "audience": "a", "jwks": "https://i/jwks"}


def problems(*parts: dict[str, Any]) -> list[str]:
    merged: dict[str, Any] = dict(SMALL)
    for part in parts:
        merged |= part
    try:
        parse_config(yaml.safe_dump(merged), {})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    "off", [{}, {"authenticate": {"keys": False}}, {"authenticate": {"keys": False, "issuers": []}}]
)
@pytest.mark.parametrize("server", [{"exposure": "public"}, {"host": "0.0.0.0"}, {"host": "192.0.2.1"}])
def test_nobody_else_reaches_a_gateway_without_authentication(server: dict[str, Any], off: dict[str, Any]) -> None:
    """An admin key alone is none; exposure: loopback says that something else keeps others out."""
    found = problems({"server": server}, off, {"secrets": {"admin_key": GOOD}})
    assert [each.partition(":")[0] for each in found] == ["server.exposure"]
    assert "authenticate" in found[0]
    assert problems({"server": server}, {"authenticate": {}}) == []
    assert problems({"server": {"host": "0.0.0.0", "exposure": "loopback"}}) == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("change-me", "sample"), ("sk-1234", "sample"), ("your-secret-key-here-and-long-enough-too", "sample"),
        ("my-super-PASSWORD-that-is-very-long-indeed", "sample"), ("x7-q", "shorter"), ("a" * 40, "varies"),
        ("abababababababababababababababababab", "varies"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["admin_key", "signing"])
def test_weak_secrets_are_refused_where_others_come(name: str, secret: str, why: str) -> None:
    """With the reason and without the secret; on this machine alone they are taken."""
    parts = ({"authenticate": LOGIN}, {"secrets": {name: secret}})
    [found] = problems(PUBLIC, *parts)
    assert found.startswith(f"secrets.{name}: ")
    assert why in found
    assert secret not in found
    assert problems(*parts) == []


def test_good_secrets_and_none_are_taken() -> None:
    """A signing secret that is not configured is made; one that signs nothing does not matter."""
    assert problems(PUBLIC, {"authenticate": LOGIN}, {"secrets": {"admin_key": GOOD, "signing": GOOD}}) == []
    assert problems(PUBLIC, {"authenticate": LOGIN}) == []
    assert problems(PUBLIC, {"authenticate": {}}, {"secrets": {"signing": "weak"}}) == []


def test_every_value_of_the_sample_files_is_weak() -> None:
    """Whoever copies `.env.example` and opens the gateway is told."""
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, _, value = line.partition("=")
        if name in ("API_SECRET_KEY", "LITELLM_MASTER_KEY") and value:
            assert weakness(value, 16) is not None


def test_the_documentations_password_opens_nothing_where_others_come() -> None:
    """Every hash that stands in our files with its password beside it."""
    files = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*"), *ROOT.glob("*.y*ml"), ROOT / "README.md"]
    texts = [path.read_text() for path in files if path.is_file() and path.suffix in (".md", ".yaml", ".yml", ".sh")]
    hashes = {each for text in texts for each in re.findall(r"\$argon2id\$[^\"'\s]+", text)}
    assert hashes
    for each in hashes:
        login = {"authenticate": {"login": {"users": [{"name": "a", "password_hash": each}]}}}
        [found] = problems(PUBLIC, login)
        assert found.startswith("authenticate.login.users[0].password_hash: ")
        assert problems(login) == []


@pytest.mark.parametrize("key", ["two words", 'quo"ted', "a,b,c", "back\\slash", "schlüssel", "ta\tb"])
def test_an_admin_key_that_no_request_could_present_is_refused(key: str) -> None:
    """Rather than never accepted."""
    [found] = problems({"secrets": {"admin_key": key}})
    assert found.startswith("secrets.admin_key: ")
    assert key not in found


@pytest.mark.parametrize(
    ("authenticate", "path"),
    [
        ({"watch": "6s"}, "authenticate.watch"),
        ({"watch": "0s"}, "authenticate.watch"),
        ({"login": {"access_ttl": "25h"}}, "authenticate.login.access_ttl"),
        ({"login": {"access_ttl": "2h", "refresh_ttl": "1h"}}, "authenticate.login.refresh_ttl"),
        ({"login": {"users": [{"name": "a", "password_hash": "plain"}]}}, "authenticate.login.users[0].password_hash"),
        ({"login": {"users": [{"name": "", "password_hash": HASH}]}}, "authenticate.login.users[0].name"),
        ({"login": {"users": [{"name": "a", "password_hash": HASH}] * 2}}, "authenticate.login.users"),
        ({"issuers": [ISSUER | {"jwks": "http://i/jwks"}]}, "authenticate.issuers[0].jwks"),
        ({"issuers": [ISSUER | {"jwks": "file:///etc/passwd"}]}, "authenticate.issuers[0].jwks"),
        ({"issuers": [ISSUER | {"audience": ""}]}, "authenticate.issuers[0].audience"),
        ({"issuers": [ISSUER | {"audience": []}]}, "authenticate.issuers[0].audience"),
        ({"issuers": [ISSUER | {"issuer": "lockgate"}]}, "authenticate.issuers[0].issuer"),
        ({"issuers": [ISSUER | {"algorithms": []}]}, "authenticate.issuers[0].algorithms"),
        ({"issuers": [ISSUER | {"name": "a/b"}]}, "authenticate.issuers[0].name"),
        ({"issuers": [ISSUER | {"algorithms": ["HS256"]}]}, "authenticate.issuers[0].algorithms[0]"),
        ({"issuers": [ISSUER | {"algorithms": ["none"]}]}, "authenticate.issuers[0].algorithms[0]"),
    ],
)
def test_what_cannot_be_meant_is_named(authenticate: dict[str, Any], path: str) -> None:
    """And the password of the plain kind is not repeated."""
    found = problems({"authenticate": authenticate})
    assert path in [each.partition(": ")[0] for each in found]
    assert not any("plain" in each for each in found)


def test_two_issuers_of_one_name_are_refused() -> None:
    """Their owners would be each other's."""
    found = problems({"authenticate": {"issuers": [ISSUER, ISSUER | {"issuer": "https://i/other"}]}})
    assert found == ["authenticate.issuers: 'i' is the name of two"]


def test_several_instances_are_told_to_share_the_signing_secret() -> None:
    """`lockgate check` says so."""
    config = yaml.safe_dump(SMALL | {"authenticate": LOGIN, "database": "postgresql://u:pw-of-u@h/d"})
    [note] = identity_notes(parse_config(config, {}))
    assert "secrets.signing" in note
    assert "pw-of-u" not in repr(parse_config(config, {}))
    assert identity_notes(parse_config(yaml.safe_dump(SMALL | {"authenticate": LOGIN}), {})) == []
