"""Guides: every block of code in them is a file that the tests run, or a part of one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
BLOCK = re.compile(r"(?:<!-- (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_block_is_part_of_the_file_that_stands_above_it(guide: Path) -> None:
    """Word for word, so what a reader copies is what was run."""
    blocks = BLOCK.findall(guide.read_text())
    assert blocks
    for source, language, code in blocks:
        assert source, f"a {language} block that comes from no file"
        assert code.strip("\n") in (ROOT / source).read_text(), source


def test_every_guide_is_found_from_the_first_one() -> None:
    """A guide that nobody finds is not written."""
    first = (ROOT / "docs" / "guides" / "five-minute-start.md").read_text()
    assert [
        guide.name for guide in GUIDES if guide.stem != "five-minute-start" and f"({guide.name})" not in first
    ] == []


def test_every_example_stands_in_the_list() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    folders = [path.name for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name[0] not in "._"]
    assert [name for name in folders if f"[{name}](" not in listed] == []


def test_the_tests_that_the_security_page_names_exist() -> None:
    """By file, and by name where it has one."""
    page = (ROOT / "docs" / "security.md").read_text()
    texts = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    assert {name for name in re.findall(r"`(test_\w+\.py)`", page) if name not in texts} == set()
    named = set(re.findall(r"`(test_\w+)`", page))
    assert {name for name in named if not any(f"def {name}(" in text for text in texts.values())} == set()


def test_the_codes_that_troubleshooting_names_exist() -> None:
    """Each stands in docs/errors.md too."""
    rows = (ROOT / "docs" / "troubleshooting.md").read_text()
    errors = (ROOT / "docs" / "errors.md").read_text()
    codes = set(re.findall(r"\| [45]\d\d `(\w+)`", rows))
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in errors} == set()
