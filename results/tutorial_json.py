"""A report in the JSON shape of the Gemma tutorial, so that its readers' tools go on working. Memory is in MB of 2**20 bytes."""

import json
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from results.alerts import Point, evaluate, points_of, report_targets
from results.cases import PlannedCase
from results.metrics import request_values
from results.records import Failure, Measurement, Report, Request
from results.rules import load_rules
from results.summary import request_scores, scores_by_request, unresolved

MB = 2**20
LAST = 100
"""How many of the newest rows a summary covers."""

Row = dict[str, Any]
QUALITY_KEYS = {
    "relevance_score": "relevance",
    "coherence_score": "coherence",
    "safety_score": "safety",
    "factual_accuracy": "factual_accuracy",
}
"""The tutorial's key for each item of heuristic v1."""


def tutorial_json(report: Report, now: datetime | None = None) -> str:
    """The measured speed requests of all processes and the scored answers, in order of time, with summaries and alerts.

    A failure stands as one unsuccessful request. What is unknown is `null`.

    Args:
        now: the time of export; the clock's when not given.
    """
    at = now or datetime.now(UTC)
    performance, quality = _performance(report), _quality(report)
    device = any(planned.case.device not in ("cpu", "remote") for planned in report.run.planned)
    alerts = evaluate(load_rules(), report_targets(report), at)
    document = {
        "model_name": ", ".join(dict.fromkeys(planned.model for planned in report.run.planned)),
        "export_timestamp": at.isoformat(),
        "performance_metrics": performance,
        "quality_metrics": quality,
        "performance_summary": performance_summary(performance[-LAST:], device=device),
        "quality_summary": quality_summary(quality[-LAST:]),
        "current_alerts": [
            {
                "type": alert.rule,
                "message": f"{alert.target}: {alert.message}",
                "severity": alert.severity,
                "timestamp": alert.at.timestamp(),
            }
            for alert in alerts
            if alert.state == "firing"
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def performance_summary(rows: Sequence[Row], *, device: bool) -> Row:
    """Counts over all rows, means and the 95th percentile over the successful ones; `{"error": …}` without any of those."""
    done = [row for row in rows if row["success"]]
    if not done:
        return {"error": f"No successful requests among {len(rows)}" if rows else "No requests"}
    summary = {
        "total_requests": len(rows),
        "successful_requests": len(done),
        "success_rate": len(done) / len(rows),
        "avg_response_time": _mean(done, "response_time"),
        "avg_memory_usage": _mean(done, "memory_usage_mb"),
        "avg_tokens_per_second": _mean(done, "tokens_per_second"),
        "p95_response_time": _p95([row["response_time"] for row in done if row["response_time"] is not None]),
        "total_tokens_generated": sum(row["token_count"] or 0 for row in done),
    }
    return summary | ({"avg_gpu_memory": _mean(done, "gpu_memory_mb")} if device else {})


def quality_summary(rows: Sequence[Row]) -> Row:
    """The means, and the mean of the four; `{"error": …}` without rows."""
    if not rows:
        return {"error": "No quality evaluations"}
    means = {f"avg_{item}": statistics.mean(row[key] for row in rows) for key, item in QUALITY_KEYS.items()}
    return {"total_evaluations": len(rows), **means, "overall_quality": statistics.mean(means.values())}


def _performance(report: Report) -> list[Row]:
    attempts: list[Measurement | Failure] = [*report.measurements, *unresolved(report.measurements, report.failures)]
    found = []
    for planned in report.run.planned:
        if planned.case.purpose == "speed":
            points = points_of(one for one in attempts if one.case_id == planned.case.case_id)
            found += [(point.at, _performance_row(planned, point)) for point in points]
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def _performance_row(planned: PlannedCase, point: Point) -> Row:
    row: Row = {
        "timestamp": point.at.timestamp(),
        "response_time": None,
        "memory_usage_mb": None,
        "gpu_memory_mb": 0.0 if planned.case.device == "cpu" else None,
        "token_count": 0,
        "tokens_per_second": 0.0,
        "model_name": planned.model,
        "input_length": planned.case.prompt_tokens,
        "success": point.ok,
        "error_message": None,
    }
    request = point.outcome
    if isinstance(request, Failure):
        return row | {"error_message": request.message}
    row.update(input_length=request.prompt_tokens, error_message=request.error)
    if request.error:
        return row
    device_mb = _value("request_peak_device_bytes", request, MB)
    row.update(
        response_time=_value("e2e_s", request),
        memory_usage_mb=_value("rss_delta_bytes", request, MB),
        gpu_memory_mb=row["gpu_memory_mb"] if device_mb is None else device_mb,
        token_count=request.output_tokens,
        tokens_per_second=_value("e2e_tps", request),
    )
    return row


def _value(metric: str, request: Request, divisor: float = 1.0) -> float | None:
    return next((value / divisor for value in request_values(metric, request)), None)


def _quality(report: Report) -> list[Row]:
    scores = scores_by_request(report)
    attempts: list[Measurement | Failure] = [*report.measurements, *unresolved(report.measurements, report.failures)]
    requests = sorted((request for attempt in attempts for request in attempt.requests), key=lambda request: request.sent_at)
    rows: list[Row] = []
    for request in requests:
        items = request_scores(scores.get(request.request_id, ()))
        if items.keys() >= set(QUALITY_KEYS.values()):
            judged = {key: items[item] for key, item in QUALITY_KEYS.items()}
            rows.append({**judged, "user_satisfaction": items.get("user_satisfaction")})
    return rows


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return statistics.mean(values) if values else None


def _p95(times: Sequence[float]) -> float | None:
    """The last of the 19 cut points of 20 exclusive quantiles, which lies beyond the largest of few values."""
    if len(times) < 2:
        return times[0] if times else None
    return statistics.quantiles(times, n=20)[18]
