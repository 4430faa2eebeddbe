"""Score histograms, as SVG written by hand: no plotting library is needed to read or to make them."""

import html
from collections import defaultdict
from math import log
from pathlib import Path

from policies.guards.settings import Thresholds

WIDTH, ROW, LEFT, BINS = 760, 44, 210, 60
LOWEST, HIGHEST = -10.0, 12.0  # log-odds shown


def odds(score: float) -> float:
    """Log-odds of a score, within what is shown."""
    return min(HIGHEST, max(LOWEST, log(max(score, 1e-9) / max(1 - score, 1e-9))))


def across(value: float) -> float:
    """Where a log-odds value stands, in pixels."""
    return LEFT + (value - LOWEST) / (HIGHEST - LOWEST) * (WIDTH - LEFT - 10)


def histograms(scores: list[tuple[str, str, float]], limits: Thresholds, path: Path) -> None:
    """One row of bars a set (attacks red, harmless texts blue), the thresholds as lines."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, label, score in scores:
        groups[label, name].append(odds(score))
    height = ROW * len(groups) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>']  # fmt: skip
    step = (HIGHEST - LOWEST) / BINS
    for number, ((label, name), values) in enumerate(sorted(groups.items())):
        base = ROW * (number + 1)
        counts = [0] * BINS
        for value in values:
            counts[min(BINS - 1, int((value - LOWEST) / step))] += 1
        colour = "#b2182b" if label == "attack" else "#2166ac"
        parts.append(f'<text x="4" y="{base - 8}">{html.escape(name)} ({len(values)})</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{base}" y2="{base}" stroke="#ccc"/>')
        for index, count in enumerate(counts):
            if count:
                tall = (ROW - 8) * (count / max(counts)) ** 0.5
                parts.append(
                    f'<rect x="{across(LOWEST + index * step):.1f}" y="{base - tall:.1f}" width="8" height="{tall:.1f}" fill="{colour}"/>'
                )
    for word, score in (("flag", limits.flag), ("block", limits.block)):
        x = across(odds(score))
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 30}" stroke="black" stroke-dasharray="4 3"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{height - (18 if word == "flag" else 6)}" text-anchor="middle">{word} at {score:.3f}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
