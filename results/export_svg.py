"""Bars with intervals, and ratios around no change, each as one inline SVG: no scripts, no styles of its own.

What is drawn is the caller's choice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from results.export_table import escape, heading
from results.format import number, percent, quantity, scale
from results.metrics import Metric
from results.stats import Estimate
from results.summary import estimate_text

WIDTH, ROW, TOP, BOTTOM, BAR, EDGE = 400, 42, 8, 34, 12, 8
LETTERS = 46
"""About as many letters of 12 px fit beside a value."""


def bars(metric: Metric, estimates: Sequence[tuple[str, Estimate]], colour: str) -> str:
    """A bar from zero for each labelled estimate, its interval as a whisker; the value stands above it.

    An interval that would dwarf the bars is cut at the edge, without the whisker's end.
    """
    most = max(one.value for _, one in estimates)
    factor, unit = scale(most, metric.unit)
    reach = factor * _round_up(min(max(one.high or one.value for _, one in estimates), 2 * most) / factor)
    height = TOP + ROW * len(estimates) + BOTTOM
    marks = [_bar(TOP + ROW * index, label, one, metric.unit, reach, colour) for index, (label, one) in enumerate(estimates)]
    listed = "; ".join(f"{label}: {estimate_text(one, metric.name)}" for label, one in estimates)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(heading(metric))}</title><desc>{escape(metric.definition)} {escape(listed)}</desc>"
        f"{''.join(marks)}{_axis(height - BOTTOM, reach / factor, unit)}</svg>"
    )


def _bar(top: int, label: str, one: Estimate, unit: str, reach: float, colour: str) -> str:
    short = label if len(label) <= LETTERS else f"{label[:14]}…{label[15 - LETTERS :]}"  # cases differ at the end
    middle = top + 26
    marks = [
        f'<text x="{EDGE}" y="{top + 13}">{escape(short)}</text>',
        f'<text class="value" x="{WIDTH - EDGE}" y="{top + 13}" text-anchor="end">{escape(quantity(one.value, unit))}</text>',
        f'<rect x="{EDGE}" y="{middle - BAR // 2}" width="{_x(one.value, reach) - EDGE:.1f}" height="{BAR}" fill="{colour}"/>',
    ]
    if one.low is not None and one.high is not None:
        low, high = _x(one.low, reach), _x(one.high, reach)
        ends = f"M{low:.1f} {middle - 5}v10" + (f"M{high:.1f} {middle - 5}v10" if one.high <= reach else "")
        marks.append(f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}{ends}"/>')
    spread = quantity(one.value, unit, one.low, one.high)
    return f"<g><title>{escape(label)}: {escape(spread)}</title>{''.join(marks)}</g>"


def _axis(y: int, reach: float, unit: str) -> str:
    ticks = "".join(
        f'<path class="axis" d="M{_x(share, 1):.1f} {y}v4"/><text class="tick" x="{_x(share, 1):.1f}" y="{y + 16}" '
        f'text-anchor="{anchor}">{number(share * reach)}{f" {escape(unit)}" if share == 1 else ""}</text>'
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    return f'<path class="axis" d="M{EDGE} {y}H{WIDTH - EDGE}"/>{ticks}'


def _round_up(value: float) -> float:
    """The next number that reads well on an axis, also when halved."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10, 12) if step * power >= value)


def _x(value: float, reach: float) -> float:
    return EDGE + (WIDTH - 2 * EDGE) * min(max(value / reach, 0.0), 1.0)


@dataclass(frozen=True)
class Mark:
    """One row of a forest plot: a ratio with its interval and the band of what does not matter, all as ratios."""

    label: str
    told: str
    """Stands beside the label."""
    ratio: float
    low: float | None
    high: float | None
    band: tuple[float, float] | None
    verdict: str


