"""One row per case: what a run measured, with its doubt, its warnings and its failures. Reads a `Report`, draws nothing."""

from collections import defaultdict
from dataclasses import dataclass, field

from results.metrics import METRICS, process_value, request_values
from results.records import Failure, Measurement, PlannedCase, Report, RowWarning, Score
from results.stats import Estimate, estimate

HEADLINE = ("ttft_s", "prefill_tps", "decode_tps", "e2e_s", "peak_rss_bytes", "peak_device_bytes", "weights_bytes", "quality")
"""The metrics of the standing table, in its order; a column that no row fills is left out."""


@dataclass(frozen=True)
class CaseRow:
    """One planned case of a run."""

    planned: PlannedCase
    estimates: dict[str, Estimate]
    """By metric name; metrics without a value are absent."""
    processes: int
    """Processes that measured it."""
    failures: tuple[Failure, ...] = ()
    warnings: tuple[RowWarning, ...] = ()
    quality_warnings: tuple[RowWarning, ...] = field(default=())
    """Warnings of the quality pass of the same configuration."""

    @property
    def status(self) -> str:
        """`measured`, `partly` (some processes failed), the kind of the failure, or `missing` (not reached)."""
        if self.processes and not self.failures:
            return "measured"
        if self.processes:
            return "partly"
        return self.failures[-1].kind if self.failures else "missing"


def summarize(report: Report) -> list[CaseRow]:
    """Rows in the order of the plan: one per speed case, joined with the quality pass of its configuration; a quality pass
    whose configuration has no speed case stands alone."""
    measured, failed = _by_case(report)
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in report.scores:
        scores[score.request_id].append(score)
    passes = {one.case.config_id: one for one in report.run.planned if one.case.purpose == "quality"}
    configs = {one.case.config_id for one in report.run.planned if one.case.purpose == "speed"}
    rows = []
    for planned in report.run.planned:
        if planned.case.purpose == "quality" and planned.case.config_id in configs:
            continue
        mine = measured[planned.case.case_id]
        failures = failed[planned.case.case_id]
        judge = passes.get(planned.case.config_id)
        judged = measured[judge.case.case_id] if judge else []
        quality_failures = failed[judge.case.case_id] if judge else ()
        if judge is planned:
            mine_estimates: dict[str, Estimate] = {}
        else:
            mine_estimates = estimates_of(mine)
        rows.append(
            CaseRow(
                planned=planned,
                estimates=mine_estimates | quality_of(judged, scores),
                processes=len(mine),
                failures=failures,
                warnings=_merged(mine) + _about_processes(planned, mine, failures, mine_estimates),
                quality_warnings=_merged(judged) + _about_failures(judge, quality_failures),
            )
        )
    return rows


def estimates_of(measurements: list[Measurement]) -> dict[str, Estimate]:
    """Estimates of every request- and process-level metric that has values."""
    found = {}
    for name, metric in METRICS.items():
        if metric.level == "request":
            groups = [[v for request in m.requests for v in request_values(name, request)] for m in measurements]
        elif metric.level == "process":
            groups = [[value] for m in measurements if (value := process_value(name, m)) is not None]
        else:
            continue
        if one := estimate(groups):
            found[name] = one
    return found


def quality_of(measurements: list[Measurement], scores: dict[str, list[Score]]) -> dict[str, Estimate]:
    """Estimates of the scores' items, and `quality`, their mean per request."""
    items: dict[str, list[list[float]]] = defaultdict(list)
    for measurement in measurements:
        groups: dict[str, list[float]] = defaultdict(list)
        for request in measurement.requests:
            mine = [score for score in scores[request.request_id] if score.item in METRICS]
            for score in mine:
                groups[score.item].append(score.value)
            parts = [score.value for score in mine if score.scorer == "heuristic"]
            if parts:
                groups["quality"].append(sum(parts) / len(parts))
        for item, values in groups.items():
            items[item].append([sum(values) / len(values)])
    return {item: one for item, groups in items.items() if (one := estimate(groups))}


def _by_case(report: Report) -> tuple[dict[str, list[Measurement]], dict[str, tuple[Failure, ...]]]:
    measured: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in report.measurements:
        measured[measurement.case_id].append(measurement)
    failed: dict[str, tuple[Failure, ...]] = defaultdict(tuple)
    done = {(m.case_id, m.process) for m in report.measurements}
    for failure in report.failures:
        if failure.kind != "interrupted" or (failure.case_id, failure.process) not in done:
            failed[failure.case_id] += (failure,)
    return measured, failed


def _merged(measurements: list[Measurement]) -> tuple[RowWarning, ...]:
    """One warning of each kind, the one with the largest numbers."""
    worst: dict[str, RowWarning] = {}
    for measurement in measurements:
        for warning in measurement.warnings:
            kept = worst.get(warning.kind)
            if kept is None or _numbers(warning) > _numbers(kept):
                worst[warning.kind] = warning
    return tuple(worst.values())


def _numbers(warning: RowWarning) -> list[float]:
    return [value for value in warning.facts.values() if isinstance(value, int | float)]


def _about_processes(
    planned: PlannedCase, mine: list[Measurement], failures: tuple[Failure, ...], estimates: dict[str, Estimate]
) -> tuple[RowWarning, ...]:
    found = []
    if mine and planned.case.purpose == "speed":
        if len(mine) == 1:
            found.append(RowWarning(kind="within_process"))
        e2e = [value for m in mine if (value := process_value("e2e_s", m))]
        if len(e2e) > 1 and max(e2e) / min(e2e) > 1.1:
            found.append(RowWarning(kind="process_spread", facts={"spread": max(e2e) / min(e2e) - 1}))
    return tuple(found) + (_about_failures(planned, failures) if mine else ())


def _about_failures(planned: PlannedCase | None, failures: tuple[Failure, ...]) -> tuple[RowWarning, ...]:
    if planned is None or not failures:
        return ()
    kinds = ", ".join(sorted({failure.kind for failure in failures}))
    facts = {"failed": len(failures), "planned": planned.processes, "kinds": kinds}
    return (RowWarning(kind="failed_processes", facts=facts),)
