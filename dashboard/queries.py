"""Records turned into the DataFrames that the pages show and draw. Opening the store is left to `dashboard.source`.

Frames for tables hold text as people read it, frames for figures hold numbers in base units.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from results.cases import PlannedCase
from results.caveats import sentence
from results.export_table import environment_of, heading
from results.format import moment, plain, quantity
from results.metrics import METRICS, request_values
from results.reading import RunSummary
from results.records import Measurement, Report, Request
from results.summary import CaseRow, estimate_text, headline

FLOATS = ("fp32", "bf16", "fp16")
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
RATES = ("decode_tps", "prefill_tps")


def runs_frame(runs: Iterable[RunSummary]) -> pd.DataFrame:
    """One row per run, in the order given."""
    columns = ("Run", "Started", "Suite", "Models", "Status", "Measured", "Failed", "Tags", "Commit")
    rows = [
        (
            run.run_id,
            moment(run.started_at),
            run.suite,
            ", ".join(run.models),
            run.status,
            f"{run.measured} of {run.planned}",
            run.failed,
            ", ".join(run.tags),
            (run.git_commit or "–")[:12],
        )
        for run in runs
    ]
    return _frame(rows, columns)


def case_names(planned: Iterable[PlannedCase]) -> dict[str, str]:
    """Short names by case id, made of what differs between the cases; never the same name for two cases."""
    cases = {one.case.case_id: one for one in planned}
    names = dict(zip(cases, _differing([one.words for one in cases.values()]), strict=True))
    same: dict[str, list[str]] = defaultdict(list)
    for case_id, name in names.items():
        same[name].append(case_id)
    for name, ids in same.items():
        if len(ids) > 1:
            facts = [[f"{key}={value}" for key, value in cases[case_id].case.model_dump().items()] for case_id in ids]
            names |= {case_id: f"{name} {extra}" for case_id, extra in zip(ids, _differing(facts), strict=True)}
    return {case_id: plain(name) for case_id, name in names.items()}


def common_words(planned: Iterable[PlannedCase]) -> str:
    """What the short names leave out because it is the same everywhere; empty for a single case."""
    rows = [one.words for one in planned]
    shared = [column[0] for column in zip(*rows, strict=True) if len(set(column)) == 1 and column[0]]
    return plain(" ".join(shared)) if len(rows) > 1 else ""


def cases_frame(rows: Sequence[CaseRow], names: dict[str, str]) -> pd.DataFrame:
    """The standing table: a row per case; headline metrics that no row fills are left out."""
    filled = headline(rows)
    columns = ("Case", "Status", *(heading(METRICS[name]) for name in filled), "n", "Weights are", "Warnings")
    table = [
        (
            names[row.planned.case.case_id],
            row.status,
            *(estimate_text(row.estimates.get(name), name) for name in filled),
            f"{row.processes}/{row.planned.processes}",
            weights_are(row.planned),
            "; ".join(plain(sentence(warning)) for warning in (*row.warnings, *row.quality_warnings)),
        )
        for row in rows
    ]
    return _frame(table, columns)


def weights_are(planned: PlannedCase) -> str:
    """What a reader must know of the weights before trusting speed, memory or quality."""
    case = planned.case
    marks = ["random"] if case.has_random_weights else ["base model"] if planned.base_model else []
    if case.source_precision not in (None, case.quantization):
        marks.append(f"{'expanded' if case.quantization in FLOATS else 'requantized'} from {case.source_precision}")
    if planned.adapter_name:
        marks.append(f"with {planned.adapter_name}")
    return ", ".join(marks)


def latency_points(report: Report, names: dict[str, str], metric: str) -> pd.DataFrame:
    """Every value of a request-level metric in the speed cases: `case`, `process`, `value`."""
    rows = [
        (names[measurement.case_id], measurement.process, value)
        for measurement in _measured(report, "speed")
        for request in measurement.requests
        for value in request_values(metric, request)
    ]
    return _frame(rows, ("case", "process", "value"))


def estimates_frame(rows: Iterable[CaseRow], names: dict[str, str], metric: str) -> pd.DataFrame:
    """Each case's estimate of one metric: `case`, `value`, `low`, `high`, `basis`."""
    found = [
        (names[row.planned.case.case_id], one.value, one.low, one.high, one.basis)
        for row in rows
        if (one := row.estimates.get(metric))
    ]
    frame = _frame(found, ("case", "value", "low", "high", "basis"))
    return frame.astype({"value": float, "low": float, "high": float})


