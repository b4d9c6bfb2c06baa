"""Whether a run left the stretch before it: a suspicion at once, which the next run confirms by raising it too.

A pure function over numbers. Where the stretch begins is `results.change_points`'s, and what is told of it `results.history`'s.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.999
"""Of the prediction interval. High, as every run is judged and as neighbouring runs resemble one another."""
LEAST = 8
"""Points of a stretch that can be left. The t interval of fewer is so wide that next to nothing is outside."""
CLEARANCE = 1.0
"""Standard deviations that a suspicious run lies beyond all that the stretch has shown."""


@dataclass(frozen=True)
class Suspicion:
    """A run outside of what the stretch before it predicts. All on the scale of the values."""

    effect: float
    """How far it lies above the mean of the stretch; negative: below."""
    low: float
    """The ends of what was expected."""
    high: float


def suspected(
    segment: Sequence[float], new: float, *, margin: float, confidence: float = CONFIDENCE, least: int = LEAST
) -> Suspicion | None:
    """The suspicion that a run raises against the stable stretch before it, if any.

    It lies outside Student's t prediction interval of the stretch (mean ± t s √(1 + 1/n): Hahn & Meeker, Statistical Intervals,
    1991, section 4.7), clear of all that the stretch has shown, so that a series with spikes is not suspected of its next one,
    and at least a margin from the mean.

    Args:
        segment: one finite number per run, on the scale where noise adds: logarithms for times.
        margin: on the same scale: log 1.05 for 5 % of a time.
        confidence: of the interval, two-sided.
        least: with fewer runs in the stretch there is no suspicion.
    """
    from scipy.special import stdtrit

    n = len(segment)
    if n < max(least, 2) or min(segment) <= new <= max(segment):
        return None
    centre = statistics.fmean(segment)
    spread = statistics.stdev(segment)
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * spread * math.sqrt(1 + 1 / n)
    low = min(centre - half, min(segment) - CLEARANCE * spread)
    high = max(centre + half, max(segment) + CLEARANCE * spread)
    if low <= new <= high or abs(new - centre) < margin:
        return None
    return Suspicion(new - centre, low, high)
