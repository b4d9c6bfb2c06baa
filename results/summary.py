"""One row per case: what a run measured, with its doubt, its warnings and its failures. Reads a `Report`, draws nothing."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from results.cases import PlannedCase
from results.caveats import sentence
from results.format import quantity
from results.metrics import METRICS, PEERS, process_value, request_values
from results.records import Failure, Measurement, Report, RowWarning, Score
from results.stats import Estimate, estimate

_MEMORY = ("peak_rss_bytes", "peak_device_bytes", "estimated_bytes", "load_peak_rss_bytes", "weights_bytes")
_COST = ("energy_per_token_j", "cost_per_million_tokens", "quality")
HEADLINES = {
    "single": (
        "ttft_s", "prefill_tps", "decode_tps", "batch_tps", "accepted_draft_share", "e2e_s", "compile_s", *_MEMORY, *_COST,
    ),
    "load": (
        "request_rate", "output_tps", "ttft_s", "ttft_p90_s", "ttft_p99_s", "tpot_s", "tpot_p90_s", "tpot_p99_s",
        "goodput_rps", "error_share", "peak_rss_bytes", *_COST,
    ),
    "training": (
        "step_s", "training_tps", "fixed_loss_before", "fixed_loss_after", *_MEMORY, "energy_per_token_j", "cost_per_million_tokens",
    ),
}  # fmt: skip
"""The metrics of the standing table, in its order, for requests one at a time, under load, and for training; a column that no row
fills is left out."""

DISAGREEMENT = 0.05
"""Between a server's decoding rate by its own account and by ours, as a share, that is worth a warning."""

Scores = Mapping[str, Sequence[Score]]
"""Scores by request id."""

