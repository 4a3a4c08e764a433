"""Line plots over a logarithmic rate as SVG, without a library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

#: (rate, value) of the markers of a line, by its name.
Lines = Mapping[str, Sequence[tuple[float, float]]]

_WIDTH, _HEIGHT, _LEFT, _TOP, _LEGEND = 360, 280, 56, 40, 220
_STEPS = 4
_RATES = (0.5, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 500, 1000)
_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f")


def svg(title: str, panels: Mapping[str, Lines]) -> str:
    """One panel for each of ``panels`` side by side, and a legend for the lines of all of them."""
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    column = _LEFT + _WIDTH + 20
    width, height = len(panels) * column + _LEGEND, _TOP + _HEIGHT + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(width / 2, 18, title),
    ]
    for number, (label, lines) in enumerate(panels.items()):
        parts += _panel(number * column + _LEFT, label, lines, names)
    for row, name in enumerate(names):
        x, y = len(panels) * column + 20, _TOP + 10 + 16 * row
        parts += [f'<path d="M{x} {y - 4}h20" {_style(name, names)}/>', _text(x + 26, y, name, "start")]
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: float, label: str, lines: Lines, names: Sequence[str]) -> list[str]:
    points = [point for line in lines.values() for point in line]
    low, high = (f(math.log(rate) for rate, _ in points) for f in (min, max))
    bottom, top = (f(value for _, value in points) for f in (min, max))
    span, rise = max(high - low, 1e-9), max(top - bottom, 1e-9)

    def place(rate: float, value: float) -> tuple[float, float]:
        x = left + _WIDTH * (math.log(rate) - low) / span
        return round(x, 1), round(_TOP + _HEIGHT * (top - value) / rise, 1)

    parts = [
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#888"/>',
        _text(left + _WIDTH / 2, _TOP - 6, label),
        _text(left + _WIDTH / 2, _TOP + _HEIGHT + 32, "kbit/s"),
    ]
    for rate in _RATES:
        if low <= math.log(rate) <= high:
            parts.append(_text(place(rate, bottom)[0], _TOP + _HEIGHT + 16, f"{rate:g}"))
    for value in (bottom + rise * i / _STEPS for i in range(_STEPS + 1)):
        parts.append(_text(left - 4, place(points[0][0], value)[1] + 4, f"{value:.3g}", "end"))
    for name, line in lines.items():
        places = [place(*point) for point in sorted(line)]
        joined = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{joined}" {_style(name, names)}/>')
        colour = _COLOURS[names.index(name) % len(_COLOURS)]
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in places]
    return parts


def _style(name: str, names: Sequence[str]) -> str:
    """A colour of its own for each name; dashes where the colours begin anew."""
    turn, colour = divmod(names.index(name), len(_COLOURS))
    dashes = f' stroke-dasharray="{6 - 2 * turn}"' if turn else ""
    return f'fill="none" stroke="{_COLOURS[colour]}" stroke-width="1.5"{dashes}'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
