"""Judging a comparison by a policy: regression, improvement, no change, or inconclusive. What the numbers are is `results.compare`'s.

How often it errs is simulated by `benchmarks/verdicts.py`, and told in `docs/gate.md`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from results.cases import PlannedCase
from results.comparison import Comparison, ComparisonRow
from results.errors import UsageError
from results.gaps import gaps_of, notes_on
from results.metrics import METRICS
from results.policy import MIN_REPLICATES, Policy
from results.records import Failure
from results.stats import CONFIDENCE, Shift, alpha_per_look, false_discovery_adjusted
from results.summary import FAULTS

Verdict = Literal["regression", "inconclusive", "no_change", "improvement", "described"]

VERDICTS: tuple[Verdict, ...] = ("regression", "inconclusive", "no_change", "improvement", "described")
"""Worst first."""

EXIT_CODES: dict[Verdict, int] = {"regression": 1, "inconclusive": 3, "no_change": 0, "improvement": 0}

DEFAULT = Policy()

UNCONFIRMED = "worse in this row alone: more processes must confirm it"

_KINDS = {"s": "speed", "tok/s": "speed", "1/s": "speed", "B": "memory", "score": "quality", "J": "energy"}
"""What a metric is about, by its unit: metrics of one kind in one case are related."""

_WHOLES = frozenset(name for name in METRICS if name.endswith("e2e_s"))
"""Times that contain the other times of their request: both getting worse is one finding, told twice."""


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
    """Other rows that point the same way: the metric in other cases, or related metrics of this case that do not contain it."""
    reason: str
    """One clause, such as `the whole interval lies beyond the margin` or `2 processes: a verdict needs 3`."""
    effect: Shift | None = None
    """B against A with the interval that was judged, which several looks make wider than the row's own."""


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
    confidence: float = CONFIDENCE
    """Of the intervals that were judged: the policy's, or what is spent at one of several looks."""

    def to_dict(self) -> dict[str, Any]:
        """The comparison's plain data with the judgement in it, for JSON (`schema` is `judgement/1`)."""
        return {
            **self.comparison.to_dict(),
            "schema": "judgement/1",
            "policy": self.policy.model_dump(mode="json"),
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "reasons": list(self.reasons),
            "look": self.look,
            "confidence": self.confidence,
            "rows": [_row_to_dict(judged) for judged in self.rows],
            "failures": [one.model_dump(mode="json", exclude={"requests"}) for one in self.failures],
            "excused": [one.model_dump(mode="json", exclude={"requests"}) for one in self.excused],
            "undecided": [{"case_id": one.case.case_id, "label": one.label} for one in self.undecided],
        }


def gate(comparison: Comparison, policy: Policy = DEFAULT, *, look: int | None = None) -> Judgement:
    """Judge a whole comparison.

    A case that A measured and that failed in every process that B tried is a regression, however few these are, if the
    failure is one of `FAULTS`. All other new failures, such as missing weights or one process of several, prove nothing and
    leave the whole inconclusive. So does what A measured and B does not have, a case that B planned and never reached, and a
    comparison in which nothing can be judged: nothing passes because something was missing.

    Args:
        look: which of the policy's looks this is, from 1, where more processes may follow: alpha is spent over all of them.

    Raises:
        UsageError: the policy has no such look.
    """
    if look is not None and not 1 <= look <= len(policy.looks):
        raise UsageError(f"There is no look {look}: the policy {policy.name} has {len(policy.looks)}.")
    alpha = 1 - policy.confidence
    alpha = alpha if look is None else alpha_per_look(policy.looks, alpha)
    rows = _judged(comparison.rows, policy, alpha, confirms=look != len(policy.looks))
    excused = tuple(one for one in comparison.newly_failed if one.kind in policy.allow_failures)
    failures = tuple(one for one in comparison.newly_failed if one.kind not in policy.allow_failures)
    lost_ids = {planned.case.case_id for planned in comparison.only_a}
    deciding = {judged.verdict for judged in rows if judged.gates}
    gaps = gaps_of(comparison, failures, policy)
    if not deciding and not gaps:
        gaps = ["Nothing that decides could be judged."]
    verdict: Verdict = "improvement" if "improvement" in deciding else "no_change"
    if "regression" in deciding or any(one.kind in FAULTS and one.case_id in lost_ids for one in failures):
        verdict = "regression"
    elif "inconclusive" in deciding or gaps:
        verdict = "inconclusive"
    unconfirmed = any(judged.gates and judged.reason == UNCONFIRMED for judged in rows)
    forgiven = verdict == "inconclusive" and not gaps and not unconfirmed and policy.inconclusive == "pass"
    return Judgement(
        comparison=comparison,
        policy=policy,
        rows=rows,
        verdict=verdict,
        exit_code=0 if forgiven else EXIT_CODES[verdict],
        reasons=(*_row_reasons(rows, forgiven), *gaps, *notes_on(comparison, excused, policy)),
        failures=failures,
        excused=excused,
        undecided=_undecided(rows),
        look=look,
        confidence=1 - alpha,
    )


