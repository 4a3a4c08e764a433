"""A badge in SVG: how many of the vectors pass."""

from __future__ import annotations

from typing import Any

_LABEL = "TGV conformance"
_CHARACTER = 7


def render(report: dict[str, Any]) -> str:
    """Green when all vectors pass, yellow when the others are expected to fail, red otherwise."""
    passed, total = report["totals"]["pass"], sum(report["totals"].values())
    value = f"{passed}/{total}"
    colour = "#1a7f37" if passed == total else "#9a6700" if report["ok"] else "#cf222e"
    left, right = (_CHARACTER * len(text) + 10 for text in (_LABEL, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{_LABEL}: {value}"><rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14">{_LABEL}</text>'
        f'<text x="{left + right / 2}" y="14">{value}</text></g></svg>\n'
    )
