"""Where the level of a series changes: offline segmentation with defaults that hold their false alarms. Pure functions over numbers.

The series is split where a window differs most from its surroundings, again and again, and what does not hold against its
neighbours is taken back. Outliers are clipped, so that a spike is no level; the noise may depend on the point before; and a
steady drift is no change of level. The constants were set once by the simulations of `benchmarks/change_points.py`.

What a series is, and what a change means, is `results.history`'s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from scipy.special import gammaln, stdtr

Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]

LEVEL = 0.01
"""A change has a lower p-value."""
COUNTS_LEVEL = 0.05
"""The same for the p-value that assumes nothing about the noise, which bounds from above."""
LEAST_PART = 20
"""Points of a part of a series that is searched by itself."""
DRIFT_LEVEL = 0.02
"""A step beside a straight line has a lower p-value, or the line alone is enough."""
CLIP = 2.0
"""Standard deviations from the median that a value may count for."""
HIGHEST_AUTOCORRELATION = 0.8
"""Noise that wanders more slowly cannot be told from levels that change."""
PRIOR_AUTOCORRELATION, PRIOR_POINTS = 0.2, 30
"""What is assumed of the noise, and how many points it is worth: short series tell little of their own."""
_EXACT = 1e-12
"""Share of a variance below which it is rounding."""


@dataclass(frozen=True)
class ChangePoint:
    """A change of level between two stretches of a series."""

    index: int
    """Of the first point after the change, from 0."""
    before: float
    """Typical value of the stretch before, and of the one after, on the scale of the series."""
    after: float
    p_value: float | None
    """Of no change here, however it was found; `None` where the method has none."""


def change_points(values: Sequence[float], *, least: int = 3) -> list[ChangePoint]:
    """Changes of level, in order. Series of fewer than ten points have none: too little is known of their noise.

    Args:
        values: finite, one per run, in order of time, on the scale where noise adds: logarithms for times.
        least: points in a stretch, at the least; never fewer than two.
    """
    least = max(least, 2)
    series = np.asarray(values, dtype=np.float64)
    if len(series) < 2 * least or series.min() == series.max():
        return []
    scaled = series - np.median(series)
    scaled /= np.abs(scaled).max()
    autocorrelation = _autocorrelation(scaled)
    found = _pruned(scaled, _candidates(scaled, least, autocorrelation), least, autocorrelation)
    levels = [float(np.median(series[start:end])) for start, end in pairwise([0, *found, len(series)])]
    return [
        ChangePoint(index, before, after, p_value)
        for (index, p_value), (before, after) in zip(found.items(), pairwise(levels), strict=True)
    ]


def _candidates(series: Numbers, least: int, autocorrelation: float) -> list[int]:
    """Ends of the windows that differ from their surroundings, found by splitting there until none does any more.

    Circular binary segmentation: Olshen, Venkatraman, Lucito & Wigler, Biostatistics 5 (2004), section 2.
    """
    found: set[int] = set()
    stretches = [(0, len(series))]
    while stretches:
        start, end = stretches.pop()
        if end - start < 2 * least:
            continue
        tries = [(start, end)], _parts(start, end, least)
        cuts = next(filter(None, (_cuts(series, places, least, autocorrelation) for places in tries)), None)
        if cuts:
            ends = _placed(series, [start, *cuts, end], least)
            found.update(ends[1:-1])
            stretches.extend(pairwise(ends))
    return sorted(found)


def _cuts(series: Numbers, places: Sequence[tuple[int, int]], least: int, autocorrelation: float) -> list[int]:
    """The ends of the window that differs most from its surroundings in any of these places; none where none does."""
    best, cuts = LEVEL, []
    for start, end in places:
        values = _clipped(series[start:end], autocorrelation)
        first, last = _window(values, least)
        outside = np.concatenate([values[:first], values[last:]])
        p_value = len(places) * _p_value(values[first:last], outside, autocorrelation)
        if p_value <= best:
            best, cuts = p_value, [cut for cut in (start + first, start + last) if start < cut < end]
    return cuts


def _parts(start: int, end: int, least: int) -> list[tuple[int, int]]:
    """Parts of a stretch, each half of one before and overlapping its neighbours by half: where levels come and go, no window differs
    from all of the stretch.

    Seeded intervals: Kovács, Bühlmann, Li & Munk, Biometrika 110 (2023).
    """
    parts, length = [], (end - start) / 2
    while length >= max(LEAST_PART, 2 * least):
        count = math.ceil(2 * (end - start) / length) - 1
        places = [start + round(i * (end - start - length) / (count - 1)) for i in range(count)]
        parts += [(place, min(place + round(length), end)) for place in places]
        length /= 2
    return parts


def _pruned(series: Numbers, candidates: list[int], least: int, autocorrelation: float) -> dict[int, float]:
    """The candidates that part the stretches on their two sides, with their p-values: the weakest is dropped until all do."""

    @cache
    def weakness(start: int, cut: int, end: int) -> tuple[bool, float]:
        values = _clipped(series[start:end], autocorrelation)
        before, after = values[: cut - start], values[cut - start :]
        return _drifts(before, after, autocorrelation), _p_value(before, after, autocorrelation)

    kept = candidates
    while kept:
        ends = _placed(series, [0, *kept, len(series)], least)
        kept = ends[1:-1]
        doubts = [weakness(*stretch) for stretch in zip(ends, kept, ends[2:], strict=False)]
        worst = max(doubts)
        if worst <= (False, LEVEL):
            return {cut: p_value for cut, (_, p_value) in zip(kept, doubts, strict=True)}
        del kept[doubts.index(worst)]
    return {}


def _placed(series: Numbers, ends: Sequence[int], least: int) -> list[int]:
    """The ends of neighbouring stretches, each put where the absolute distances to the medians on its two sides are least.

    Outliers hardly move such a place.
    """
    placed = list(ends)
    for i in range(1, len(placed) - 1):
        low, cut, high = placed[i - 1 : i + 2]
        before, after = np.median(series[low:cut]), np.median(series[cut:high])
        gained = np.cumsum(np.abs(series[low:high] - after) - np.abs(series[low:high] - before))
        placed[i] = low + least + int(gained[least - 1 : high - low - least].argmax())
    return placed


def _window(values: Numbers, least: int) -> tuple[int, int]:
    """First index, and the one after the last, of the window whose mean differs most from the rest in standard errors.

    The window and what remains on each of its sides have the least number of points, or nothing remains there.
    """
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    best, window = -1.0, (0, n)
    for length in range(least, n - least + 1):
        weight = 1 / math.sqrt(length * (1 - length / n))
        inner = np.abs(sums[least + length : n - least + 1] - sums[least : n - least + 1 - length])
        places = [(abs(float(sums[length])), 0)]
        if len(inner):
            place = int(inner.argmax())
            places.append((float(inner[place]), least + place))
        for difference, start in places:
            if difference * weight > best:
                best, window = difference * weight, (start, start + length)
    return window


def _p_value(inside: Numbers, outside: Numbers, autocorrelation: float) -> float:
    """Of two samples, one of which was searched for, having one level; at most 1.

    Student's t, its error widened by what autocorrelation adds to that of a mean, times the number of independent places
    where the window may lie, 0.2 n^1.5 by simulation. It is 1 where the counts on both sides of the middle between the
    samples are no rarity: few odd values among many equal ones are far from normal.
    """
    n = len(inside) + len(outside)
    difference = abs(float(inside.mean() - outside.mean()))
    if difference == 0 or n * _counts_p_value(inside, outside) > COUNTS_LEVEL:
        return 1.0
    squares = max(_squares(inside) + _squares(outside), _EXACT * difference**2)
    variance = squares / (n - 3) * (1 + autocorrelation) / (1 - autocorrelation)
    t = difference / math.sqrt(variance * (1 / len(inside) + 1 / len(outside)))
    return min(1.0, 0.2 * math.pow(n, 1.5) * 2 * float(stdtr(n - 3, -t)))


def _counts_p_value(inside: Numbers, outside: Numbers) -> float:
    """Fisher's exact test, one-sided, of the counts beyond the middle between the two means."""
    if inside.mean() < outside.mean():
        inside, outside = -inside, -outside
    middle = (inside.mean() + outside.mean()) / 2
    hits = int((inside > middle).sum())
    beyond, n, size = hits + int((outside > middle).sum()), len(inside) + len(outside), len(inside)
    counts = np.arange(hits, min(beyond, size) + 1)
    ways = _log_choose(beyond, counts) + _log_choose(n - beyond, size - counts) - _log_choose(n, np.array([size]))
    return float(np.exp(ways).sum())