def _judged(rows: Sequence[ComparisonRow], policy: Policy, alpha: float, *, confirms: bool) -> tuple[RowJudgement, ...]:
    """All rows, worst first.

    Args:
        confirms: whether more processes may follow that confirm a regression which nothing corroborates.
    """
    bare = [_unjudged(row, policy, alpha) for row in rows]
    family = [judged.p_value for judged in bare if judged.p_value is not None]
    adjusted = iter(false_discovery_adjusted(family))
    found = [
        _with_verdict(judged if judged.p_value is None else replace(judged, adjusted_p=next(adjusted)), alpha, len(family))
        for judged in bare
    ]
    found = [replace(judged, corroborated_by=_corroboration(judged, found)) for judged in found]
    if confirms and policy.lone_regressions == "confirm":
        found = [_unconfirmed(judged) for judged in found]
    return tuple(sorted(found, key=_worst_first))


def _unjudged(row: ComparisonRow, policy: Policy, alpha: float) -> RowJudgement:
    """A row before anything is known of the others: described, or inconclusive with the reason why nobody can judge it, or none."""
    metric = METRICS[row.metric]
    margin, floor = policy.margin_of(row.planned, metric), policy.floor_of(row.planned, metric)
    judged = RowJudgement(row, "described", False, margin, floor, None, None, 0, "it has no margin")
    if margin is None:
        return judged
    if row.metric == "e2e_s" and any(warning.kind == "early_stop" for warning in row.warnings):
        return replace(judged, margin=None, reason="answers stopped early, so their lengths differ")
    judged = replace(judged, verdict="inconclusive", gates=policy.gates(row.planned, metric), reason="")
    effect = row.effect if math.isclose(1 - alpha, CONFIDENCE) else row.effect_at(1 - alpha)
    judged = replace(judged, effect=effect)
    few = f"{row.replicates} {_units(row)}: a verdict needs {MIN_REPLICATES}"
    if row.all_or_nothing:
        return replace(judged, reason=few if row.replicates < MIN_REPLICATES else "")
    if effect is None:
        finite = all(map(math.isfinite, (*row.a_values, *row.b_values)))
        nonsense = "values of zero have no ratio" if finite else "values that are no finite numbers"
        return replace(judged, reason=nonsense if row.replicates else "no value on one side")
    repeats = metric.exact and effect.low == effect.high is not None and (not row.is_score or effect.value == 0)
    if effect.low is None or (row.replicates < MIN_REPLICATES and not repeats):
        return replace(judged, reason=few)
    return replace(judged, p_value=effect.p_value)


def _with_verdict(judged: RowJudgement, alpha: float, family: int) -> RowJudgement:
    row, margin = judged.row, judged.margin
    if margin is None or judged.reason:
        return judged
    if row.all_or_nothing:
        small = abs(row.a.value - row.b.value) < judged.floor
        verdict: Verdict = "no_change" if small else "regression" if row.all_or_nothing == "lost" else "improvement"
        words = {"no_change": "the difference is below the floor", "regression": "nothing is left of it in any process"}
        return replace(judged, verdict=verdict, reason=words.get(verdict, "there was nothing of it in any process"))
    worse = row.turned(judged.effect)
    if worse is None or worse.low is None or worse.high is None:
        return judged
    floor = row.scaled_floor(judged.floor)
    within, least = max(row.scaled(margin), floor), max(row.scaled(margin / 2), floor)
    is_sure = judged.adjusted_p is None or judged.adjusted_p <= alpha
    verdict = verdict_on(worse.value, worse.low, worse.high, within, least, is_sure=is_sure)
    if verdict == "inconclusive" and not is_sure:
        alone = judged.p_value is not None and judged.p_value <= alpha
        reason = f"not sure enough among {family} rows" if alone else "it may be unchanged, and may be beyond the margin"
    else:
        reason = _reason(worse.low, worse.high, within, verdict)
    return replace(judged, verdict=verdict, reason=reason)


