"""Several looks at one comparison that grows: what an earlier look decided stays decided. Judging a look is `results.gate`'s."""

from collections.abc import Mapping
from dataclasses import replace

from results.comparison import Comparison
from results.gate import Judgement
from results.records import Report
from results.summary import by_case


def with_decided_rows(comparison: Comparison, earlier: Judgement | None) -> Comparison:
    """The comparison with the rows that an earlier look decided as they were then.

    A row stops at its first verdict, as a sequential test does, though its case may go on for the sake of other rows: looking again
    would give chance more occasions than alpha was spent on. Its p-value still takes part in the correction for all rows.
    """
    if earlier is None:
        return comparison
    stopped = {
        (judged.row.planned.case.case_id, judged.row.metric): judged.row
        for judged in earlier.rows
        if judged.verdict not in ("inconclusive", "described")
    }
    return replace(comparison, rows=tuple(stopped.get((row.planned.case.case_id, row.metric), row) for row in comparison.rows))


def with_baseline_told(judgement: Judgement, a: Report, b: Report) -> Judgement:
    """The judgement with a sentence on cases that the baseline measured in fewer processes than B: they limit what can be seen."""
    before, after = _processes(a), _processes(b)
    short = {before[case_id] for case_id, count in after.items() if 0 < before.get(case_id, 0) < count}
    if not short or judgement.verdict != "inconclusive":
        return judgement
    least = min(short)
    sentence = (
        f"The baseline has only {least} process{'' if least == 1 else 'es'} of some cases, and more of B alone cannot make up for "
        "that: measure both sides in turn, or extend the baseline with `bench run --extend`."
    )
    return replace(judgement, reasons=(*judgement.reasons, sentence))


def _processes(report: Report) -> Mapping[str, int]:
    """How many measured each speed case, by its id."""
    speed = {planned.case.case_id for planned in report.run.planned if planned.case.purpose != "quality"}
    return {case_id: len(found) for case_id, found in by_case(report)[0].items() if case_id in speed}
