"""How one metric of one case went from run to run: its points, its stretches between changes, and the changes.

Reading them is `results.history_reading`'s, finding the changes `results.history_changes`', and which changes belong together and
which are known `results.history_groups`'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from results.cases import PlannedCase
from results.metrics import METRICS, Metric
from results.record import Scalar

FoundBy = Literal["step", "newest runs", "exact", "failures", "drift"]
Direction = Literal["worse", "better", "small", "described"]


@dataclass(frozen=True)
class RunOrigin:
    """What is known of a run besides its numbers."""

    run_id: str
    at: datetime
    suite: str
    commit: str | None
    branch: str | None
    dirty: bool
    machine_id: str
    facts: dict[str, Scalar]
    """Of its environment."""


@dataclass(frozen=True)
class Point:
    """One run's value."""

    run: RunOrigin
    value: float
    """Median over the processes of each one's own median; for scores, of each one's mean."""
    processes: int


@dataclass(frozen=True)
class FailedRun:
    """A run in which no process measured the case: no point, and never zero."""

    run: RunOrigin
    kind: str


@dataclass(frozen=True)
class MetricSeries:
    """One metric of one case on one machine, in order of time."""

    planned: PlannedCase
    metric: str
    machine_id: str
    points: tuple[Point, ...]
    failed: tuple[FailedRun, ...] = ()
    release: tuple[Point, ...] = ()
    """The pinned release's runs."""

    @property
    def about(self) -> Metric:
        return METRICS[self.metric]

    @property
    def in_points(self) -> bool:
        return self.about.unit in ("score", "share")

    @property
    def repeats(self) -> bool:
        """Whether the least difference counts, and one value tells it."""
        return self.about.exact and self.about.margin is None

    @property
    def margin(self) -> float | None:
        """What does not matter, on the scale of `scaled`; `None`: the metric is described, never judged."""
        margin = self.about.margin
        if margin is None or self.about.better is None:
            return 0.0 if self.repeats and self.about.better else None
        return margin if self.in_points else math.log1p(margin)

    def scaled(self, values: Sequence[float]) -> list[float]:
        """The values where differences of one size mean the same: logarithms, or the values themselves where they are scores and
        shares or may be negative. Of rates of which nothing is left, a thousandth of the smallest stands for nothing."""
        floor = self._floor
        return list(values) if floor is None else [math.log(max(value, floor)) for value in values]

    @cached_property
    def _floor(self) -> float | None:
        """What stands for nothing on a scale of logarithms; `None`: no logarithms are taken."""
        known = [point.value for point in (*self.points, *self.release)]
        if self.in_points or min(known, default=0.0) < 0:
            return None
        return min((value for value in known if value > 0), default=1.0) / 1000

    @cached_property
    def scale(self) -> list[float]:
        return self.scaled([point.value for point in self.points])

    def worsening(self, effect: float) -> float:
        """An effect on that scale, turned so that positive is worse."""
        return -effect if self.about.better == "higher" else effect

    def direction(self, effect: float) -> Direction:
        if self.margin is None:
            return "described"
        worse = self.worsening(effect)
        if abs(worse) < self.margin * (1 - 1e-9) or worse == 0:
            return "small"
        return "worse" if worse > 0 else "better"


@dataclass(frozen=True)
class Stretch:
    """Runs between two changes: points `start` to `end`, the latter excluded."""

    start: int
    end: int
    level: float
    """Median, in the metric's unit."""


@dataclass(frozen=True)
class Change:
    """A change of one series."""

    series: MetricSeries
    found_by: FoundBy
    run: RunOrigin
    """The first run after it, by the best estimate."""
    after_run: RunOrigin
    """The last run that is surely before it (95 %) …"""
    by_run: RunOrigin
    """… and the first one that is surely after it."""
    before: float
    """Level before, in the metric's unit."""
    after: float | None
    """Level after; `None`: the case fails."""
    effect: float
    """On the scale of the series; infinite where the case fails."""
    direction: Direction
    confirmed: bool = True
    """`False`: only the newest run shows it, so it waits for the next one."""
    stands: bool = True
    """Of changes for the worse: whether every level since has been worse than before it, by half the margin."""

    @property
    def ratio(self) -> float | None:
        """After / before; `None` where the case fails, or before was nothing or less."""
        return None if self.after is None or self.before <= 0 else self.after / self.before


@dataclass(frozen=True)
class History:
    """A series with what was found in it."""

    series: MetricSeries
    stretches: tuple[Stretch, ...]
    changes: tuple[Change, ...]
    needed: int = 0
    """Runs more that are needed before any change could be found."""
    guarded: bool = False
    """Whether the newest level was held against the release."""