def memory_series(report: Report) -> dict[str, list[str]]:
    """Ids of the speed cases that have telemetry in bytes, each with the names of its series."""
    found: dict[str, list[str]] = {}
    for measurement in _measured(report, "speed"):
        names = found.setdefault(measurement.case_id, [])
        names += [one.name for one in measurement.series if one.unit == "B" and one.times_s and one.name not in names]
    return {case_id: names for case_id, names in found.items() if names}


def series_samples(report: Report, case_id: str, name: str) -> pd.DataFrame:
    """One telemetry series of one case in each process: `process`, `time_s`, `value`."""
    rows = [
        (measurement.process, time, value)
        for measurement in report.measurements
        if measurement.case_id == case_id
        for one in measurement.series
        if one.name == name
        for time, value in zip(one.times_s, one.values, strict=True)
    ]
    return _frame(rows, ("process", "time_s", "value"))


def peaks_frame(samples: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The table beside a telemetry figure: each process's first, highest and last value."""
    rows = []
    for process, mine in samples.groupby("process", sort=True):
        ends = (mine["value"].iloc[0], mine["value"].max(), mine["value"].iloc[-1])
        rows.append((process, *(quantity(float(value), unit) for value in ends), len(mine)))
    return _frame(rows, ("Process", "First", "Highest", "Last", "Points"))


def spread_frame(points: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The table beside a latency figure: requests, median and extremes of each process of each case."""
    unit = METRICS[metric].unit
    rows = []
    for (case, process), mine in points.groupby(["case", "process"], sort=False):
        marks = (mine["value"].median(), mine["value"].min(), mine["value"].max())
        rows.append((case, process, len(mine), *(quantity(float(value), unit) for value in marks)))
    return _frame(rows, ("Case", "Process", "Values", "Median", "Lowest", "Highest"))


def estimates_table(rows: Iterable[CaseRow], names: dict[str, str], metric: str) -> pd.DataFrame:
    """The table beside bars."""
    texts = [
        (names[row.planned.case.case_id], estimate_text(one, metric), f"{one.n} {one.basis}")
        for row in rows
        if (one := row.estimates.get(metric))
    ]
    return _frame(texts, ("Case", METRICS[metric].label, "Interval over"))


def answers(report: Report, names: dict[str, str]) -> list[tuple[str, Request]]:
    """The requests of the quality passes with the names of their cases."""
    return [
        (names[measurement.case_id], request) for measurement in _measured(report, "quality") for request in measurement.requests
    ]


def scores_frame(report: Report, found: Sequence[tuple[str, Request]]) -> pd.DataFrame:
    """Every score of the answers, a column for each scorer's item; cells without a score stay empty."""
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for score in report.scores:
        metric = METRICS.get(score.item)
        item = metric.label if metric else score.item
        scores[score.request_id][f"{item} ({score.scorer} {score.version})"] = score.value
    rows = [
        {"Answer": position, "Case": case, **scores[request.request_id]}
        for position, (case, request) in enumerate(found, start=1)
        if scores[request.request_id]
    ]
    return pd.DataFrame(rows)


def environment_frame(report: Report) -> pd.DataFrame:
    rows = [(name, plain(value), "yes" if hard else "no") for name, value, hard in environment_of(report)]
    return _frame(rows, ("Fact", "Value", "Must agree for a comparison"))


def warnings_list(rows: Iterable[CaseRow], names: dict[str, str]) -> list[str]:
    """Every warning as a line with its case's name."""
    return [
        f"{names[row.planned.case.case_id]}: {plain(sentence(warning))}"
        for row in rows
        for warning in (*row.warnings, *row.quality_warnings)
    ]


def _measured(report: Report, purpose: str) -> list[Measurement]:
    wanted = {one.case.case_id for one in report.run.planned if (one.case.purpose == "quality") == (purpose == "quality")}
    return [measurement for measurement in report.measurements if measurement.case_id in wanted]


def _differing(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row's words in the columns that are not the same in all rows; all words where there is one row."""
    columns = [number for number, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1 or len(rows) == 1]
    return [" ".join(word for number in columns if (word := row[number])) or row[-1] for row in rows]


def _frame(rows: Sequence[Sequence[object]], columns: Collection[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
