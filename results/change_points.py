"""Where the level of a series changes: offline segmentation with defaults that hold their false alarms. Pure functions over numbers.

What a series is, and what a change means, is `results.history`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass


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
    """Changes of level, in order.

    Args:
        values: one per run, in order of time, on the scale where noise adds: logarithms for times.
        least: points in a stretch, at the least.
    """
    raise NotImplementedError
