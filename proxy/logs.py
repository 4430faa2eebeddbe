"""The log: lines for people or JSON for machines, each about a call with its id, and no line that a client wrote.

Whatever a message holds, it stays on its line: characters that move the cursor, change colours or begin a new line are
shown as escapes. `extra={"facts": {...}}` adds named values to a line, `extra={"call": id}` names another call than
the running task's.
"""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

import msgspec

from proxy.call import Record

Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

_CHATTY = ("httpx", "httpcore", "LiteLLM")
"""Libraries that log every request they make: that is the access log, which is off by default."""

current_call: ContextVar[str] = ContextVar("current_call", default="")
"""The id of the call that the running task works for; set by the edge."""


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is logged and how. Without `level` the environment's API_LOG_LEVEL counts, else it is info.

    `access` adds a line for every call that is over.
    """

    format: Literal["console", "json"] = "console"
    level: Level | None = None
    access: bool = False


class Console(logging.Formatter):
    """One line an entry for people; a traceback's lines follow, marked so that none can pass for an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry."""
        call = _call(record)
        about = f" [{plain(call)}]" if call else ""
        facts = "".join(f" {name}={plain(str(value))}" for name, value in _facts(record).items())
        line = f"{_time(record)} {record.levelname:7} {record.name}{about} {plain(record.getMessage())}{facts}"
        if record.exc_info:
            line += "".join(f"\n    | {plain(each)}" for each in self.formatException(record.exc_info).splitlines())
        return line


class Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": plain(record.getMessage()),
        }
        if call := _call(record):
            entry["request_id"] = call
        entry |= {
            name: plain(value) if isinstance(value, str) else value
            for name, value in _facts(record).items()
            if name not in entry
        }
        if record.exc_info:
            entry["traceback"] = [plain(line) for line in self.formatException(record.exc_info).splitlines()]
        return msgspec.json.encode(entry, enc_hook=str).decode()


class AccessLog:
    """A sink that logs every call that is over, while it is switched on."""

    def __init__(self, config: LogConfig) -> None:
        self.on = config.access
        self._logger = logging.getLogger("lockgate.access")

    def write(self, record: Record) -> None:
        """Log one call."""
        if not self.on:
            return
        facts: dict[str, object] = {
            "endpoint": record.endpoint,
            "status": record.status,
            "outcome": record.outcome,
            "ms": round(record.duration * 1000, 1),
            "route": record.route,
            "provider": record.provider,
            "model": record.upstream_model,
            "cache": record.cache,
            "caller": record.caller,
            "peer": record.peer,
            "error": record.error,
        }
        shown = {name: value for name, value in facts.items() if value != ""}
        self._logger.info("call", extra={"facts": shown, "call": record.id})


def set_up_logs(config: LogConfig, environment: Mapping[str, str]) -> None:
    """Log to standard error in this way from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if config.format == "json" else Console())
    level = _level(config, environment)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("lockgate.audit").setLevel("INFO")  # who changed what is kept at any level
    for name in _CHATTY:
        logging.getLogger(name).setLevel("DEBUG" if level == "debug" else "WARNING")


def plain(text: str) -> str:
    """The text with everything that is not a visible character or a space as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def level_named(name: str) -> Level | None:
    """The level of this name, however it is written."""
    return next((level for level in LEVELS if level == name.strip().lower()), None)


def _level(config: LogConfig, environment: Mapping[str, str]) -> Level:
    return config.level or level_named(environment.get("API_LOG_LEVEL", "")) or "info"


def _call(record: logging.LogRecord) -> str:
    return str(getattr(record, "call", "")) or current_call.get()


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
