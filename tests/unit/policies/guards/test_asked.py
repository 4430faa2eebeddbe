"""Guards of users' own, behind entry points."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policies.guards.asked import Own, Unanswered, find_check
from policies.guards.settings import OwnConfig
from proxy.values import Duration

MODULE = """
import time

class Shouting:
    version = "1"

    def __init__(self, settings):
        self.most = settings["most"]

    def check(self, text, role, side):
        if text == "slow":
            time.sleep(0.2)
        if text == "broken":
            raise RuntimeError("no")
        if text == "odd":
            return "perhaps", 0.5
        share = sum(map(str.isupper, text)) / max(1, len(text))
        return ("block" if share > self.most else "allow"), share
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a guard, as pip would have put it there."""
    (tmp_path / "shouting_guard.py").write_text(MODULE)
    info = tmp_path / "shouting_guard-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting-guard\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lockgate.guards]\nshouting = shouting_guard:Shouting\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def own(**changes: object) -> Own:
    config = OwnConfig(entry="shouting", settings={"most": 0.5}, **changes)  # type: ignore[arg-type]
    return Own(config, find_check(config), ThreadPoolExecutor(1))


@pytest.mark.usefixtures("installed")
async def test_an_entry_point_is_a_guard() -> None:
    """It is made from its settings and judges in a thread."""
    guard = own()
    assert (await guard.ask("hello", "user", "input")).action == "allow"
    shouted = await guard.ask("HELLO", "user", "input")
    assert (shouted.action, shouted.score, shouted.reasons) == ("block", 1.0, ("shouting",))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("text", ["broken", "odd"])
async def test_a_guard_that_fails_gives_no_verdict(text: str) -> None:
    """Whatever it raises; what follows is the operator's choice."""
    with pytest.raises(Unanswered):
        await own().ask(text, "user", "input")


@pytest.mark.usefixtures("installed")
async def test_a_guard_that_is_too_slow_gives_no_verdict() -> None:
    """The call does not wait for it."""
    guard = own(timeout=Duration(0.01))
    began = time.monotonic()
    with pytest.raises(Unanswered):
        await guard.ask("slow", "user", "input")
    assert time.monotonic() - began < 0.15


@pytest.mark.usefixtures("installed")
def test_settings_change_the_version() -> None:
    """The keys of caches carry it."""
    other = OwnConfig(entry="shouting", settings={"most": 0.9})
    assert own().version != Own(other, find_check(other), ThreadPoolExecutor(1)).version


@pytest.mark.usefixtures("installed")
def test_a_guard_that_is_not_there_is_said_at_start() -> None:
    """With the names of those that are."""
    with pytest.raises(ValueError, match="there are: shouting"):
        find_check(OwnConfig(entry="whispering"))
    with pytest.raises(ValueError, match="cannot be made: KeyError"):
        find_check(OwnConfig(entry="shouting"))
