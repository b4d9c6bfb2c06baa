"""How soon `bench history` confirms a known step, in series of runs drawn from stored noise."""

import math
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from results.history import MetricSeries, Point, RunOrigin
from results.history_changes import history_of
from results.metrics import METRICS
from results.noise import Array, Noise
from results.replay import draw_processes

BEFORE, AFTER = 10, 10
"""Runs before the step, and after it at the most."""


@dataclass(frozen=True)
class Delay:
    """Until a step is confirmed as a change for the worse."""

    effect: float
    """Relative, or in points."""
    trials: int
    found: int
    """Within ten runs."""
    runs_for_half: int | None
    """Runs with the step after which half of the trials had found it; `None`: they never had."""


def delay(noise: Noise, effect: float, trials: int, random: np.random.Generator) -> tuple[int | None, ...]:
    """Runs with the step until it was confirmed, in each of so many series; `None`: not within ten."""
    scale = _series_of_runs(noise, trials, random)
    scale[:, BEFORE:] += noise.row.scaled(effect)
    return tuple(_runs_until_found(noise, one) for one in scale)


def summed(delays: list[int | None], effect: float) -> Delay:
    """Several rows' delays as one figure."""
    found = sorted(one for one in delays if one is not None)
    half = (len(delays) - 1) // 2
    return Delay(effect, len(delays), len(found), found[half] if len(found) > half else None)


def _series_of_runs(noise: Noise, trials: int, random: np.random.Generator) -> Array:
    """Trials × runs, on the row's scale: medians of as many processes as a stored run has."""
    runs = BEFORE + AFTER
    sizes = [sum(run == other for run, _ in noise.units) for other in {run for run, _ in noise.units}]
    size = round(statistics.median(sizes))
    drawn = draw_processes(noise.residuals[None, :], size, trials * runs, random)[0]
    medians: Array = np.median(drawn, axis=1).reshape(trials, runs)
    if len(noise.levels):
        medians += noise.levels[random.integers(len(noise.levels), size=medians.shape)]
    return medians


def _runs_until_found(noise: Noise, scale: Array) -> int | None:
    row, sign = noise.row, -1 if METRICS[noise.row.metric].better == "higher" else 1
    typical = row.a.value
    values = [typical + sign * one if row.in_points else typical * math.exp(sign * one) for one in scale.tolist()]
    points = tuple(Point(_run(place), value, 1) for place, value in enumerate(values))
    for count in range(1, AFTER + 1):
        found = history_of(MetricSeries(row.planned, row.metric, "", points[: BEFORE + count]))
        if any(one.direction == "worse" and one.confirmed and one.stands for one in found.changes):
            return count
    return None


def _run(place: int) -> RunOrigin:
    at = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=place)
    return RunOrigin(f"{place:02}", at, "", None, None, False, "", {})
