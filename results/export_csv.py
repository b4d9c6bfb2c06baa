"""A report as tidy CSV: one value per line, with the case, the process and the warnings it belongs to."""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from results.cases import PlannedCase
from results.caveats import sentence
from results.metrics import METRICS
from results.records import Failure, Measurement, Report
from results.summary import Scores, by_case, estimates_of, request_scores, scores_by_request

CASE_FIELDS = (
    "engine", "device", "dtype", "quantization", "source_precision", "threads", "purpose",
    "workload", "prompt_format", "prompt_tokens", "output_tokens", "stop", "batch", "depth", "attention", "compile_mode", "kv_cache",
    "kv_dtype", "tensor_parallel", "draft_tokens",
)  # fmt: skip
SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "repetition_penalty")
COLUMNS = (
    "run", "case_id", "config_id", "model", "draft_model", "adapter", "weights", *CASE_FIELDS, *SAMPLING_FIELDS, "training", "shape", "tags",
    "process", "started_at", "status", "metric", "unit", "value", "n", "warnings", "message",
)  # fmt: skip


def tidy_csv(report: Report) -> str:
    """One line per case, process and metric, in base units: the median over `n` requests, or the mean over `n` scored ones.

    A failure is a line without metric, with its kind as `status`; a case without any attempt one with status `missing`.
    Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    measured, failed = by_case(report)
    scores = scores_by_request(report)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)  # lines end in CR LF (RFC 4180), which has either of them quoted in a cell
    writer.writeheader()
    for planned in report.run.planned:
        mine, failures = measured[planned.case.case_id], failed[planned.case.case_id]
        rows = [*_measured(mine, scores), *map(_failed, failures)] or [{"status": "missing"}]
        known = {"run": report.run.run_id, **_facts(planned)}
        writer.writerows({name: _safe(value) for name, value in (known | row).items()} for row in rows)
    return out.getvalue()


def _facts(planned: PlannedCase) -> dict[str, Any]:
    case = planned.case
    facts = {name: getattr(case, name) for name in CASE_FIELDS}
    ids: dict[str, str | None] = {"case_id": case.case_id, "config_id": case.config_id, "model": planned.model}
    ids |= {"draft_model": planned.draft_model, "adapter": planned.adapter_name}
    ids |= {
        "weights": "random" if case.has_random_weights else "stored",
        "training": case.training.label if case.training else None,
    }
    facts |= {name: getattr(case.sampling, name, None) for name in SAMPLING_FIELDS}
    return ids | facts | {"shape": case.shape, "tags": " ".join(planned.tags)}


def _measured(measurements: list[Measurement], scores: Scores) -> Iterator[dict[str, Any]]:
    for one in measurements:
        values = {name: (found.value, found.n) for name, found in estimates_of([one]).items()} | _judged(one, scores)
        attempt = {"process": one.process, "started_at": one.started_at.isoformat(), "status": "measured"}
        attempt["warnings"] = "; ".join(sentence(warning) for warning in one.warnings)
        for name, (value, n) in values.items():
            yield attempt | {"metric": name, "unit": METRICS[name].unit, "value": value, "n": n}


def _judged(measurement: Measurement, scores: Scores) -> dict[str, tuple[float, int]]:
    items: dict[str, list[float]] = defaultdict(list)
    for request in measurement.requests:
        for item, value in request_scores(scores.get(request.request_id, ())).items():
            items[item].append(value)
    return {item: (statistics.mean(values), len(values)) for item, values in items.items()}


def _failed(failure: Failure) -> dict[str, Any]:
    attempt = {"process": failure.process, "started_at": failure.started_at.isoformat(), "status": failure.kind}
    return attempt | {"message": failure.message}


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
