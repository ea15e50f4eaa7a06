"""Plots as SVG text: colours come from the page's style sheet, so that they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 12.0, 42.0
TICKS = 5

Point = tuple[float, float, float, float]
"""x, y, and the ends of y's interval; the ends equal y where there is none."""


def line_plot(
    what: str,
    lines: Mapping[str, Sequence[Point]],
    *,
    x_ticks: Mapping[float, str],
    x_label: str,
    y_label: str,
    log_x: bool = False,
) -> str:
    """One line for each name, with its intervals as bars; `x_ticks` name places on the x axis."""
    place = math.log if log_x else float
    ends = [place(x) for x in x_ticks]
    first, last = min(ends), max(ends)
    top = _top([high for points in lines.values() for *_, high in points])

    def across(x: float) -> float:
        share = (place(x) - first) / (last - first) if last > first else 0.5
        return LEFT + 12 + share * (WIDTH - LEFT - RIGHT - 24)

    parts = _frame(top, y_label, x_label, {across(x): name for x, name in x_ticks.items()})
    for number, points in enumerate(lines.values()):
        shift = (number - (len(lines) - 1) / 2) * 3  # intervals beside each other, not over each other
        spots = [(across(x) + shift, _up(y, top)) for x, y, _, _ in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        for (x, y), (_, _, low, high) in zip(spots, points, strict=True):
            if high > low:
                parts.append(_whisker(x, _up(low, top), _up(high, top), number))
                parts.append(f'<circle class="dot s{number}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return _svg(what, parts)


def bar_plot(
    what: str, groups: Sequence[str], bars: Mapping[str, Mapping[str, Sequence[float]]], *, y_label: str
) -> str:
    """Bars side by side: by name, the (value, low, high) of each group that has one."""
    top = _top([value[2] for of in bars.values() for value in of.values()])
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    width = min(34.0, 0.8 * room / len(bars))
    middles = {LEFT + room * (place + 0.5): group for place, group in enumerate(groups)}
    parts = _frame(top, y_label, "", middles)
    for middle, group in middles.items():
        for number, of in enumerate(bars.values()):
            if group not in of:
                continue
            value, low, high = of[group]
            x, y = middle + (number - len(bars) / 2) * width, _up(value, top)
            size = f'x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{_up(0, top) - y:.1f}"'
            parts.append(f'<rect class="bar s{number}" {size}/>')
            if high > low:
                parts.append(_whisker(x + width / 2, _up(low, top), _up(high, top), None))
    return _svg(what, parts)


def _svg(what: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img"><title>{escape(what)}</title>{body}</svg>'


def _frame(top: float, y_label: str, x_label: str, x_ticks: Mapping[float, str]) -> list[str]:
    parts = []
    for step in range(TICKS + 1):
        value = top * step / TICKS
        y = _up(value, top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for x, name in x_ticks.items():
        y = HEIGHT - BOTTOM + 16
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(name)}</text>')
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(
        f'<text class="label" transform="rotate(-90)" x="{-middle:.1f}" y="12" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts


def _up(value: float, top: float) -> float:
    return TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM)


def _top(values: Sequence[float]) -> float:
    """The least round number that holds all values, and falls into five round steps."""
    most = max([*values, 1e-9])
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= most * (1 - 1e-9))


def _whisker(x: float, low: float, high: float, number: int | None) -> str:
    kind = "ink" if number is None else f"s{number}"
    return f'<line class="whisker {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