def _log_choose(n: int, k: np.ndarray[tuple[int], np.dtype[np.int_]]) -> Numbers:
    logs: Numbers = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs


def _drifts(before: Numbers, after: Numbers, autocorrelation: float) -> bool:
    """Whether a straight line through both stretches explains them as well as a step, or needs no step in addition."""
    values = np.concatenate([before, after])
    n = len(values)
    line = np.column_stack([np.ones(n), np.linspace(-1, 1, n)])
    by_line = _squares_beside(line, values)
    if by_line <= _squares(before) + _squares(after):
        return True
    by_both = max(_squares_beside(np.column_stack([line, np.arange(n) >= len(before)]), values), _EXACT * by_line)
    if n <= 4 or by_line <= by_both:
        return True
    t = math.sqrt((by_line / by_both - 1) * (n - 4) * (1 - autocorrelation) / (1 + autocorrelation))
    return 2 * float(stdtr(n - 4, -t)) > DRIFT_LEVEL


def _squares(values: Numbers) -> float:
    return float(((values - values.mean()) ** 2).sum())


def _squares_beside(terms: np.ndarray[tuple[int, int], np.dtype[np.float64]], values: Numbers) -> float:
    """Sum of squares that least squares on the terms leave."""
    return float(((values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]) ** 2).sum())


