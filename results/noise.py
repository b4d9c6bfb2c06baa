"""How stored processes of unchanged code differ: within a run, and from run to run. One figure of each for every judged row.

`results.replay` draws sides from it; `results.calibration` tells what came of them.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.change_points import change_points
from results.compare import compare
from results.comparison import ComparisonRow
from results.gate import RowJudgement, gate
from results.metrics import METRICS, process_value
from results.policy import Policy
from results.records import Measurement, Report
from results.sides import pooled
from results.summary import by_case

LEAST_PROCESSES = 6
"""Of a case, in runs that measured it in two or more: fewer tell next to nothing of how processes differ."""
LEAST_RUNS = 4
"""From which on it is estimated how runs differ."""
SURE = 0.01
"""The p-value below which runs are said to differ by more than their processes explain."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Of one row, on the scale of its effect (logarithms, or points), turned so that positive is worse."""

    judged: RowJudgement
    """The row, with the policy's margin and floor."""
    units: tuple[tuple[str, int], ...]
    """The run and the number of each process."""
    residuals: Array
    """Of each process, from the mean of its run; widened by √(n / (n - 1)), as the mean is the run's own."""
    levels: Array
    """Of each run from the mean of all, so narrow that they spread as the runs do by themselves; empty: not known."""
    spread: float
    """Standard deviation between processes of one run."""
    run_spread: float | None
    """Standard deviation between runs, beyond what their processes explain; `None`: too few runs."""
    runs_differ: bool
    """Whether that is surely more than nothing."""

    @property
    def row(self) -> ComparisonRow:
        return self.judged.row


@dataclass(frozen=True)
class StoredNoise:
    noises: tuple[Noise, ...]
    left_out: tuple[str, ...]
    """Sentences: which judged rows cannot be replayed, and why."""


def stored_noise(reports: Sequence[Report], policy: Policy) -> StoredNoise:
    """The noise of every row that the policy judges, of the cases that the newest run planned.

    Scores are left out, since greedy answers repeat, and so are exact metrics. Where the level of a row changed from one run to
    another, only the runs since count.

    Args:
        reports: of one suite on one machine, in any order.
    """
    ordered = sorted(reports, key=lambda one: (one.run.started_at, one.run.run_id))
    measured = [by_case(report)[0] for report in ordered]
    noises: list[Noise] = []
    few: dict[str, None] = {}
    without: dict[str, None] = {}
    for judged in _judged_rows(ordered, policy):
        row = judged.row
        mine = [(report.run.run_id, found[row.planned.case.case_id]) for report, found in zip(ordered, measured, strict=True)]
        values = {run_id: _values(row.metric, measurements) for run_id, measurements in mine}
        name = METRICS[row.metric].label
        if any(not math.isfinite(value) or (value <= 0 and not row.in_points) for of in values.values() for value in of.values()):
            without[name] = None
            continue
        runs = _since_last_change(row, {run_id: of for run_id, of in values.items() if len(of) > 1})
        if sum(map(len, runs.values())) < LEAST_PROCESSES:
            few[row.planned.label] = None
            continue
        noises.append(_noise(judged, runs))
    told = [f"{label} is left out: it has fewer than {LEAST_PROCESSES} comparable processes." for label in few]
    told += [f"{name} is left out of cases where it was zero or no finite number." for name in without]
    return StoredNoise(tuple(noises), tuple(told))


def _judged_rows(ordered: Sequence[Report], policy: Policy) -> Iterator[RowJudgement]:
    """What the gate judges, found by comparing all that is stored with itself."""
    newest = {planned.case.case_id for planned in ordered[-1].run.planned}
    whole = pooled(ordered)
    if not any(one.case_id in newest for one in whole.measurements):
        return
    for judged in gate(compare(whole, whole, policy.allow_env_diff, also=policy.asked), policy).rows:
        row = judged.row
        if (
            row.planned.case.case_id in newest
            and judged.margin is not None
            and not row.is_score
            and not METRICS[row.metric].exact
        ):
            yield judged


def _values(metric: str, measurements: Sequence[Measurement]) -> dict[int, float]:
    """By the process's number."""
    found = {one.process: process_value(metric, one) for one in measurements}
    return {process: value for process, value in found.items() if value is not None}


def _since_last_change(row: ComparisonRow, runs: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """The runs since the level last changed, on the row's scale, turned."""
    sign = -1.0 if METRICS[row.metric].better == "higher" else 1.0
    turned = {
        run_id: {process: sign * (value if row.in_points else math.log(value)) for process, value in of.items()}
        for run_id, of in runs.items()
    }
    found = change_points([statistics.fmean(of.values()) for of in turned.values()]) if turned else []
    return dict(list(turned.items())[found[-1].index if found else 0 :])


def _noise(judged: RowJudgement, runs: dict[str, dict[int, float]]) -> Noise:
    """Estimates of a one-way random-effects analysis of variance (Searle, Casella & McCulloch, Variance Components, 1992, section
    3.6), and runs' levels shrunk to their variance (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8)."""
    first = next(value for of in runs.values() for value in of.values())
    groups = [np.array(list(of.values())) - first for of in runs.values()]  # so that what repeats has no spread by rounding
    residuals = [(of - of.mean()) * math.sqrt(len(of) / (len(of) - 1)) if np.ptp(of) else np.zeros(len(of)) for of in groups]
    sizes, means = np.array([len(of) for of in groups]), np.array([of.mean() for of in groups])
    total, count = int(sizes.sum()), len(groups)
    within = float(sum(((of - of.mean()) ** 2).sum() for of in groups if np.ptp(of))) / (total - count)
    levels, between, differ = np.empty(0), None, False
    if count >= LEAST_RUNS:
        grand = float(sizes @ means) / total
        found = float(sizes @ (means - grand) ** 2) / (count - 1)
        between = max(0.0, found - within) / ((total - float(sizes @ sizes) / total) / (count - 1))
        seen = float(means.var(ddof=1))
        levels = (means - means.mean()) * (math.sqrt(min(1.0, between / seen)) if seen else 0.0)
        differ = _differ(found, within, count, total)
    return Noise(
        judged=judged,
        units=tuple((run_id, process) for run_id, of in runs.items() for process in of),
        residuals=np.concatenate(residuals),
        levels=levels,
        spread=math.sqrt(within),
        run_spread=None if between is None else math.sqrt(between),
        runs_differ=differ,
    )


def _differ(between: float, within: float, runs: int, processes: int) -> bool:
    """The F test of one-way analysis of variance, of mean squares."""
    from scipy.special import fdtrc

    if not within:
        return between > 0
    return float(fdtrc(runs - 1, processes - runs, between / within)) < SURE
