"""What the gateway refuses to start with, and why it says so."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config_file import ConfigError, parse_config
from proxy.exposure import identity_notes
from proxy.identity import kept_secret
from proxy.weak import ADMIN_LENGTH, weakness

ROOT = Path(__file__).parents[3]
GOOD = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$RxDTyzTnPUi3vXcHPoJkRfEbbWmXbtKwvlBcBbdqBpY"
LOGIN = {"login": {"users": [{"name": "a", "password_hash": HASH}]}}
ISSUER = {"issuer": "https://i.example", "audience": "a", "jwks": "https://i.example/jwks"}


def problems(*, public: bool = True, **config: Any) -> list[str]:
    full = {
        "providers": {"fake": {"kind": "fake"}},
        "routes": {"r": {"deployments": [{"provider": "fake", "model": "m"}]}},
        "server": {"exposure": "public" if public else "loopback"},
        **config,
    }
    try:
        parse_config(yaml.safe_dump(full), {})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("authenticate", [{}, {"keys": True}, LOGIN, {"keys": False, "issuers": [ISSUER]}])
def test_public_wants_authentication_of_any_kind(authenticate: dict[str, object]) -> None:
    assert problems(authenticate=authenticate) == []


@pytest.mark.parametrize("config", [{}, {"authenticate": {"keys": False}}])
def test_public_without_authentication_does_not_start(config: dict[str, Any]) -> None:
    """Also with an admin key: it is one key for everything, and nobody's."""
    for secrets in ({}, {"admin_key": GOOD}):
        found = problems(**config, secrets=secrets)
        assert len(found) == 1
        assert found[0].startswith("server.exposure:")


@pytest.mark.parametrize(
    "weak",
    ["tiny-one", "a" * 40, "ab" * 20, "change-me-" + GOOD, "my-Sample-" + GOOD, "sk-1234", "your-secret-key-" + GOOD],
)
def test_weak_and_sample_secrets_are_for_this_machine_only(weak: str) -> None:
    """The reason is said, the secret is not."""
    for key in ("admin_key", "signing"):
        found = problems(authenticate=LOGIN, secrets={key: weak})
        assert len(found) == 1
        assert found[0].startswith(f"secrets.{key}: it ")
        assert weak not in found[0]
        assert problems(public=False, authenticate=LOGIN, secrets={key: weak}) == []


def test_good_and_empty_secrets_are_taken() -> None:
    """An empty one is made by the gateway itself."""
    assert problems(authenticate=LOGIN, secrets={"admin_key": GOOD, "signing": GOOD}) == []
    assert problems(authenticate=LOGIN, secrets={"admin_key": "", "signing": ""}) == []
    assert problems(authenticate={}, secrets={"signing": "short"}) == [], "nobody logs in: nothing is signed"


