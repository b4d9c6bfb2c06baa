"""Judging a comparison: regression, improvement, no change, or inconclusive. What the numbers are is `results.compare`'s.

Each row is judged by itself at 95 %; there is no correction for many rows yet. Simulated without any true change, with 2 %
spread and three processes a side, 0.9 % of the rows are called a regression at a margin of 5 % and 1.5 % at one of 3 %: of
comparisons of 12 independent rows, 10 % and 16 % have such a row (`benchmarks/verdicts.py`).
"""

from dataclasses import dataclass
from typing import Any, Literal

from results.cases import PlannedCase
from results.compare import Comparison, ComparisonRow
from results.metrics import METRICS
from results.policy import Policy
from results.records import Failure
from results.summary import FAULTS

Verdict = Literal["regression", "inconclusive", "no_change", "improvement", "described"]

VERDICTS: tuple[Verdict, ...] = ("regression", "inconclusive", "no_change", "improvement", "described")
"""Worst first."""

EXIT_CODES: dict[Verdict, int] = {"regression": 1, "inconclusive": 3, "no_change": 0, "improvement": 0}

MIN_REPLICATES = 3
DEFAULT = Policy()


def judge(row: ComparisonRow) -> Verdict:
    """Judge one metric of one case.

    With margin δ: `no_change` when the whole 95 % interval lies inside ±δ; otherwise `regression` when the interval excludes
    "equal" and the estimate is at least δ/2 worse (with 2 % spread this finds 90 % of +5 % shifts with five processes a side, and
    half of them with three: `benchmarks/verdicts.py`), `improvement` likewise, and `inconclusive` in all other cases: also
    without an interval and, for noisy metrics, below three replicates a side, as one value against one is never significant.
    An exact metric that each side repeats needs none: one process a side is enough to call it. When nothing is left of a
    goodput in any process of B, that is a regression without an interval, and the reverse an improvement. `described` is a metric without
    a margin, or an end-to-end time of answers that stopped early.
    """
    metric, margin, shift = METRICS[row.metric], row.margin, row.worsening
    stopped = row.metric == "e2e_s" and any(warning.kind == "early_stop" for warning in row.warnings)
    if margin is None or stopped:
        return "described"
    if row.all_or_nothing and row.replicates >= MIN_REPLICATES:
        return "regression" if row.all_or_nothing == "lost" else "improvement"
    if shift is None or shift.low is None or shift.high is None:
        return "inconclusive"
    repeats = metric.exact and shift.low == shift.high and (not row.is_score or shift.value == 0)
    if row.replicates < MIN_REPLICATES and not repeats:
        return "inconclusive"
    if -margin <= shift.low and shift.high <= margin:
        return "no_change"
    floor = row.scaled(metric.margin / 2) if metric.margin else 0.0
    if shift.low > 0 and shift.value >= floor:
        return "regression"
    if shift.high < 0 and shift.value <= -floor:
        return "improvement"
    return "inconclusive"


def verdict_of(comparison: Comparison) -> Verdict:
    """The strongest verdict of a comparison; `EXIT_CODES` has its exit code.

    A case that A measured and that failed in every process that B tried is a regression, however few these are, if the
    failure is one of `FAULTS`. All other new failures, such as missing weights or one process of several, prove nothing and
    leave the whole inconclusive. So does a case that B planned and never reached, and a comparison in which nothing can be
    judged: nothing passes because something was missing.
    """
    verdicts = {judge(row) for row in comparison.rows}
    lost = {planned.case.case_id for planned in comparison.only_a}
    if "regression" in verdicts or any(one.kind in FAULTS and one.case_id in lost for one in comparison.newly_failed):
        return "regression"
    if "inconclusive" in verdicts or comparison.newly_failed or comparison.unreached or verdicts <= {"described"}:
        return "inconclusive"
    return "improvement" if "improvement" in verdicts else "no_change"


@dataclass(frozen=True)
class RowJudgement:
    """One row of a comparison, judged."""

    row: ComparisonRow
    verdict: Verdict
    gates: bool
    """Whether it decides; other rows are shown."""
    margin: float | None
    """Relative, or points; `None`: described."""
    floor: float
    """In the metric's base unit."""
    p_value: float | None
    """Two-sided, of no change."""
    adjusted_p: float | None
    """After Benjamini and Hochberg over all judged rows."""
    corroborated_by: int
    """Other rows that point the same way: the metric in other cases, or related metrics of this case."""
    reason: str
    """One clause, such as `the whole interval lies beyond the margin` or `2 processes: a verdict needs 3`."""


@dataclass(frozen=True)
class Judgement:
    """What a policy makes of a comparison."""

    comparison: Comparison
    policy: Policy
    rows: tuple[RowJudgement, ...]
    """Worst first."""
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]
    """Sentences: why it is this verdict, and what was excused."""
    failures: tuple[Failure, ...] = ()
    """New failures that decide."""
    excused: tuple[Failure, ...] = ()
    undecided: tuple[PlannedCase, ...] = ()
    """Cases with a gating row that is inconclusive: more processes may decide them."""
    look: int | None = None
    """Which of the policy's looks this was, from 1; `None`: there is only this one."""

    def to_dict(self) -> dict[str, Any]:
        """The comparison's plain data with the judgement in it, for JSON (`schema` is `judgement/1`)."""
        raise NotImplementedError


def gate(comparison: Comparison, policy: Policy = DEFAULT, *, look: int | None = None) -> Judgement:
    """Judge a whole comparison.

    Args:
        look: which of the policy's looks this is, from 1, where more processes may follow: alpha is spent over all of them.
    """
    raise NotImplementedError