def _clipped(values: Numbers, autocorrelation: float) -> Numbers:
    """The values, those far from their median moved nearer.

    The unit is the noise's standard deviation, or that of all the values (from the median absolute deviation) where that is
    wider. Where both are none, because most values are equal, there is no measure of far.
    """
    centre = float(np.median(values))
    noise = math.sqrt(_mean_squared_steps(values)[0] / 2 / (1 - autocorrelation))
    unit = max(noise, 1.4826 * float(np.median(np.abs(values - centre))))
    return np.clip(values, centre - CLIP * unit, centre + CLIP * unit) if unit > 0 else values


def _autocorrelation(series: Numbers) -> float:
    """Of the noise, from one point to the next, between 0 and the highest.

    For first-order autoregression, the squared steps over two points are 1 + ρ times those over one, and a few changes of
    level hardly matter to them (Chakar, Lebarbier, Lévy-Leduc & Robin, Bernoulli 23 (2017), section 2).
    """
    single, double = _mean_squared_steps(series)
    if single == 0:
        return PRIOR_AUTOCORRELATION
    n = len(series)
    pooled = (n * (double / single - 1) + PRIOR_POINTS * PRIOR_AUTOCORRELATION) / (n + PRIOR_POINTS)
    return min(max(pooled, 0.0), HIGHEST_AUTOCORRELATION)


def _mean_squared_steps(values: Numbers) -> tuple[float, float]:
    """Mean squared difference of neighbours, and of points two apart, those of spikes and changes of level cut short."""
    single, double = np.abs(np.diff(values)), np.abs(values[2:] - values[:-2])
    middle, high = np.quantile(double, [0.5, 0.85])
    limit = max(3.5 * middle, high)
    return float((np.minimum(single, limit) ** 2).mean()), float((np.minimum(double, limit) ** 2).mean())
