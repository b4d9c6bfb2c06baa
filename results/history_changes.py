"""Where the level of a series changed, by four rules. What a series is, is `results.history`'s; the mathematics is that of
`results.change_points` and `results.fast_rule`.

Slow rule: change points over the whole series. Fast rule: the newest runs against the stable stretch before them. Failures: a case
that was measured and now fails. Drift guard: the newest level against a pinned release, for what no single step shows.
"""

import math
import statistics
from collections.abc import Sequence

from results.change_points import change_points
from results.fast_rule import LEAST, suspected
from results.history import Change, History, MetricSeries, Stretch
from results.summary import FAULTS

NEWEST = 8
"""Runs at the end of a series that are its present: the fast rule looks at changes among them, the drift guard at their level."""
LOCATION = 7.35
"""By how many variances the sum of squares may grow when a change is put elsewhere: so far 95 % of true changes lie (the larger of two
independent exponential variables, doubled; Siegmund, Confidence Sets in Change-Point Problems, 1988)."""
RECOVERED = 0.5
"""Margins by which a level may be worse than before a change and count as recovered, as many as a gate lets pass."""
DRIFT_CONFIDENCE = 0.99
"""Of the drift guard, which looks again with every run."""
DRIFT_LEAST = 3
"""Runs after the release without which the guard says nothing."""


def history_of(series: MetricSeries) -> History:
    """The stretches and changes of a series; it has points."""
    n = len(series.points)
    if series.repeats:
        known = [point.value for point in series.points]
        starts = [i for i in range(n) if i == 0 or not math.isclose(known[i], known[i - 1], rel_tol=1e-12)]
        newest, needed = None, max(0, 2 - n)
    else:
        starts = [0, *(one.index for one in change_points(series.scale))]
        newest, needed = _newest(series, starts[-1]), max(0, LEAST + 1 - n)
    slow = len(starts)
    if newest is not None and newest < n - 1:
        starts.append(newest)
    stretches = [Stretch(a, b, _median(series, a, b)) for a, b in zip(starts, [*starts[1:], n], strict=True)]
    changes = [_step(series, stretches, place, fast=place >= slow) for place in range(1, len(stretches))]
    if newest == n - 1:
        changes.append(_suspicion(series, stretches[-1]))
    changes += _failures(series)
    drift, guarded = _drift(series, stretches, changes)
    return History(series, tuple(stretches), (*changes, *drift), needed, guarded)


def _median(series: MetricSeries, start: int, end: int) -> float:
    return statistics.median(point.value for point in series.points[start:end])


def _effect(series: MetricSeries, before: float, after: float) -> float:
    """From one level to another, on the scale of the series."""
    first, second = series.scaled([before, after])
    return second - first


def _newest(series: MetricSeries, start: int) -> int | None:
    """The first of the newest runs that all lie beyond the stretch before them on one side, by the fast rule."""
    values, margin = series.scale, series.margin
    if margin is None:
        return None
    for first in range(max(start + LEAST, len(values) - NEWEST), len(values)):
        found = [suspected(values[start:first], value, margin=margin) for value in values[first:]]
        if len({one is not None and one.effect > 0 for one in found}) == 1 and all(found):
            return first
    return None


def _step(series: MetricSeries, stretches: Sequence[Stretch], place: int, *, fast: bool) -> Change:
    """The change between a stretch and the one before it."""
    before, after = stretches[place - 1], stretches[place]
    first, last = (after.start,) * 2 if series.repeats else _location(series.scale[before.start : after.end], before, after)
    effect = _effect(series, before.level, after.level)
    least = (series.margin or 0.0) * RECOVERED
    return Change(
        series=series,
        found_by="exact" if series.repeats else "newest runs" if fast else "step",
        run=series.points[after.start].run,
        after_run=series.points[first - 1].run,
        by_run=series.points[last].run,
        before=before.level,
        after=after.level,
        effect=effect,
        direction=series.direction(effect),
        stands=all(series.worsening(_effect(series, before.level, one.level)) > least for one in stretches[place:]),
    )