FAULTS = frozenset({"oom", "timeout", "crash", "bad_output", "engine_error"})
"""Kinds of failure that tell something about the case itself; the others tell what the machine lacks, or that nobody tried."""


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
    quality_warnings: tuple[RowWarning, ...] = ()
    """Warnings of the quality pass of the same configuration."""
    quality_failures: tuple[Failure, ...] = ()

    @property
    def kind(self) -> str:
        """Which of the `HEADLINES` it has."""
        case = self.planned.case
        return "training" if case.training else "load" if case.load else "single"

    @property
    def status(self) -> str:
        """`measured`, `partly` (some processes failed), the kind of the failure, or `missing` (not reached)."""
        if self.processes and not self.failures:
            return "measured"
        if self.processes:
            return "partly"
        return self.failures[-1].kind if self.failures else "missing"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON, in base units."""
        return {
            "case_id": self.planned.case.case_id,
            "config_id": self.planned.case.config_id,
            "label": self.planned.label,
            "planned": self.planned.model_dump(mode="json"),
            "status": self.status,
            "processes": self.processes,
            "metrics": {name: {"unit": METRICS[name].unit, **asdict(one)} for name, one in self.estimates.items()},
            "warnings": warnings_to_dicts((*self.warnings, *self.quality_warnings)),
            "failures": [one.model_dump(mode="json", exclude={"requests"}) for one in (*self.failures, *self.quality_failures)],
        }


def headline(rows: Sequence[CaseRow]) -> list[str]:
    """The metrics of the standing table that these rows fill, in order; of two percentiles the farther one."""
    kinds = [kind for kind in HEADLINES if any(row.kind == kind for row in rows)]
    wanted = dict.fromkeys(name for kind in kinds for name in HEADLINES[kind])
    filled = [name for name in (*wanted, *(one.name for one in PEERS)) if any(name in row.estimates for row in rows)]
    return [name for name in filled if name.replace("p90", "p99") == name or name.replace("p90", "p99") not in filled]


def summarize(report: Report) -> list[CaseRow]:
    """Rows in the order of the plan: one per speed case, joined with the quality pass of its configuration. A quality pass
    stands alone when its configuration has no speed case, or several quality passes."""
    measured, failed = by_case(report)
    scores = scores_by_request(report)
    passes: dict[str, list[PlannedCase]] = defaultdict(list)
    for planned in report.run.planned:
        if planned.case.purpose == "quality":
            passes[planned.case.config_id].append(planned)
    speeds = {planned.case.config_id for planned in report.run.planned if planned.case.purpose == "speed"}
    counts = prompt_counts(report.run.planned, measured)
    rows = []
    for planned in report.run.planned:
        config, is_quality = planned.case.config_id, planned.case.purpose == "quality"
        joined = passes[config][0] if config in speeds and len(passes[config]) == 1 else None
        if is_quality and joined:
            continue
        mine, failures = measured[planned.case.case_id], failed[planned.case.case_id]
        judged, lost = (measured[joined.case.case_id], failed[joined.case.case_id]) if joined else ([], ())
        rows.append(
            CaseRow(
                planned=planned,
                estimates=quality_of(mine, scores) if is_quality else estimates_of(mine) | quality_of(judged, scores),
                processes=len(mine),
                failures=failures,
                warnings=(*caveats_of(planned, mine, failures), *_counted_otherwise(planned, counts)),
                quality_warnings=caveats_of(joined, judged, lost) if joined else (),
                quality_failures=lost,
            )
        )
    return rows


def run_to_dict(report: Report) -> dict[str, Any]:
    """A run and its rows as plain data for JSON, in base units."""
    run = report.run
    return {
        "run_id": run.run_id,
        "status": report.status,
        "suite": run.suite,
        "started_at": run.started_at.isoformat(),
        "tags": list(report.tags),
        "git_commit": run.git_commit,
        "git_dirty": run.git_dirty,
        "command": list(run.command),
        "environment": run.environment.facts,
        "cases": [row.to_dict() for row in summarize(report)],
    }


def by_case(report: Report) -> tuple[dict[str, list[Measurement]], dict[str, tuple[Failure, ...]]]:
    """Measurements and unresolved failures by case id, empty for the others."""
    measured: dict[str, list[Measurement]] = defaultdict(list)
    for measurement in report.measurements:
        measured[measurement.case_id].append(measurement)
    failed: dict[str, tuple[Failure, ...]] = defaultdict(tuple)
    for failure in unresolved(report.measurements, report.failures):
        failed[failure.case_id] += (failure,)
    return measured, failed


def unresolved(measurements: Iterable[Measurement], failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """The failures that still stand, in their order: one for each process of a case that was never measured.

    Of several tries the last one counts, but an interrupted one does not undo what an earlier one told.
    """
    done = {(one.run_id, one.case_id, one.process) for one in measurements}
    last: dict[tuple[str, str, int], Failure] = {}
    ordered = list(failures)
    for failure in sorted(ordered, key=lambda one: (one.kind != "interrupted", one.started_at)):
        last[failure.run_id, failure.case_id, failure.process] = failure
    standing = {failure.attempt_id for key, failure in last.items() if key not in done}
    return tuple(failure for failure in ordered if failure.attempt_id in standing)


def estimate_text(one: Estimate | None, metric: str, unknown: str = "–") -> str:
    """An estimate with its unit and interval, such as `47.4 ms [46.9, 48.1]`; no interval for exact metrics or of no width."""
    if one is None:
        return unknown
    interval = () if METRICS[metric].exact or one.low == one.high else (one.low, one.high)
    return quantity(one.value, METRICS[metric].unit, *interval)


def scores_by_request(report: Report) -> Scores:
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in report.scores:
        scores[score.request_id].append(score)
    return scores


def estimates_of(measurements: Sequence[Measurement]) -> dict[str, Estimate]:
    """Estimates of every request- and process-level metric that has values."""
    found = {}
    for name, metric in METRICS.items():
        if metric.level == "request":
            groups = [
                [v for request in m.requests for v in request_values(name, request)] or _summarized(m, name) for m in measurements
            ]
        elif metric.level == "process":
            groups = [[value] for m in measurements if (value := process_value(name, m)) is not None]
        else:
            continue
        if one := estimate(groups):
            found[name] = one
    return found


def _summarized(measurement: Measurement, name: str) -> list[float]:
    """The one value that a report without single requests gives of a metric of requests."""
    return [measurement.values[name]] if name in measurement.values else []


def quality_of(measurements: Sequence[Measurement], scores: Scores) -> dict[str, Estimate]:
    """Estimates of the scores' items, and `quality`, their mean per request; each process gives its mean over the requests."""
    items: dict[str, list[list[float]]] = defaultdict(list)
    for measurement in measurements:
        groups: dict[str, list[float]] = defaultdict(list)
        for request in measurement.requests:
            for item, value in request_scores(scores.get(request.request_id, ())).items():
                groups[item].append(value)
        for item, values in groups.items():
            items[item].append([sum(values) / len(values)])
    return {item: one for item, groups in items.items() if (one := estimate(groups))}


def request_scores(scores: Iterable[Score]) -> dict[str, float]:
    """One request's scores by metric name, with `quality`, the mean of its heuristic scores."""
    known = [score for score in scores if score.item in METRICS]
    found = {score.item: score.value for score in known}
    parts = [score.value for score in known if score.scorer == "heuristic"]
    return found | ({"quality": sum(parts) / len(parts)} if parts else {})


