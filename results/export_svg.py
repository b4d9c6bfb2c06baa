"""Bars with intervals as one inline SVG: no scripts, no styles of its own. What is drawn is the caller's choice."""

import math
from collections.abc import Sequence

from results.export_table import escape, heading
from results.format import number, quantity, scale
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
