"""A strict reader of Prometheus's text format 0.0.4: what a scraper would refuse or misread is an error here."""

import math
import re
from typing import NamedTuple

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
_UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Point(NamedTuple):
    """One sample of a family."""

    name: str
    labels: dict[str, str]
    value: float


def read(text: str) -> dict[str, list[Point]]:
    """The samples by family. Raises ValueError for what breaks the format.

    Each family stands once, whole, with help and type; its samples are of that type, none twice; histograms are
    cumulative and agree with their count.
    """
    if not text.endswith("\n"):
        raise ValueError("no end of line at the end")
    families: dict[str, list[Point]] = {}
    kinds: dict[str, str] = {}
    current, helped = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
        elif line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            if current in families or helped != current or kind not in _SUFFIXES:
                raise ValueError(f"a family that is there already, has no help or no known type: {line}")
            if (kind == "counter") is not current.endswith("_total"):
                raise ValueError(f"counters, and they alone, end in _total: {line}")
            families[current], kinds[current] = [], kind
        else:
            point = _point(line)
            if point.name not in {current + suffix for suffix in _SUFFIXES[kinds[current]]}:
                raise ValueError(f"a sample outside its family: {line}")
            families[current].append(point)
    for name, points in families.items():
        _check(name, kinds[name], points)
    return families


def _point(line: str) -> Point:
    name = _NAME.match(line)
    if name is None:
        raise ValueError(f"no name: {line}")
    rest, labels = line[name.end() :], {}
    if rest.startswith("{"):
        at = 1
        while match := _LABEL.match(rest, at):
            if match[1] in labels:
                raise ValueError(f"a label twice: {line}")
            labels[match[1]] = re.sub(r"\\.", lambda each: _UNESCAPED[each[0]], match[2])
            at = match.end() + (rest[match.end()] == ",")
        if rest[at] != "}":
            raise ValueError(f"labels that do not end: {line}")
        rest = rest[at + 1 :]
    if not re.fullmatch(r" \S+", rest):
        raise ValueError(f"no single value: {line}")
    return Point(name[0], labels, float(rest))


def _check(name: str, kind: str, points: list[Point]) -> None:
    seen = {(point.name, tuple(sorted(point.labels.items()))) for point in points}
    if len(seen) != len(points):
        raise ValueError(f"a sample of {name} stands twice")
    if any(point.value < 0 or math.isnan(point.value) for point in points if kind != "gauge"):
        raise ValueError(f"a negative count in {name}")
    if kind == "histogram":
        _check_histograms(name, points)


def _check_histograms(name: str, points: list[Point]) -> None:
    groups: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for point in points:
        labels = {key: value for key, value in point.labels.items() if key != "le"}
        groups.setdefault(tuple(sorted(labels.items())), []).append(point)
    for same, group in groups.items():
        buckets = [(float(point.labels["le"]), point.value) for point in group if point.name.endswith("_bucket")]
        counts = [point.value for point in group if point.name.endswith("_count")]
        sums = [point.value for point in group if point.name.endswith("_sum")]
        if buckets != sorted(buckets) or [count for _, count in buckets] != sorted(count for _, count in buckets):
            raise ValueError(f"{name} {same} does not rise")
        if not (buckets[-1] == (math.inf, counts[0]) and len(counts) == len(sums) == 1):
            raise ValueError(f"{name} {same} does not agree with itself")
