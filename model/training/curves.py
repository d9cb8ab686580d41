"""Training curves as one SVG file, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]
_COLOURS = ("#1f6feb", "#d1572a", "#2a9d5c", "#8250df", "#9a6700", "#57606a")
_WIDTH, _HEIGHT, _MARGIN = 640.0, 240.0, 48.0


def curves_svg(panels: Mapping[str, Mapping[str, Points]]) -> str:
    """Draw panels of named curves below each other.

    Args:
        panels: Panel title -> curve name -> (step, value) points, in step order.

    Returns:
        The SVG's text; the same points give the same text.
    """
    parts = [_panel(title, curves, _HEIGHT * i) for i, (title, curves) in enumerate(panels.items())]
    size = f'width="{_WIDTH:.0f}" height="{_HEIGHT * len(parts):.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(title: str, curves: Mapping[str, Points], top: float) -> str:
    points = [p for curve in curves.values() for p in curve]
    if not points:
        return ""
    x_low, x_high = _span([x for x, _ in points])
    y_low, y_high = _span([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        inner_w, inner_h = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
        left = _MARGIN + inner_w * (x - x_low) / (x_high - x_low)
        return left, top + _HEIGHT - _MARGIN - inner_h * (y - y_low) / (y_high - y_low)

    out = [f'<text x="{_MARGIN:.0f}" y="{top + 18:.0f}" font-size="13">{escape(title)}</text>']
    for value in (y_low, (y_low + y_high) / 2, y_high):
        _, y = place(x_low, value)
        out.append(
            f'<line x1="{_MARGIN:.0f}" x2="{_WIDTH - _MARGIN:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{_MARGIN - 4:.0f}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for value, anchor in ((x_low, "start"), (x_high, "end")):
        x, y = place(value, y_low)
        out.append(
            f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="{anchor}">step {value:.0f}</text>'
        )
    for i, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in curve)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x = _MARGIN + 120 * i
        out.append(f'<text x="{x:.0f}" y="{top + 34:.0f}" fill="{colour}">{escape(name)}</text>')
    return "".join(out)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