def _location(values: Sequence[float], before: Stretch, after: Stretch) -> tuple[int, int]:
    """The first and the last point at which a change may have begun, around the best one."""

    def squares(cut: int) -> float:
        return _squares(values[:cut]) + _squares(values[cut:])

    best = after.start - before.start
    variance = squares(best) / max(1, len(values) - 2)
    bound = squares(best) + LOCATION * variance
    first = last = best
    while first > 1 and squares(first - 1) <= bound:
        first -= 1
    while last < len(values) - 1 and squares(last + 1) <= bound:
        last += 1
    return before.start + first, before.start + last


def _squares(values: Sequence[float]) -> float:
    """Around their mean."""
    centre = statistics.fmean(values)
    return sum((value - centre) ** 2 for value in values)


def _suspicion(series: MetricSeries, stretch: Stretch) -> Change:
    """What the newest run alone shows."""
    newest, level = series.points[-1], _median(series, stretch.start, len(series.points) - 1)
    effect = _effect(series, level, newest.value)
    return Change(
        series=series,
        found_by="newest runs",
        run=newest.run,
        after_run=series.points[-2].run,
        by_run=newest.run,
        before=level,
        after=newest.value,
        effect=effect,
        direction=series.direction(effect),
        confirmed=False,
    )


def _failures(series: MetricSeries) -> list[Change]:
    """That the case was measured and fails in the newest runs, by itself and not for what the machine lacks."""
    last = series.points[-1]
    since = [one for one in series.failed if one.run.at > last.run.at and one.kind in FAULTS]
    if not since:
        return []
    lost = Change(
        series=series,
        found_by="failures",
        run=since[0].run,
        after_run=last.run,
        by_run=since[0].run,
        before=last.value,
        after=None,
        effect=math.inf if series.about.better != "higher" else -math.inf,
        direction="worse",
        confirmed=len(since) > 1,
    )
    return [lost]


def _drift(series: MetricSeries, stretches: Sequence[Stretch], changes: Sequence[Change]) -> tuple[list[Change], bool]:
    """Whether the newest level is worse than the release by more than the changes since that stand, and whether that could be judged.

    Student's t interval of the difference of two means of runs, with the variance within all stretches (a contrast of a one-way
    analysis of variance; Montgomery, Design and Analysis of Experiments, chapter 3): a drift within a stretch widens it.
    """
    margin, release = series.margin, series.release
    if margin is None or series.repeats or not release:
        return [], False
    since, ids = max(point.run.at for point in release), {point.run.run_id for point in release}
    place = [i for i, point in enumerate(series.points) if point.run.at > since and point.run.run_id not in ids]
    newest = [i for i in place if i >= stretches[-1].start][-NEWEST:]
    freedom = len(series.points) - len(stretches)
    if len(newest) < DRIFT_LEAST or freedom < DRIFT_LEAST:
        return [], False
    values = series.scale
    variance = sum(_squares(values[one.start : one.end]) for one in stretches) / freedom
    level = statistics.fmean(values[i] for i in newest)
    pinned = statistics.fmean(series.scaled([point.value for point in release]))
    known = sum(
        series.worsening(one.effect)
        for one in changes
        if one.direction == "worse" and one.confirmed and one.stands and one.after is not None and one.run.at > since
    )
    unexplained = series.worsening(level - pinned) - known
    error = math.sqrt(variance * (1 / len(newest) + 1 / len(release)))
    if unexplained < margin or unexplained <= _t_quantile(freedom) * error:
        return [], True
    found = Change(
        series=series,
        found_by="drift",
        run=series.points[max(place[0], stretches[-1].start)].run,
        after_run=max(release, key=lambda point: point.run.at).run,
        by_run=series.points[-1].run,
        before=statistics.median(point.value for point in release),
        after=statistics.median(series.points[i].value for i in newest),
        effect=level - pinned,
        direction="worse",
    )
    return [found], True


def _t_quantile(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + DRIFT_CONFIDENCE) / 2))
