"""What two runs have in common and how far B lies from A, as plain data. `results.compare` makes it, `results.gate` judges it."""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from results.cases import PlannedCase
from results.metrics import METRICS
from results.record import Scalar
from results.records import VARIABLE, Failure, RowWarning, Run
from results.stats import CONFIDENCE, Estimate, Shift, blocked, changed_answers_p, exp, paired, welch
from results.summary import warnings_to_dicts


@dataclass(frozen=True)
class Difference:
    """A fact of the environment that differs; `None` where a side does not know it."""

    key: str
    a: Scalar
    b: Scalar
    hard: bool

    @property
    def shown(self) -> tuple[str, str]:
        """Both values as text."""
        absent = "not set" if self.key.startswith(VARIABLE) else "unknown"
        a, b = (absent if value is None else str(value) for value in (self.a, self.b))
        return a, b


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one case on both sides."""

    planned: PlannedCase
    metric: str
    a: Estimate
    b: Estimate
    a_values: tuple[float, ...]
    """One for each process, or for scores each item that both sides answered: what the effect is taken from."""
    b_values: tuple[float, ...]
    paired: bool = False
    """Whether value i of both belong together: the same item, or two processes side by side in time."""
    a_warnings: tuple[RowWarning, ...] = ()
    b_warnings: tuple[RowWarning, ...] = ()

    @property
    def replicates(self) -> int:
        """Independent values on the smaller side: processes, or for scores items."""
        return min(len(self.a_values), len(self.b_values))

    @cached_property
    def effect(self) -> Shift | None:
        """B against A with its 95 % interval: see `effect_at`."""
        return self.effect_at(CONFIDENCE)

    def effect_at(self, confidence: float) -> Shift | None:
        """B against A: on logarithms of the process medians, as their difference for shares, or the mean difference per item
        for scores. `None` where no logarithm exists.

        Processes are compared by Welch's t, or by blocks where they stood side by side. The item is the unit of scores: greedy
        answers repeat, so more processes would tell nothing new. An exact metric that each side repeats has no doubt.
        """
        a, b = self.a_values, self.b_values
        if not a or not b or not all(map(math.isfinite, (*a, *b))):
            return None
        if self.is_score:
            found = paired([after - before for before, after in zip(a, b, strict=True)], confidence)
            exact_p = changed_answers_p(a, b)
            return found if exact_p is None else replace(found, p_value=exact_p)
        test = blocked if self.paired else welch
        if METRICS[self.metric].unit == "share":
            return test(a, b, confidence)
        if min(*a, *b) <= 0:
            return welch(a, b, confidence) if {*a, *b} == {0.0} else None
        if METRICS[self.metric].exact and len(set(a)) == len(set(b)) == 1:
            value = math.log(b[0] / a[0])
            return Shift(value, value, value, 0.0)
        return test([math.log(value) for value in a], [math.log(value) for value in b], confidence)

    @property
    def is_score(self) -> bool:
        """Whether it is of scores, which are paired by item."""
        return METRICS[self.metric].unit == "score"

    @property
    def in_points(self) -> bool:
        """Whether the effect is a difference of values between 0 and 1, and no ratio."""
        return METRICS[self.metric].unit in ("score", "share")

    @property
    def all_or_nothing(self) -> Literal["lost", "gained"] | None:
        """Whether no process of B has any of what A delivers for sure, or the reverse: that has no logarithm, and no doubt."""
        if METRICS[self.metric].better != "higher" or self.effect is not None:
            return None
        if _nothing(self.b) and _some(self.a):
            return "lost"
        return "gained" if _nothing(self.a) and _some(self.b) else None

    @property
    def ratio(self) -> float | None:
        """B / A: of the geometric means of the processes, or of the two scores or shares."""
        return self._ratio(self.effect.value if self.effect else None)

    @property
    def low(self) -> float | None:
        """Lower end of the ratio's 95 % interval; for scores and shares that of the difference, put as a ratio."""
        return self._ratio(self.effect.low if self.effect else None)

    @property
    def high(self) -> float | None:
        return self._ratio(self.effect.high if self.effect else None)

    @property
    def detectable(self) -> float | None:
        """The smallest effect seen with 80 % power: 0.03 is 3 % worse, or 3 points. See `results.stats.welch`."""
        if self.effect is None or self.effect.detectable is None:
            return None
        return self.effect.detectable if self.in_points else exp(self.effect.detectable) - 1

    @property
    def warnings(self) -> tuple[RowWarning, ...]:
        """The warnings of both sides."""
        return self.a_warnings + tuple(one for one in self.b_warnings if one not in self.a_warnings)

    @property
    def margin(self) -> float | None:
        """What does not matter, on the effect's scale: 0 for exact metrics without a margin, `None` where nothing is judged."""
        metric = METRICS[self.metric]
        if metric.margin is None:
            return 0.0 if metric.exact else None
        return self.scaled(metric.margin)

    def scaled(self, change: float) -> float:
        """A relative change, or points, on the effect's scale, so that +5 % and back are equally far."""
        return change if self.in_points else math.log1p(change)

    def scaled_floor(self, floor: float) -> float:
        """A difference in the metric's unit on the effect's scale, the same from A to B and back."""
        least = min(self.a.value, self.b.value)
        if self.in_points or not floor:
            return floor
        return math.log1p(floor / least) if least > 0 else math.inf

    @property
    def worsening(self) -> Shift | None:
        """The effect, turned so that positive is worse."""
        return self.turned(self.effect)

    def turned(self, effect: Shift | None) -> Shift | None:
        """An effect of this row, turned so that positive is worse."""
        if effect is None or METRICS[self.metric].better != "higher":
            return effect
        low, high = (None if end is None else -end for end in (effect.high, effect.low))
        return replace(effect, value=-effect.value, low=low, high=high)

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON, in base units."""
        return {
            "case_id": self.planned.case.case_id,
            "label": self.planned.label,
            "metric": self.metric,
            "unit": METRICS[self.metric].unit,
            "a": asdict(self.a),
            "b": asdict(self.b),
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "difference": asdict(self.effect) if self.in_points and self.effect else None,
            "detectable": self.detectable,
            "replicates": self.replicates,
            "a_values": self.a_values,
            "b_values": self.b_values,
            "paired": self.paired,
            "a_warnings": warnings_to_dicts(self.a_warnings),
            "b_warnings": warnings_to_dicts(self.b_warnings),
        }

    def _ratio(self, effect: float | None) -> float | None:
        if effect is None:
            return None
        if not self.in_points:
            return exp(effect)
        return (self.a.value + effect) / self.a.value if self.a.value else None


def _nothing(side: Estimate) -> bool:
    return side.low == side.high == 0


def _some(side: Estimate) -> bool:
    return side.low is not None and side.low > 0


@dataclass(frozen=True)
class MissingMetric:
    """A metric of a case that both sides measured, but that only one of them has."""

    planned: PlannedCase
    metric: str
    lacking: Literal["A", "B"]
    items: int | None = None
    """Of a score that both have: how many items it lacks; `None`: the whole metric."""


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common, worst first, and what they have not."""

    a_run: Run
    b_run: Run
    differences: tuple[Difference, ...]
    rows: tuple[ComparisonRow, ...]
    only_a: tuple[PlannedCase, ...]
    """Cases that were measured in A only."""
    only_b: tuple[PlannedCase, ...]
    newly_failed: tuple[Failure, ...] = ()
    """The last failure on B of each case that A measured without any, whether or not other processes of B measured it."""
    unreached: tuple[PlannedCase, ...] = ()
    """Cases that A measured and that B planned, but did not measure, other than the newly failed ones."""
    missing_metrics: tuple[MissingMetric, ...] = ()
    a_name: str = ""
    """What people call side A; the id of its run where nothing else was given to `compare`."""
    b_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data for JSON."""
        cases = {
            name: [{"case_id": one.case.case_id, "label": one.label} for one in planned]
            for name, planned in (("only_a", self.only_a), ("only_b", self.only_b), ("unreached", self.unreached))
        }
        return {
            "schema": "comparison/1",
            "a_run": self.a_run.run_id,
            "b_run": self.b_run.run_id,
            "a_name": self.a_name,
            "b_name": self.b_name,
            "differences": [asdict(one) for one in self.differences],
            "rows": [row.to_dict() for row in self.rows],
            "newly_failed": [one.model_dump(mode="json", exclude={"requests"}) for one in self.newly_failed],
            "missing_metrics": [
                {
                    "case_id": one.planned.case.case_id,
                    "label": one.planned.label,
                    "metric": one.metric,
                    "lacking": one.lacking,
                    "items": one.items,
                }
                for one in self.missing_metrics
            ],
            **cases,
        }
