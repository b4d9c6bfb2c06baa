"""The tutorial's JSON: its keys, its units, its summaries."""

import json
import statistics
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import START, make_case, make_failure, make_measurement, make_planned, make_report, make_request, make_run

from results.records import Failure, Measurement, Report, Score
from results.tutorial_json import performance_summary, quality_summary, tutorial_json

NOW = START + timedelta(hours=1)
PERFORMANCE_KEYS = [
    "timestamp", "response_time", "memory_usage_mb", "gpu_memory_mb", "token_count", "tokens_per_second",
    "model_name", "input_length", "success", "error_message",
]  # fmt: skip
SUMMARY_KEYS = [
    "total_requests", "successful_requests", "success_rate", "avg_response_time", "avg_memory_usage",
    "avg_tokens_per_second", "p95_response_time", "total_tokens_generated",
]  # fmt: skip


def exported(report: Report) -> dict[str, Any]:
    return json.loads(tutorial_json(report, NOW))  # type: ignore[no-any-return]


def report_of(*attempts: Measurement | Failure, device: str = "cpu", scores: tuple[Score, ...] = ()) -> Report:
    return Report(
        run=make_run(make_planned(make_case(device=device))),
        measurements=tuple(one for one in attempts if isinstance(one, Measurement)),
        failures=tuple(one for one in attempts if isinstance(one, Failure)),
        scores=scores,
    )


def test_golden() -> None:
    golden = Path(__file__).parent / "golden" / "export.tutorial.json"
    assert tutorial_json(make_report(processes=1), NOW) == golden.read_text(encoding="utf-8")


def test_keys_are_the_tutorials() -> None:
    found = exported(make_report())
    assert list(found) == [
        "model_name", "export_timestamp", "performance_metrics", "quality_metrics",
        "performance_summary", "quality_summary", "current_alerts",
    ]  # fmt: skip
    assert {tuple(row) for row in found["performance_metrics"]} == {tuple(PERFORMANCE_KEYS)}
    assert list(found["performance_summary"]) == SUMMARY_KEYS
    assert list(found["quality_metrics"][0]) == [
        "relevance_score", "coherence_score", "safety_score", "factual_accuracy", "user_satisfaction",
    ]  # fmt: skip
    assert found["quality_summary"] == {
        "total_evaluations": 3, "avg_relevance": 1.0, "avg_coherence": 0.7, "avg_safety": 1.0, "avg_factual_accuracy": 0.5,
        "overall_quality": 0.8,
    }  # fmt: skip
    assert {tuple(row) for row in found["current_alerts"]} == {("type", "message", "severity", "timestamp")}
    assert found["export_timestamp"] == "2026-03-01T13:00:00+00:00"


def test_one_request_in_the_tutorials_units() -> None:
    request = make_request("r", ttft_s=0.5, tpot_s=0.1, values={"rss_delta_bytes": 3 * 2**20})
    found = exported(report_of(make_measurement("m", requests=(request,))))
    row = found["performance_metrics"][0]
    assert row == {
        "timestamp": START.timestamp(), "response_time": pytest.approx(2.0), "memory_usage_mb": 3.0, "gpu_memory_mb": 0.0,
        "token_count": 16, "tokens_per_second": pytest.approx(8.0), "model_name": "gemma-3-270m", "input_length": 32,
        "success": True, "error_message": None,
    }  # fmt: skip
    assert "avg_gpu_memory" not in found["performance_summary"]


def test_device_memory_only_where_there_is_a_device() -> None:
    case = make_case(device="cuda")
    requests = tuple(
        make_request(f"r{index}", index=index, values={"request_peak_device_bytes": index * 2**20}) for index in (1, 3)
    )
    found = exported(report_of(make_measurement("m", case, requests=requests), device="cuda"))
    assert [row["gpu_memory_mb"] for row in found["performance_metrics"]] == [1.0, 3.0]
    assert found["performance_summary"]["avg_gpu_memory"] == 2.0
    assert found["performance_summary"]["avg_memory_usage"] is None  # unknown is not zero


def test_failures_are_unsuccessful_rows_in_order_of_time() -> None:
    attempts: list[Measurement | Failure] = [
        make_measurement("m1", process=1, iterations=1, requests=(make_request("late", sent_s=90.0),)),
        make_measurement("m0", requests=(make_request("early"), make_request("refused", sent_s=1.0, error="connection refused"))),
        make_failure("f", kind="oom", started_at=START + timedelta(seconds=30), process=2),
        make_failure("u", kind="unsupported", process=3),
    ]
    found = exported(report_of(*attempts))
    rows = found["performance_metrics"]
    assert [row["success"] for row in rows] == [True, False, False, True]
    assert rows[1]["error_message"] == "connection refused"
    assert rows[2]["error_message"].startswith("The worker was killed")
    for row in rows[1:3]:
        assert (row["token_count"], row["tokens_per_second"], row["response_time"]) == (0, 0.0, None)
    assert found["performance_summary"]["total_requests"] == 4
    assert found["performance_summary"]["success_rate"] == 0.5
    assert [alert["type"] for alert in found["current_alerts"]] == ["low_success_rate"]
    assert found["current_alerts"][0]["timestamp"] == NOW.timestamp()


def test_summary_without_data_is_one_error() -> None:
    found = exported(report_of())
    assert (found["performance_metrics"], found["quality_metrics"], found["current_alerts"]) == ([], [], [])
    assert list(found["performance_summary"]) == list(found["quality_summary"]) == ["error"]
    failed = exported(report_of(make_failure("f")))
    assert list(failed["performance_summary"]) == ["error"]
    assert len(failed["performance_metrics"]) == 1


def rows(times: list[float]) -> list[dict[str, Any]]:
    return [
        {"success": True, "response_time": time, "memory_usage_mb": 1.0, "tokens_per_second": 2.0, "token_count": 3}
        for time in times
    ]


@pytest.mark.parametrize(
    ("times", "p95"),
    [
        ([float(n) for n in range(1, 101)], 95.95),
        ([float(n) for n in range(1, 21)], 19.95),
        ([1.0, 2.0], 2.85),  # exclusive quantiles of few values lie beyond the largest
        ([1.5], 1.5),
    ],
)
def test_p95_is_the_19th_of_20_exclusive_quantiles(times: list[float], p95: float) -> None:
    found = performance_summary(rows(times), device=False)["p95_response_time"]
    assert found == pytest.approx(p95)
    if len(times) > 1:
        assert found == statistics.quantiles(times, n=20)[18]


def test_summary_covers_the_last_hundred() -> None:
    requests = tuple(make_request(f"r{n:03}", index=n, sent_s=float(n), tokens=n + 1) for n in range(150))
    found = exported(report_of(make_measurement("m", requests=requests)))
    assert len(found["performance_metrics"]) == 150
    assert found["performance_summary"]["total_requests"] == 100
    assert found["performance_summary"]["total_tokens_generated"] == sum(range(51, 151))


def test_ratings_stand_beside_the_heuristics() -> None:
    report = make_report()
    rated = report.measurements[-1].requests[1].request_id
    score = Score(request_id=rated, scorer="person", version="v1", item="user_satisfaction", value=0.9)
    found = exported(report.model_copy(update={"scores": (*report.scores, score)}))
    assert [row["user_satisfaction"] for row in found["quality_metrics"]] == [None, 0.9, None]
    assert quality_summary(found["quality_metrics"])["overall_quality"] == 0.8
