"""Lines of the log, whatever goes into them."""

import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from support.sealed import sealed

from proxy.audit import audit
from proxy.logs import AccessLog, Console, Json, LogConfig, current_call, plain, set_up_logs

NASTY = "a\nINFO  lockgate: forged \x1b[31mred\x1b[0m \r\x00 \u2028 \x9b2J \u202etxt"
VISIBLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]*")


def entry(
    message: str, *arguments: object, facts: dict[str, object] | None = None, error: bool = False
) -> logging.LogRecord:
    info = sys.exc_info() if error else None
    made = logging.LogRecord("lockgate", logging.WARNING, __file__, 1, message, arguments, info)
    if facts is not None:
        made.facts = facts
    return made


@pytest.fixture
def call() -> Iterator[str]:
    """A call that the running task works for."""
    token = current_call.set("c" * 32)
    yield "c" * 32
    current_call.reset(token)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers = []
    yield logger
    logger.handlers, logger.level = handlers, level


@pytest.mark.parametrize("formatter", [Console(), Json()])
def test_no_message_reaches_beyond_its_line(formatter: logging.Formatter) -> None:
    """No line of its own, no colour, no cursor: in the message, its arguments and its facts, names included."""
    text = formatter.format(entry("said %s " + NASTY.replace("%", "%%"), NASTY, facts={"who": NASTY}))
    assert VISIBLE.fullmatch(text)


@pytest.mark.parametrize("formatter", [Console(), Json()])
def test_a_traceback_cannot_pass_for_an_entry(formatter: logging.Formatter) -> None:
    """Each of its lines is marked, or part of the one JSON line."""
    try:
        int(NASTY)
    except ValueError:
        text = formatter.format(entry("failed", error=True))
    first, *others = text.split("\n")
    assert "failed" in first
    assert all(line.startswith("    | ") for line in others)
    assert all(VISIBLE.fullmatch(line) for line in text.split("\n"))
    assert "test_logs.py" in text


def test_every_line_about_a_call_has_its_id(call: str) -> None:
    assert f"[{call}]" in Console().format(entry("x"))
    assert json.loads(Json().format(entry("x")))["request_id"] == call


def test_a_json_line_has_its_facts_as_values() -> None:
    """They never replace what every line has."""
    line = json.loads(
        Json().format(entry("got %d", 3, facts={"score": 0.5, "count": 2, "message": "no", "odd": object}))
    )
    assert (line["message"], line["score"], line["count"], line["level"]) == ("got 3", 0.5, 2, "warning")
    assert line["time"].endswith("Z")
    assert "odd" in line


def test_plain_text_stays_as_it_is() -> None:
    text = "Grüße, 世界 🌍 done"
    assert plain(text) == text


@pytest.mark.parametrize(
    ("level", "environment", "expected"),
    [
        (None, {}, logging.INFO),
        (None, {"API_LOG_LEVEL": " Debug "}, logging.DEBUG),
        (None, {"API_LOG_LEVEL": "nonsense"}, logging.INFO),
        ("error", {"API_LOG_LEVEL": "debug"}, logging.ERROR),
    ],
)
def test_the_file_decides_then_the_environment(
    root: logging.Logger, level: str, environment: dict[str, str], expected: int
) -> None:
    set_up_logs(LogConfig(level=level), environment)  # type: ignore[arg-type]
    assert root.level == expected


def test_setting_up_again_replaces_the_first(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """One line an entry, in the new form."""
    set_up_logs(LogConfig(), {})
    set_up_logs(LogConfig(format="json"), {})
    root.warning("once")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "once"


def test_what_administrators_do_is_logged_at_every_level(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quiet log keeps its audit lines."""
    set_up_logs(LogConfig(level="error"), {})
    root.warning("nothing to see")
    audit("admin", "create key", "abc")
    (line,) = capsys.readouterr().err.splitlines()
    assert '"action":"create key"' in line


def test_the_access_log_is_off_until_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = AccessLog(LogConfig())
    log.write(sealed())
    assert not caplog.records
    log.on = True
    log.write(sealed(error="", peer="10.0.0.1"))
    text = Console().format(caplog.records[0])
    assert f"[{'c' * 32}]" in text
    assert "endpoint=chat status=200 outcome=complete ms=500.0 route=chat provider=openai model=gpt-4o" in text
    assert "error=" not in text
