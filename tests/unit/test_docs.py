"""What is written is true: every key has its page, every error its row, every block of configuration loads."""

import re
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy import errors
from proxy.config import Config
from proxy.config_file import parse_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KEYS = [field.encode_name for field in msgspec.structs.fields(Config)]
OTHERS = ("README.md", "CONTRIBUTING.md", "examples/README.md", "deploy/kubernetes/README.md")
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in OTHERS)]


def structs_in(kind: object) -> Iterator[type[msgspec.Struct]]:
    """Every Struct that stands in a type, its own members' included."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from structs_in(hint)
    elif typing.get_origin(kind) is not None or isinstance(kind, types.UnionType):
        for argument in typing.get_args(kind):
            yield from structs_in(argument)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_page_that_names_all_it_takes(key: str) -> None:
    """`docs/KEY.md` has each member of the key's own structs in code quotes."""
    text = (DOCS / f"{key}.md").read_text()
    hint = typing.get_type_hints(Config)[key]
    missing = {
        field.encode_name
        for struct in structs_in(hint)
        if struct.__name__ not in ("Timeouts", "FailoverConfig", "CooldownConfig", "ParametersConfig")
        or key in ("timeouts", "failover", "parameters")
        if struct.__module__ != "policies.guards.settings" or key != "routes"
        for field in msgspec.structs.fields(struct)
        if f"`{field.encode_name}`" not in text
    }
    assert not missing


@pytest.mark.parametrize("key", KEYS)
def test_the_readme_leads_to_every_page(key: str) -> None:
    """A page that nobody finds is not written."""
    assert f"docs/{key}.md" in (ROOT / "README.md").read_text()


def every_error() -> Iterator[type[errors.GatewayError]]:
    """All of them that a client can see."""
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.GatewayError) and each.default_code is not None:
            yield each


@pytest.mark.parametrize("code", sorted({each.default_code or "" for each in every_error()}))
def test_every_error_has_its_row(code: str) -> None:
    """docs/errors.md names the code."""
    assert f"`{code}`" in (DOCS / "errors.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file or folder."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_configuration_loads(page: Path) -> None:
    """YAML blocks are whole files or members of one; with what is missing put in they are valid."""
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        text = block
        if "providers:" not in block:
            text += "\nproviders: {fake: {kind: fake}}\n"
        if "routes:" not in block:
            name = re.search(r"^  (\w+):", block, re.MULTILINE)
            text += f"\nroutes: {{any: {{deployments: [{{provider: {name[1] if 'providers:' in block and name else 'fake'}, model: x}}]}}}}\n"
        parse_config(text, {})


def test_the_two_commands_stand_in_the_readme() -> None:
    """`make serve` and `make test`, and both are targets."""
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for command in ("serve", "test"):
        assert f"make {command}" in readme
        assert f"\n{command}:" in makefile


def test_every_dependency_is_reviewed() -> None:
    """docs/dependencies.md has a row for each, and none for what is gone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[<>=!~ ]", each)[0] for each in project["dependencies"]}
    rows = set(re.findall(r"^\| ([a-z][a-z0-9-]+) \|", (DOCS / "dependencies.md").read_text(), re.MULTILINE))
    assert rows - {"package"} == wanted