def caveats_of(
    planned: PlannedCase, measurements: Sequence[Measurement], failures: Sequence[Failure] = ()
) -> tuple[RowWarning, ...]:
    """What may have spoiled a case: its processes' warnings, how far the processes differ, and how many failed."""
    found = list(worst_of_each(warning for measurement in measurements for warning in measurement.warnings))
    if measurements and planned.case.purpose != "quality":
        if len(measurements) == 1:
            found.append(RowWarning(kind="within_process"))
        e2e = [value for m in measurements if (value := process_value("e2e_s", m))]
        if len(e2e) > 1 and max(e2e) / min(e2e) > 1.1:
            found.append(RowWarning(kind="process_spread", facts={"spread": max(e2e) / min(e2e) - 1}))
        found += _disagreements(measurements)
    if failures and (measurements or planned.case.purpose == "quality"):
        kinds = ", ".join(sorted({failure.kind for failure in failures}))
        facts = {"failed": len(failures), "planned": planned.processes, "kinds": kinds}
        found.append(RowWarning(kind="failed_processes", facts=facts))
    return tuple(found)


def _disagreements(measurements: Sequence[Measurement]) -> list[RowWarning]:
    """Whether a server's own account of its decoding differs from what its client saw: one of the two clocks is wrong, or
    something between them holds tokens back."""
    pairs = [(process_value("decode_tps", m), process_value("server_decode_tps", m)) for m in measurements]
    known = [{"ours": ours, "server": theirs} for ours, theirs in pairs if ours and theirs]
    worst = max(known, key=lambda one: abs(math.log(one["ours"] / one["server"])), default=None)
    if worst is None or abs(worst["ours"] / worst["server"] - 1) <= DISAGREEMENT:
        return []
    return [RowWarning(kind="server_disagrees", facts={**worst})]


PromptCounts = Mapping[tuple[str, ...], Mapping[str, Mapping[int, int]]]
"""What is asked → engine, or engine and server → index of a request → tokens of its prompt."""


def prompt_counts(planned: Iterable[PlannedCase], measured: Mapping[str, Sequence[Measurement]]) -> PromptCounts:
    """How many tokens the same prompts have for each engine: some add a beginning-of-sequence token, some a template."""
    counts: dict[tuple[str, ...], dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for one in planned:
        for request in (request for measurement in measured.get(one.case.case_id, ())[:1] for request in measurement.requests):
            if request.prompt_tokens is not None and one.case.load is None:
                counts[_asked(one)][_counter(one)][request.index] = request.prompt_tokens
    return counts


def _asked(planned: PlannedCase) -> tuple[str, ...]:
    case = planned.case
    return planned.model, case.workload, case.prompt_format, str(case.prompt_tokens), case.purpose


def _counter(planned: PlannedCase) -> str:
    """Who counts its tokens: one engine may ask several servers, each with a tokenizer of its own."""
    case = planned.case
    return f"{case.engine} on {case.target}" if case.target else case.engine


def _counted_otherwise(planned: PlannedCase, counts: PromptCounts) -> tuple[RowWarning, ...]:
    """A warning where another engine or server counts half a token more or less in the same prompts, on average."""
    engines = {} if planned.case.load else counts.get(_asked(planned), {})
    mine = engines.get(_counter(planned), {})
    differences = {}
    for engine, theirs in engines.items():
        if both := mine.keys() & theirs.keys():
            differences[engine] = sum(theirs[index] - mine[index] for index in both) / len(both)
    engine, most = max(differences.items(), key=lambda one: abs(one[1]), default=("", 0.0))
    if abs(most) < 0.5:
        return ()
    count = sum(mine.values()) / len(mine)
    return (RowWarning(kind="prompt_tokens_differ", facts={"count": count, "engine": engine, "other": count + most}),)


def worst_of_each(warnings: Iterable[RowWarning]) -> tuple[RowWarning, ...]:
    """One warning of each kind, the one with the largest numbers."""
    worst: dict[str, RowWarning] = {}
    for warning in warnings:
        kept = worst.get(warning.kind)
        if kept is None or _numbers(warning) > _numbers(kept):
            worst[warning.kind] = warning
    return tuple(worst.values())


def warnings_to_dicts(warnings: Iterable[RowWarning]) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "facts": one.facts, "sentence": sentence(one)} for one in warnings]


def _numbers(warning: RowWarning) -> list[float]:
    return [value for value in warning.facts.values() if isinstance(value, int | float)]
