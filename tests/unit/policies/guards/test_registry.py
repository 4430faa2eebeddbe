"""Kinds of guards and their settings."""

import msgspec
import pytest

from policies.guards.length import Length
from policies.guards.prompt_leak import PromptLeak
from policies.guards.registry import BUILDERS, build
from policies.guards.settings import GuardConfig, LengthConfig, PromptLeakConfig, problems
from policies.guards.verdict import Guard, finish

SETTINGS = b"""[{"kind": "injection"}, {"kind": "secrets"}, {"kind": "personal_data", "countries": ["us"]},
{"kind": "exfiltration", "allow": [".example.com"]}, {"kind": "keywords", "words": ["x"]}, {"kind": "length", "max_chars": 5},
{"kind": "prompt_leak", "canary": "CANARY-1234"}]"""


def test_every_kind_is_built_from_its_settings() -> None:
    """One table names them all, and each guard knows its kind."""
    configs = msgspec.json.decode(SETTINGS, type=list[GuardConfig])
    assert {type(config) for config in configs} == set(BUILDERS)
    for config in configs:
        made = build(config)
        guard: Guard = made.of("a prompt") if isinstance(made, PromptLeak) else made
        assert guard.kind == msgspec.to_builtins(config)["kind"]
        assert finish(guard.scan("hi", "user")).action == "allow"


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind": "secrets", "acton": "flag"}',
        b'{"kind": "nothing"}',
        b'{"kind": "length"}',
        b'{"kind": "secrets", "action": "x"}',
    ],
)
def test_unknown_settings_are_refused(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=GuardConfig)


def test_useless_settings_are_refused() -> None:
    assert "common phrases" in problems([PromptLeakConfig(words=2)], "output_guards")[0]
    with pytest.raises(ValueError, match="at least 1"):
        Length(LengthConfig(max_chars=0))


def test_length_counts_characters() -> None:
    guard = Length(LengthConfig(max_chars=3))
    assert finish(guard.scan("äöü", "user")).action == "allow"
    assert finish(guard.scan("äöü!", "user")).action == "block"


def test_settings_change_the_version() -> None:
    """The keys of caches carry it."""
    text = b'[{"kind":"personal_data"},{"kind":"personal_data","countries":["us"]}]'
    configs = msgspec.json.decode(text, type=list[GuardConfig])
    first, second = (build(config) for config in configs)
    assert not isinstance(first, PromptLeak)
    assert not isinstance(second, PromptLeak)
    assert first.version != second.version
