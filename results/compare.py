"""Two runs side by side: cases paired by `case_id`, how far B lies from A, and how surely. Describes; `results.gate` judges."""

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from results.cases import Case, PlannedCase
from results.errors import NotComparableError, UsageError
from results.metrics import METRICS, Metric, process_value
from results.record import Scalar
from results.records import HARD_FACTS, Environment, Failure, Report, RowWarning, Run
from results.stats import Estimate, Shift, exp, paired, welch
from results.summary import (
    FAULTS,
    by_case,
    caveats_of,
    estimates_of,
    quality_of,
    request_scores,
    scores_by_request,
    warnings_to_dicts,
)

DESCRIBED = ("prefill_tps", "decode_tps")
"""Metrics that are shown for reading and never judged: others say the same with a margin."""


@dataclass(frozen=True)
class Difference:
    """A fact of the environment that differs; `None` where a side does not know it."""

    key: str
    a: Scalar
    b: Scalar
    hard: bool


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one case on both sides."""

    planned: PlannedCase
    metric: str
    a: Estimate
    b: Estimate
    effect: Shift | None
    """B against A: on logarithms of the process medians, as their difference for shares, or the mean difference per item
    for scores. `None` where no logarithm exists."""
    replicates: int
    """Independent values on the smaller side: processes, or for scores the items that both sides answered."""
    a_warnings: tuple[RowWarning, ...] = ()
    b_warnings: tuple[RowWarning, ...] = ()

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

    @property
    def worsening(self) -> Shift | None:
        """The effect, turned so that positive is worse."""
        effect = self.effect
        if effect is None or METRICS[self.metric].better != "higher":
            return effect
        low, high = (None if end is None else -end for end in (effect.high, effect.low))
        return Shift(-effect.value, low, high, effect.detectable)

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
    """Cases that A measured and that B planned, but neither measured nor failed at."""

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
            "differences": [asdict(one) for one in self.differences],
            "rows": [row.to_dict() for row in self.rows],
            "newly_failed": [one.model_dump(mode="json", exclude={"requests"}) for one in self.newly_failed],
            **cases,
        }


def compare(a: Report, b: Report, allow: Collection[str] = ()) -> Comparison:
    """Compare run B with run A.

    Args:
        allow: hard facts of the environment that may differ.

    Raises:
        UsageError: `allow` names a fact that does not exist.
        NotComparableError: other hard facts differ, or no case was measured on both sides.
    """
    differences = compare_environments(a.run.environment, b.run.environment, allow)
    sides = (_Side(a), _Side(b))
    common = [planned for planned in a.run.planned if planned.case.case_id in sides[1].plans]
    rows = [row for planned in common for row in _case_rows(planned, *sides)]
    in_a, in_b = ({key for key, found in side.measured.items() if found} for side in sides)
    only_a = tuple(one for one in a.run.planned if one.case.case_id in in_a - in_b)
    only_b = tuple(one for one in b.run.planned if one.case.case_id in in_b - in_a)
    last = {key: _telling(found) for key, found in sides[1].failed.items() if found and key in in_a and not sides[0].failed[key]}
    lost = {key: failure for key, failure in last.items() if failure.kind not in ("interrupted", "pruned")}
    if not rows and not lost:
        raise NotComparableError(
            f"Nothing was measured in both {a.run.run_id} ({len(only_a)} cases) and {b.run.run_id} ({len(only_b)} cases): "
            "compare two runs of the same suite on the same weights."
        )
    unreached = tuple(one for one in only_a if one in common and one.case.case_id not in lost)
    rows.sort(key=_worst_first)
    return Comparison(a.run, b.run, differences, tuple(rows), only_a, only_b, tuple(lost.values()), unreached)


def _telling(failures: tuple[Failure, ...]) -> Failure:
    """The last failure that tells something about the case, or else the last one."""
    return next((one for one in reversed(failures) if one.kind in FAULTS), failures[-1])


def compare_environments(a: Environment, b: Environment, allow: Collection[str] = ()) -> tuple[Difference, ...]:
    """The facts that differ, hard ones first.

    Raises:
        UsageError: `allow` names a fact that does not exist.
        NotComparableError: a hard fact differs that is not in `allow`.
    """
    facts = a.facts.keys() | b.facts.keys()
    if unknown := sorted(set(allow) - facts - HARD_FACTS):
        raise UsageError(f"No fact of the environment is called {unknown[0]!r}: the known ones are {', '.join(sorted(facts))}.")
    found = [
        Difference(key, a.facts.get(key), b.facts.get(key), key in HARD_FACTS)
        for key in sorted(facts, key=lambda key: (key not in HARD_FACTS, key))
        if a.facts.get(key) != b.facts.get(key)
    ]
    refused = [one for one in found if one.hard and one.key not in allow]
    if refused:
        named = ", ".join(f"{one.key} ({one.a!r} and {one.b!r})" for one in refused)
        remedy = " ".join(f"--allow-env-diff {one.key}" for one in refused)
        raise NotComparableError(f"The two sides ran on different machines: {named}. To compare them all the same, add {remedy}.")
    return tuple(found)


class _Side:
    """One report, indexed by case and request."""

    def __init__(self, report: Report) -> None:
        self.measured, self.failed = by_case(report)
        self.scores = scores_by_request(report)
        self.plans = {planned.case.case_id: planned for planned in report.run.planned}

    def estimates(self, case: Case) -> dict[str, Estimate]:
        """Scores for a quality pass, everything else for a speed case."""
        mine = self.measured[case.case_id]
        return quality_of(mine, self.scores) if case.purpose == "quality" else estimates_of(mine)

    def caveats(self, case_id: str) -> tuple[RowWarning, ...]:
        return caveats_of(self.plans[case_id], self.measured[case_id], self.failed[case_id])

    def process_values(self, case_id: str, metric: str) -> list[float]:
        return [value for one in self.measured[case_id] if (value := process_value(metric, one)) is not None]

    def item_scores(self, case_id: str, metric: str) -> dict[int, float]:
        """Each prompt's mean score."""
        values: dict[int, list[float]] = defaultdict(list)
        for request in (request for one in self.measured[case_id] for request in one.requests):
            scores = request_scores(self.scores.get(request.request_id, ()))
            if metric in scores:
                values[request.prompt_index].append(scores[metric])
        return {item: sum(mine) / len(mine) for item, mine in values.items()}