def verdict_on(value: float, low: float, high: float, within: float, least: float, *, is_sure: bool) -> Verdict:
    """The rule for one row. Equivalence wins: `no_change` when the whole interval lies within the margin, however sure a
    difference is. Otherwise a `regression` when B is surely worse, and not by too little to matter; an `improvement` likewise.

    Args:
        value: an effect with its interval, on its own scale, turned so that positive is worse.
        within: what does not matter, on that scale.
        least: the smallest estimate that counts: half the margin, but never less than the floor.
        is_sure: whether "no change" is excluded after the correction for all rows.
    """
    if -within <= low and high <= within:
        return "no_change"
    if is_sure and low > 0 and value >= least:
        return "regression"
    if is_sure and high < 0 and value <= -least:
        return "improvement"
    return "inconclusive"


def _reason(low: float, high: float, within: float, verdict: Verdict) -> str:
    """Why a row without doubt, or one that is surely changed or unchanged, has its verdict."""
    if verdict == "no_change":
        return "equal" if low == high == 0 else "the whole interval lies within the margin"
    if verdict == "inconclusive":
        return "surely changed, by an estimate too small to count, but perhaps beyond the margin"
    if low == high:
        return "every process says so, without spread"
    nearer = low if verdict == "regression" else -high
    return "the whole interval lies beyond the margin" if nearer > within else "surely changed, by an estimate that counts"


def _corroboration(judged: RowJudgement, rows: Sequence[RowJudgement]) -> int:
    """How many other rows have the same verdict, of the metric in other cases or of related metrics in this case."""
    if judged.verdict not in ("regression", "improvement"):
        return 0
    alike = (other.row for other in rows if other is not judged and other.verdict == judged.verdict)
    return sum(are_related(other, judged.row) for other in alike)


def are_related(one: ComparisonRow, other: ComparisonRow) -> bool:
    """Whether two rows that point the same way corroborate one another."""
    same_case = one.planned.case.case_id == other.planned.case.case_id
    same_kind = _kind_of(one) == _kind_of(other) and not {one.metric, other.metric} & _WHOLES
    return one.metric == other.metric or (same_case and same_kind)


def _kind_of(row: ComparisonRow) -> str:
    unit = METRICS[row.metric].unit
    return _KINDS.get(unit, unit)


def _unconfirmed(judged: RowJudgement) -> RowJudgement:
    if judged.verdict != "regression" or judged.corroborated_by or judged.p_value is None:
        return judged
    return replace(judged, verdict="inconclusive", reason=UNCONFIRMED)


def _worst_first(judged: RowJudgement) -> tuple[int, bool, float]:
    """By verdict, rows that decide before others, and then by how many margins B is worse."""
    row, margin = judged.row, judged.margin
    worse = row.worsening.value if row.worsening else math.inf if row.all_or_nothing == "lost" else 0.0
    scale = row.scaled(0.05 if margin is None else max(margin, 1e-9))
    return VERDICTS.index(judged.verdict), not judged.gates, -worse / scale


def _undecided(rows: Sequence[RowJudgement]) -> tuple[PlannedCase, ...]:
    """Left out is what more processes would tell nothing new of: scores, as greedy answers repeat, and values that have no ratio."""
    open_rows = (one.row for one in rows if one.gates and one.verdict == "inconclusive" and _may_be_decided(one.row))
    return tuple({row.planned.case.case_id: row.planned for row in open_rows}.values())


def _may_be_decided(row: ComparisonRow) -> bool:
    has_ratio = row.effect is not None or row.all_or_nothing is not None or not row.replicates
    return has_ratio and not row.is_score


def _row_reasons(rows: Sequence[RowJudgement], forgiven: bool) -> list[str]:
    gating = [judged.verdict for judged in rows if judged.gates]
    worse, unsure = gating.count("regression"), gating.count("inconclusive")
    found = [f"{worse} of {_counted(len(gating), 'row')} got worse."] if worse else []
    if unsure:
        passed = ", which this policy lets pass" if forgiven else ""
        found.append(f"{unsure} of {_counted(len(gating), 'row')} {'is' if unsure == 1 else 'are'} inconclusive{passed}.")
    return found


def _units(row: ComparisonRow) -> str:
    if row.is_score:
        return "item" if row.replicates == 1 else "items"
    return "process a side" if row.replicates == 1 else "processes a side"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _row_to_dict(judged: RowJudgement) -> dict[str, Any]:
    found = {**judged.row.to_dict(), **{key: value for key, value in vars(judged).items() if key != "row"}}
    return {**found, "effect": asdict(judged.effect) if judged.effect else None}