STEPS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
SHAPES = {
    "regression": '<path d="M{x} {y}m-5 -5l10 10m-10 0l10 -10" stroke="{colour}" stroke-width="3"/>',
    "inconclusive": '<circle cx="{x}" cy="{y}" r="5" fill="none" stroke="{colour}" stroke-width="2.5"/>',
    "no_change": '<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>',
    "improvement": '<path d="M{x} {y}m0 -7l6 7l-6 7l-6 -7z" fill="{colour}"/>',
    "described": '<path d="M{x} {y}m0 -6v12" stroke="{colour}" stroke-width="3"/>',
}
"""Verdict → mark; the colour never stands alone."""


def reach_of(marks: Iterable[Mark]) -> float:
    """The change at the right edge of forest plots that are to be read together: 0.2 is +20 %, and the left edge its reciprocal.

    All ratios and margins have room; an interval that would dwarf them is cut at the edge.
    """
    ends = [ratio for mark in marks for ratio in (mark.ratio, *(mark.band or ())) if ratio > 0]
    most = math.exp(max((abs(math.log(ratio)) for ratio in ends), default=0.0)) - 1
    return next((step for step in STEPS if step >= 1.2 * most), STEPS[-1])


def forest(title: str, marks: Sequence[Mark], reach: float, colours: Mapping[str, str]) -> str:
    """A line per mark, on a logarithmic scale around no change; what lies beyond the edge is drawn at it, without an end."""
    height = TOP + ROW * len(marks) + BOTTOM
    drawn = "".join(_mark(TOP + ROW * index, mark, reach, colours[mark.verdict]) for index, mark in enumerate(marks))
    middle = _spread(1.0, reach)
    ticks = ((1 / (1 + reach), "start"), (1.0, "middle"), (1 + reach, "end"))
    axis = "".join(
        f'<path class="axis" d="M{_spread(ratio, reach):.1f} {height - BOTTOM}v4"/><text class="tick" x="{_spread(ratio, reach):.1f}" '
        f'y="{height - BOTTOM + 16}" text-anchor="{anchor}">{"no change" if ratio == 1 else percent(ratio)}</text>'
        for ratio, anchor in ticks
    )
    listed = "; ".join(f"{mark.label}: {mark.told}" for mark in marks)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title><desc>{escape(listed)}</desc>'
        f'{drawn}<path class="axis" d="M{middle:.1f} {TOP}V{height - BOTTOM}" stroke-dasharray="2 3"/>'
        f'<path class="axis" d="M{EDGE} {height - BOTTOM}H{WIDTH - EDGE}"/>{axis}</svg>'
    )


def _mark(top: int, mark: Mark, reach: float, colour: str) -> str:
    middle = top + 27
    drawn = [
        f'<text x="{EDGE}" y="{top + 13}">{escape(mark.label)}</text>',
        f'<text class="value" x="{WIDTH - EDGE}" y="{top + 13}" text-anchor="end">{escape(mark.told)}</text>',
    ]
    if mark.band:
        low, high = (_spread(end, reach) for end in mark.band)
        drawn.append(f'<rect class="band" x="{low:.1f}" y="{middle - 9}" width="{high - low:.1f}" height="18"/>')
    if mark.low is not None and mark.high is not None:
        low, high = _spread(mark.low, reach), _spread(mark.high, reach)
        inside = 1 / (1 + reach), 1 + reach
        caps = "".join(
            f"M{x:.1f} {middle - 5}v10" for x, end in ((low, mark.low), (high, mark.high)) if inside[0] <= end <= inside[1]
        )
        drawn.append(f'<path d="M{low:.1f} {middle}H{high:.1f}{caps}" fill="none" stroke="{colour}" stroke-width="2"/>')
    drawn.append(SHAPES[mark.verdict].format(x=f"{_spread(mark.ratio, reach):.1f}", y=middle, colour=colour))
    return f"<g><title>{escape(mark.label)}: {escape(mark.told)}</title>{''.join(drawn)}</g>"


def _spread(ratio: float, reach: float) -> float:
    """Where a ratio stands, so that twice and half are equally far from the middle."""
    share = math.log(ratio) / math.log1p(reach) if ratio > 0 else -1.0
    return EDGE + (WIDTH - 2 * EDGE) * (1 + min(max(share, -1.0), 1.0)) / 2
