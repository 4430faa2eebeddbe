"""The kinds of value that configuration is written in: durations, sizes, rates, secrets."""

import re
from typing import Any

import msgspec

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB)?")
_BYTES = {None: 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_RATE = re.compile(r"(\d+)\s*/\s*(second|minute|hour|day)")
_WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Duration(float):
    """Seconds, written `500ms`, `30s`, `5m`, `1h` or `7d`."""

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """Raises ValueError."""
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected a duration such as 500ms, 30s, 5m or 1h, got {value!r}")
        return cls(float(match[1]) * _SECONDS[match[2]])


class Size(int):
    """Bytes, written `64MB`, `512kB` or as a plain number."""

    @classmethod
    def parse(cls, value: object) -> "Size":
        """Raises ValueError."""
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"expected a size such as 64MB, got {value!r}")
        return cls(float(match[1]) * _BYTES[match[2]])


class Rate(tuple[int, int]):
    """So many in so many seconds, written `60/minute`. A NamedTuple would be read from a list only."""

    __slots__ = ()

    @property
    def amount(self) -> int:
        """How many."""
        return self[0]

    @property
    def seconds(self) -> int:
        """In how many seconds."""
        return self[1]

    @classmethod
    def parse(cls, value: object) -> "Rate":
        """Raises ValueError."""
        match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or not int(match[1]):
            raise ValueError(f"expected a rate such as 60/minute, got {value!r}")
        return cls((int(match[1]), _WINDOWS[match[2]]))


class Sampling:
    """How many of many: a share from 0 to 1, written as a number, or so many a second, written `100/second`."""

    __slots__ = ("per_second", "share")

    def __init__(self, share: float = 1.0, per_second: int | None = None) -> None:
        self.share = share
        self.per_second = per_second

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sampling) and (self.share, self.per_second) == (other.share, other.per_second)

    def __hash__(self) -> int:
        return hash((self.share, self.per_second))

    @classmethod
    def parse(cls, value: object) -> "Sampling":
        """Raises ValueError."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return cls(float(value))
        match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or match[2] != "second" or not int(match[1]):
            raise ValueError(f"expected a share from 0 to 1 or a rate such as 100/second, got {value!r}")
        return cls(per_second=int(match[1]))


class Secret(str):
    """A string that shows itself only where it is used: `reveal()`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        """The secret itself."""
        return "".join(self)

    @classmethod
    def parse(cls, value: object) -> "Secret":
        """Raises ValueError."""
        if not isinstance(value, str):
            raise ValueError("expected a string")  # noqa: TRY004 - one kind of error for every value
        return cls(value.strip())


def duration(text: str) -> Duration:
    """The default of a configuration key, written as in the file."""
    return msgspec.field(default_factory=lambda: Duration.parse(text))


def size(text: str) -> Size:
    """The default of a configuration key, written as in the file."""
    return msgspec.field(default_factory=lambda: Size.parse(text))


def rate(text: str) -> Rate:
    """The default of a configuration key, written as in the file."""
    return msgspec.field(default_factory=lambda: Rate.parse(text))


def spell(seconds: float) -> str:
    """A duration as OpenAI's headers write it: `20ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    if seconds < _SECONDS["m"]:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


VALUES: tuple[type[Any], ...] = (Duration, Size, Rate, Sampling, Secret)


def decode_value(kind: type[Any], value: Any) -> Any:
    """The hook that reads these kinds for msgspec. Raises ValueError, NotImplementedError for other kinds."""
    if isinstance(value, kind):
        return value
    if kind in VALUES:
        return kind.parse(value)
    raise NotImplementedError(kind)


def value_schema(kind: type[Any]) -> dict[str, Any]:
    """The hook that describes these kinds in a JSON schema."""
    if kind is Duration:
        return {"type": "string", "examples": ["500ms", "30s", "5m", "1h"]}
    if kind is Size:
        return {"type": ["string", "integer"], "examples": ["64MB"]}
    if kind is Rate:
        return {"type": "string", "examples": ["60/minute"]}
    if kind is Sampling:
        return {"type": ["number", "string"], "examples": [0.1, "100/second"]}
    if kind is Secret:
        return {"type": "string", "writeOnly": True}
    raise NotImplementedError(kind)
