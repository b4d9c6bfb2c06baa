"""What a comparison lacks, in sentences: what keeps a gate from passing, and what is only told. Rows are `results.gate`'s."""

from collections.abc import Sequence
from typing import Literal

from results.comparison import Comparison, MissingMetric
from results.metrics import METRICS
from results.policy import Policy
from results.records import Failure


def gaps_of(comparison: Comparison, failures: Sequence[Failure], policy: Policy) -> list[str]:
    """What keeps a gate from passing, whatever its rows say, one sentence each."""
    found = [f"{_label(comparison, one.case_id)} newly failed: {one.kind}: {one.message}" for one in failures]
    found += [f"{one.label} was planned on B, and has no measurement there." for one in comparison.unreached]
    if policy.missing_cases == "fail":
        found += _missing(comparison, policy)
    return found


def notes_on(comparison: Comparison, excused: Sequence[Failure], policy: Policy) -> list[str]:
    """What decides nothing and must not be silent, one sentence each."""
    found = [f"{_label(comparison, one.case_id)} newly failed, which is allowed: {one.kind}: {one.message}" for one in excused]
    found += [sentence for side in ("A", "B") if (sentence := _fewer_processes(comparison, side))]
    if policy.missing_cases == "pass":
        found += [f"Let pass: {sentence}" for sentence in _missing(comparison, policy)]
    found += [f"{one.label} was measured on B only: there is nothing to compare it with." for one in comparison.only_b]
    found += [
        f"{_metric_of(one)} was measured on B only: there is nothing to compare it with."
        for one in comparison.missing_metrics
        if one.lacking == "A" and _gates(one, policy)
    ]
    rows = [(row.planned, METRICS[row.metric]) for row in comparison.rows]
    found += [
        f"Rule {number} of the policy ({', '.join(rule.metrics)} of {rule.cases}) fits no row."
        for number, rule in enumerate(policy.rules, 1)
        if not any(rule.fits(*one) for one in rows)
    ]
    return found


def _fewer_processes(comparison: Comparison, side: Literal["A", "B"]) -> str:
    """That a side is judged on less than was planned, because it did not finish or processes failed."""
    run = comparison.a_run if side == "A" else comparison.b_run
    measured: dict[str, int] = {}
    for row in comparison.rows:
        if not row.is_score:
            case_id, values = row.planned.case.case_id, row.a_values if side == "A" else row.b_values
            measured[case_id] = max(measured.get(case_id, 0), len(values))
    short = [one for one in run.planned if 0 < measured.get(one.case.case_id, 0) < one.processes]
    if not short:
        return ""
    first = f"{short[0].label} in {measured[short[0].case.case_id]} of {short[0].processes} processes that were planned"
    others = f", and {len(short) - 1} more so" if len(short) > 1 else ""
    return f"{side} measured {first}{others}: it is judged on these."


def _missing(comparison: Comparison, policy: Policy) -> list[str]:
    """What A measured and B does not have, though it neither failed nor was left out by a run that ended early."""
    told = {one.case_id for one in comparison.newly_failed} | {one.case.case_id for one in comparison.unreached}
    found = [f"{one.label} was measured on A and is missing on B." for one in comparison.only_a if one.case.case_id not in told]
    return found + [
        f"{_metric_of(one)} was measured on A and is missing on B."
        for one in comparison.missing_metrics
        if one.lacking == "B" and _gates(one, policy)
    ]


def _gates(missing: MissingMetric, policy: Policy) -> bool:
    asked = missing.planned, METRICS[missing.metric]
    return policy.margin_of(*asked) is not None and policy.gates(*asked)


def _metric_of(missing: MissingMetric) -> str:
    items = "" if missing.items is None else f"{missing.items} item{'' if missing.items == 1 else 's'} of "
    return f"{METRICS[missing.metric].label} of {items}{missing.planned.label}"


def _label(comparison: Comparison, case_id: str) -> str:
    planned = (*comparison.a_run.planned, *comparison.b_run.planned)
    return next((one.label for one in planned if one.case.case_id == case_id), case_id)
