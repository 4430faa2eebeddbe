"""`lockgate keys`, without a gateway: what is said on the command line is what a key is granted."""

import json
from pathlib import Path

import pytest

from proxy.cli import main

CONFIG = """
database: "sqlite:///{folder}/a.db"
authenticate: {{}}
providers: {{fake: {{kind: fake}}}}
routes:
  echo:
    deployments: [{{provider: fake, model: echo}}]
    output_guards: [{{kind: secrets, name: keys}}]
input_guards: [{{kind: injection, action: flag}}]
"""


def run(folder: Path, *arguments: str) -> int:
    file = folder / "lockgate.yaml"
    file.write_text(CONFIG.format(folder=folder))
    return main([*arguments, "--config", str(file)])


def test_a_key_gets_stricter_guards_and_loses_them_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the names that guards have, everywhere or on a route."""
    assert run(tmp_path, "keys", "create", "--guards", "injection=block", "--guards", "keys=flag", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["guards"] == {"injection": "block", "keys": "flag"}
    assert run(tmp_path, "keys", "update", made["id"], "--guards", "keys=block", "--json") == 0
    assert json.loads(capsys.readouterr().out)["guards"] == {"keys": "block"}
    assert run(tmp_path, "keys", "update", made["id"], "--guards", "none", "--json") == 0
    assert json.loads(capsys.readouterr().out)["guards"] == {}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("injection", "expected GUARD=ACTION"),
        ("injektion=block", "there are: injection, keys"),
        ("injection=off", "Invalid 'guards'"),
    ],
)
def test_a_guard_that_would_guard_nobody_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, why: str
) -> None:
    """With the reason, and exit code 1."""
    assert run(tmp_path, "keys", "create", "--guards", said) == 1
    assert why in capsys.readouterr().err


def test_what_a_key_is_called_never_commands_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names come from others too, by way of the API; a list shows them as escapes, JSON has its own."""
    assert run(tmp_path, "keys", "create", "--name", "a\x1b[2Jb", "--owner", "o\x9b2J") == 0
    capsys.readouterr()
    assert run(tmp_path, "keys", "list") == 0
    told = capsys.readouterr().out.strip("\n")
    assert told.isprintable()
    assert "name=a\\x1b[2Jb" in told
    assert run(tmp_path, "owners", "set", "o\x9b2J", "--budget", "5") == 0
    assert run(tmp_path, "owners", "list") == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()
