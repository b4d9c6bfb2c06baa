"""Two runs side by side: cases paired by `case_id`, how far B lies from A, and how surely. Describes; `results.gate` judges."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator

from results.cases import Case, PlannedCase
from results.comparison import Comparison, ComparisonRow, Difference, MissingMetric
from results.errors import NotComparableError, UsageError
from results.metrics import METRICS, Metric, process_value
from results.records import HARD_FACTS, Environment, Failure, Report, RowWarning
from results.stats import Estimate
from results.summary import FAULTS, by_case, caveats_of, estimates_of, quality_of, request_scores, scores_by_request

DESCRIBED = ("prefill_tps", "decode_tps")
"""Metrics that are shown for reading and never judged: others say the same with a margin."""
MIN_BLOCKS = 3
"""Pairs of processes from which on unpaired ones are left out."""


def compare(
    a: Report, b: Report, allow: Collection[str] = (), names: tuple[str, str] = ("", ""), also: Collection[str] = ()
) -> Comparison:
    """Compare run B with run A.

    Args:
        allow: hard facts of the environment that may differ.
        names: what people call the sides; the ids of their runs unless given.
        also: metrics to compare beside those with a margin of their own, such as a policy's `asked`.

    Raises:
        UsageError: `allow` names a fact that does not exist.
        NotComparableError: other hard facts differ, or no case was measured on both sides.
    """
    differences = compare_environments(a.run.environment, b.run.environment, allow)
    sides = (_Side(a), _Side(b))
    common = [planned for planned in a.run.planned if planned.case.case_id in sides[1].plans]
    is_pool = any(one.run_id != a.run.run_id for one in a.measurements)
    by_blocks = b.run.paired_with == a.run.run_id and not is_pool
    found = [one for planned in common for one in _case_rows(planned, *sides, also, by_blocks)]
    rows = sorted((one for one in found if isinstance(one, ComparisonRow)), key=_worst_first)
    missing = tuple(one for one in found if isinstance(one, MissingMetric))
    in_a, in_b = ({key for key, mine in side.measured.items() if mine} for side in sides)
    only_a = tuple(one for one in a.run.planned if one.case.case_id in in_a - in_b)
    only_b = tuple(one for one in b.run.planned if one.case.case_id in in_b - in_a)
    last = {key: _telling(mine) for key, mine in sides[1].failed.items() if mine and key in in_a and not sides[0].failed[key]}
    lost = {key: failure for key, failure in last.items() if failure.kind not in ("interrupted", "pruned")}
    if not rows and not lost:
        raise NotComparableError(
            f"Nothing was measured in both {a.run.run_id} ({len(only_a)} cases) and {b.run.run_id} ({len(only_b)} cases): "
            "compare two runs of the same suite on the same weights."
        )
    unreached = tuple(one for one in only_a if one in common and one.case.case_id not in lost)
    a_name, b_name = (name or side.run.run_id for name, side in zip(names, (a, b), strict=True))
    newly_failed = tuple(lost.values())
    return Comparison(
        a.run, b.run, differences, tuple(rows), only_a, only_b, newly_failed, unreached, missing, a_name, b_name
    )  # fmt: skip


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

    def process_values(self, case_id: str, metric: str) -> dict[int, float]:
        """By the process's number."""
        found = {one.process: process_value(metric, one) for one in self.measured[case_id]}
        return {process: value for process, value in found.items() if value is not None}

    def item_scores(self, case_id: str, metric: str) -> dict[int, float]:
        """Each prompt's mean score."""
        values: dict[int, list[float]] = defaultdict(list)
        for request in (request for one in self.measured[case_id] for request in one.requests):
            scores = request_scores(self.scores.get(request.request_id, ()))
            if metric in scores:
                values[request.prompt_index].append(scores[metric])
        return {item: sum(mine) / len(mine) for item, mine in values.items()}


def _case_rows(
    planned: PlannedCase, a: _Side, b: _Side, also: Collection[str], by_blocks: bool
) -> Iterator[ComparisonRow | MissingMetric]:
    """One row for each metric that both sides have, and what only one of them has."""
    case_id = planned.case.case_id
    if not a.measured[case_id] or not b.measured[case_id]:
        return
    estimates_a, estimates_b = a.estimates(planned.case), b.estimates(planned.case)
    caveats = (a.caveats(case_id), b.caveats(case_id))
    tells_errors = planned.case.load is not None or any(_has_errors(side, case_id) for side in (a, b))
    for name, metric in METRICS.items():
        if not _is_compared(metric, also) or (name == "error_share" and not tells_errors):
            continue
        other_limits = name == "goodput_rps" and a.plans[case_id].limits != b.plans[case_id].limits
        if name in estimates_a and name in estimates_b and not other_limits:
            values = _values(metric, planned.case, a, b, by_blocks)
            yield ComparisonRow(planned, name, estimates_a[name], estimates_b[name], *values, *caveats)
            unanswered = len(a.item_scores(case_id, name)) - len(values[0]) if metric.level == "score" else 0
            if unanswered:
                yield MissingMetric(planned, name, "B", unanswered)
        elif name not in DESCRIBED and (name in estimates_a or name in estimates_b):
            # goodputs under different limits are two metrics, and B has not the one that A measured
            yield MissingMetric(planned, name, "B" if name in estimates_a else "A")


def _has_errors(side: _Side, case_id: str) -> bool:
    return any(side.process_values(case_id, "error_share").values())


def _is_compared(metric: Metric, also: Collection[str]) -> bool:
    """What is neither better nor worse, such as a price, is no one's verdict."""
    judged = metric.margin is not None or metric.exact or metric.name in also
    return metric.name in DESCRIBED or (metric.better is not None and judged)


def _values(metric: Metric, case: Case, a: _Side, b: _Side, by_blocks: bool) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """What both sides measured, and whether it is paired: by item for scores; by block where three processes or more of both
    sides stood side by side, and then without the others."""
    is_score = metric.level == "score"
    mine, theirs = (
        side.item_scores(case.case_id, metric.name) if is_score else side.process_values(case.case_id, metric.name)
        for side in (a, b)
    )
    common = sorted(mine.keys() & theirs.keys())
    if is_score or (by_blocks and len(common) >= MIN_BLOCKS):
        return tuple(mine[one] for one in common), tuple(theirs[one] for one in common), True
    return tuple(mine.values()), tuple(theirs.values()), False


def _worst_first(row: ComparisonRow) -> tuple[bool, float]:
    """Judged rows before described ones, each by how many margins B is worse."""
    worse = row.worsening.value if row.worsening else math.inf if row.all_or_nothing == "lost" else 0.0
    margin = row.margin or (0.05 if row.margin is None else 1e-9)
    return row.margin is None, -worse / margin
