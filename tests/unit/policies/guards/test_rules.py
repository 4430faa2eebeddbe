"""Rule files."""

from pathlib import Path

import pytest

from policies.guards.injection import HERE
from policies.guards.rules import RuleError, load_rules

GOOD = """
version: 1
words: {naught: "(?:no|nothing)"}
rules:
  - {id: a, family: f, languages: [ru], severity: high, pattern: 'забудь {naught}', hits: ["Забудь nothing"], misses: [nothing]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_the_shipped_rules_pass_their_own_tests() -> None:
    """Loading runs every rule's hits and misses."""
    rules = load_rules(HERE / "rules.yaml").rules
    assert len(rules) >= 50
    assert all(rule.hits and rule.misses for rule in rules)


@pytest.mark.parametrize(
    ("change", "reason"),
    {
        ("severity: high", "severity: huge"): "Invalid enum value",
        ("забудь {naught}", "забудь ("): "bad pattern",
        ("забудь {naught}", "{yes}"): "bad pattern",
        ("misses: [nothing]", "misses: [забудь nothing]"): "must miss",
        ('hits: ["Забудь nothing"]', "hits: [x]"): "must hit",
        ("family: f", "family: f, extra: 1"): "unknown field",
        ("version: 1", "version: ["): "expected",
        ("version: 1", "version: one"): "Expected `int`",
    }.items(),
)
def test_a_broken_file_is_refused_and_the_reason_said(file: Path, change: tuple[str, str], reason: str) -> None:
    file.write_text(GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(RuleError, match=reason):
        load_rules(file)


def test_a_good_file_takes_effect_and_changes_the_version(file: Path) -> None:
    """Caches must not serve what older rules let through."""
    old = load_rules(file)
    assert load_rules(file) is old, "the same text is compiled once"
    file.write_text(GOOD.replace("severity: high", "severity: low"), encoding="utf-8")
    new = load_rules(file)
    assert new.version != old.version
    assert [rule.severity for rule in new.match("забудь no")] == ["low"]


def test_an_id_stands_once(file: Path) -> None:
    file.write_text(GOOD + GOOD.split("rules:\n")[1], encoding="utf-8")
    with pytest.raises(RuleError, match="stands twice"):
        load_rules(file)


def test_a_missing_file_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(RuleError):
        load_rules(tmp_path / "none.yaml")
