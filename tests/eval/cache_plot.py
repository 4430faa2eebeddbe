"""Hits over traps served, as SVG written by hand."""

import html
from pathlib import Path

import msgspec

SIDE, LEFT, TOP = 420, 60, 20
MOST_TRAPS = 1.0
COLOURS = ("#2166ac", "#b2182b", "#4dac26", "#e08214")


class Curve(msgspec.Struct):
    """Points (traps served, hits), from the lowest similarity to the highest."""

    label: str
    points: list[tuple[float, float]]


def plot(curves: list[Curve], path: Path) -> None:
    """One line a curve; the upper left corner is where a cache wants to be."""

    def at(traps: float, hits: float) -> str:
        return f"{LEFT + SIDE * traps / MOST_TRAPS:.1f},{TOP + SIDE * (1 - hits):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + SIDE + 20}" height="{TOP + SIDE + 60 + 16 * len(curves)}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>']  # fmt: skip
    for step in range(6):
        share = step / 5
        x, y = LEFT + SIDE * share, TOP + SIDE * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<text x="{x}" y="{TOP + SIDE + 16}" text-anchor="middle">{share * MOST_TRAPS:.0%}</text>')
    parts.append(
        f'<text x="{LEFT + SIDE / 2}" y="{TOP + SIDE + 34}" text-anchor="middle">traps served (fow, checklist, paws_qqp)</text>'
    )
    parts.append(
        f'<text x="14" y="{TOP + SIDE / 2}" transform="rotate(-90 14 {TOP + SIDE / 2})" text-anchor="middle">hits</text>'
    )
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(at(*point) for point in curve.points)
        y = TOP + SIDE + 54 + 16 * number
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{point.partition(",")[0]}" cy="{point.partition(",")[2]}" r="2.5" fill="{colour}"/>'
            for point in line.split()[::10]
        ]
        parts.append(f'<rect x="{LEFT}" y="{y - 8}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{y}">{html.escape(curve.label)}</text>')
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