def test_what_the_sample_file_sets_is_refused_in_public() -> None:
    """Every value in `.env.example` that a key could be copied from."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {"API_SECRET_KEY", "LITELLM_MASTER_KEY"} <= values.keys()
    assert all(not values[name] or weakness(values[name], ADMIN_LENGTH) for name in values if name.endswith("_KEY"))


def test_the_documentations_password_opens_nothing_where_others_come() -> None:
    """Every hash that stands in our files with its password beside it."""
    files = [*ROOT.glob("docs/**/*"), *ROOT.glob("examples/**/*"), *ROOT.glob("deploy/**/*"), *ROOT.glob("*.*")]
    texts = [path.read_text() for path in files if path.is_file() and path.suffix in (".md", ".yaml", ".yml", ".sh")]
    hashes = {each for text in texts for each in re.findall(r"\$argon2id\$v=[^\"'\s]{40,}", text)}
    assert hashes
    for each in hashes:
        login = {"login": {"users": [{"name": "a", "password_hash": each}]}}
        [found] = problems(authenticate=login)
        assert found.startswith("authenticate.login.users[0].password_hash: ")
        assert problems(public=False, authenticate=login) == []


@pytest.mark.parametrize("key", ["two words", 'quo"ted', "a,b,c", "back\\slash", "schlüssel", "ta\tb"])
def test_an_admin_key_that_no_request_could_present_is_refused(key: str) -> None:
    """Rather than never accepted."""
    [found] = problems(public=False, secrets={"admin_key": key})
    assert found.startswith("secrets.admin_key: ")
    assert key not in found


@pytest.mark.parametrize(
    ("authenticate", "path"),
    [
        ({"watch": "6s"}, "authenticate.watch"),
        ({"login": {"access_ttl": "25h"}}, "authenticate.login.access_ttl"),
        ({"login": {"refresh_ttl": "1m"}}, "authenticate.login.refresh_ttl"),
        ({"login": {"users": [{"name": "a", "password_hash": "secret"}]}}, "authenticate.login.users[0].password_hash"),
        ({"login": {"users": [{"name": "", "password_hash": HASH}]}}, "authenticate.login.users[0].name"),
        ({"login": {"users": [{"name": "a", "password_hash": HASH}] * 2}}, "authenticate.login.users"),
        ({"issuers": [{**ISSUER, "jwks": "http://i.example/jwks"}]}, "authenticate.issuers[0].jwks"),
        ({"issuers": [{**ISSUER, "jwks": "file:///etc/passwd"}]}, "authenticate.issuers[0].jwks"),
        ({"issuers": [{**ISSUER, "audience": []}]}, "authenticate.issuers[0].audience"),
        ({"issuers": [{**ISSUER, "audience": ""}]}, "authenticate.issuers[0].audience"),
        ({"issuers": [{**ISSUER, "algorithms": []}]}, "authenticate.issuers[0].algorithms"),
        ({"issuers": [{**ISSUER, "algorithms": ["HS256"]}]}, "authenticate.issuers[0].algorithms[0]"),
        ({"issuers": [{**ISSUER, "algorithms": ["none"]}]}, "authenticate.issuers[0].algorithms[0]"),
        ({"issuers": [{**ISSUER, "issuer": "lockgate"}]}, "authenticate.issuers[0].issuer"),
        ({"issuers": [{**ISSUER, "name": "key:1"}]}, "authenticate.issuers[0].name"),
        ({"issuers": [ISSUER, {**ISSUER, "name": "other"}]}, "authenticate.issuers"),
        ({"issuers": [ISSUER, {**ISSUER, "issuer": "https://i.example/b"}]}, "authenticate.issuers"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_path(authenticate: dict[str, object], path: str) -> None:
    found = problems(public=False, authenticate=authenticate)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert HASH not in found[0]


def test_a_database_that_is_none_is_said_without_its_password() -> None:
    found = problems(public=False, authenticate={}, database="mysql://me:hunter2@host/x")
    assert found
    assert found[0].startswith("database:")
    assert "hunter2" not in found[0]


def test_several_instances_need_one_signing_secret() -> None:
    """`lockgate check` says so where it could matter."""
    base = "providers: {f: {kind: fake}}\nroutes: {r: {deployments: [{provider: f, model: m}]}}\nauthenticate: {login: {}}\n"
    assert identity_notes(parse_config(base, {})) == []
    shared = base + "database: postgresql://h/d\n"
    assert "secrets.signing" in identity_notes(parse_config(shared, {}))[0]
    assert identity_notes(parse_config(shared + f"secrets: {{signing: {GOOD}}}\n", {})) == []


def test_a_secret_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    made = kept_secret(path)
    assert len(made) == 64
    assert kept_secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"")
    with pytest.raises(OSError, match="signing secret"):
        kept_secret(path)


def test_check_says_it_beforehand_and_exits_2(tmp_path: Path) -> None:
    """As a user sees it."""
    path = tmp_path / "lockgate.yaml"
    path.write_text(
        "server: {host: 0.0.0.0}\nproviders: {f: {kind: fake}}\nroutes: {r: {deployments: [{provider: f, model: m}]}}\n"
        "authenticate: {login: {}}\nsecrets: {admin_key: sk-1234, signing: change-me}\n"
    )
    command = [sys.executable, "-m", "proxy.cli", "check", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["secrets.admin_key", "secrets.signing"]