def _case_rows(planned: PlannedCase, a: _Side, b: _Side) -> list[ComparisonRow]:
    """One row for each metric that both sides have."""
    case_id, rows = planned.case.case_id, []
    estimates_a, estimates_b = a.estimates(planned.case), b.estimates(planned.case)
    caveats = (a.caveats(case_id), b.caveats(case_id))
    for name, metric in METRICS.items():
        if name not in DESCRIBED and (metric.better is None or (metric.margin is None and not metric.exact)):
            continue  # what is neither better nor worse, such as a price, is no one's verdict
        if name == "goodput_rps" and a.plans[case_id].limits != b.plans[case_id].limits:
            continue  # two goodputs under different limits are two metrics
        if name == "error_share" and planned.case.load is None:
            continue
        if name in estimates_a and name in estimates_b:
            if metric.level == "score":
                effect, replicates = _item_effect(a.item_scores(case_id, name), b.item_scores(case_id, name))
            else:
                values = (a.process_values(case_id, name), b.process_values(case_id, name))
                effect, replicates = _process_effect(metric, *values), min(map(len, values))
            rows.append(ComparisonRow(planned, name, estimates_a[name], estimates_b[name], effect, replicates, *caveats))
    return rows


def _process_effect(metric: Metric, a: list[float], b: list[float]) -> Shift | None:
    """Welch's t on the logarithms of the process medians, or on shares as they are, as none is a share too; an exact metric
    that each side repeats has no doubt."""
    if metric.unit == "share":
        return welch(a, b)
    if min(*a, *b) <= 0:
        return welch([0.0] * len(a), [0.0] * len(b)) if len({*a, *b}) == 1 else None
    if metric.exact and len(set(a)) == len(set(b)) == 1:
        value = math.log(b[0] / a[0])
        return Shift(value, value, value, 0.0)
    return welch([math.log(value) for value in a], [math.log(value) for value in b])


def _item_effect(a: dict[int, float], b: dict[int, float]) -> tuple[Shift | None, int]:
    """The mean difference over the items that both sides answered. The item is the unit: greedy answers repeat, so more
    processes would tell nothing new, and several answers to one prompt are averaged first."""
    differences = [b[item] - a[item] for item in a if item in b]
    return (paired(differences) if differences else None), len(differences)


def _worst_first(row: ComparisonRow) -> tuple[bool, float]:
    """Judged rows before described ones, each by how many margins B is worse."""
    worse = row.worsening.value if row.worsening else math.inf if row.all_or_nothing == "lost" else 0.0
    margin = row.margin or (0.05 if row.margin is None else 1e-9)
    return row.margin is None, -worse / margin
