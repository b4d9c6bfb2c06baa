"""Alerts over exact points: what fires, what has no data, and what the command exits with."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import (
    START,
    make_case,
    make_failure,
    make_measurement,
    make_planned,
    make_report,
    make_request,
    make_run,
    store_report,
)

from bench.commands.alerts import alerts
from results.alerts import Point, Target, evaluate, points_of, report_targets, stored_targets
from results.records import Alert, Request
from results.rules import Rule, load_rules
from results.store import Store

NOW = START + timedelta(hours=1)


def requests(*seconds: float | None, rss_bytes: float = 1e9, tokens: int = 100) -> Target:
    """A target whose requests took so long; `None` is a failed one."""
    found: list[Request] = []
    for index, taken in enumerate(seconds):
        error = "refused" if taken is None else None
        step = (taken or 0.0) / tokens
        found.append(
            make_request(
                f"r{index}", index=index, sent_s=float(index), ttft_s=step, tpot_s=step, tokens=tokens, error=error,
                values={"rss_bytes": rss_bytes},
            )
        )  # fmt: skip
    return Target("one", tuple(Point(request.sent_at, request) for request in found))


def states(target: Target) -> dict[str, tuple[str, object]]:
    """State and value, to nine digits, by rule."""
    return {
        alert.rule: (alert.state, None if alert.value is None else round(alert.value, 9))
        for alert in evaluate(load_rules(), [target], NOW)
    }


def test_healthy_requests_are_ok() -> None:
    found = states(requests(*[2.0] * 10))
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["high_response_time"][1] == 2.0
    assert found["low_throughput"][1] == 50.0
    assert found["low_success_rate"][1] == 1.0
    assert found["no_successful_requests"][1] == 10


def test_each_threshold_fires() -> None:
    slow = states(requests(*[30.0] * 10, rss_bytes=8193 * 2**20))
    assert [name for name, (state, _) in slow.items() if state == "firing"] == [
        "high_response_time",
        "high_memory_usage",
        "low_throughput",
    ]
    assert states(requests(*[2.0] * 9, None))["low_success_rate"] == ("firing", 0.9)


def test_means_are_over_successful_requests_only() -> None:
    found = states(requests(None, 12.0, None, 14.0))
    assert found["high_response_time"] == ("firing", 13.0)
    assert found["low_success_rate"] == ("firing", 0.5)
    assert found["no_successful_requests"] == ("ok", 2)


def test_missing_is_never_zero() -> None:
    nothing = states(Target("one", ()))
    assert set(nothing.values()) == {("no_data", None)}
    failed = states(requests(None, None))
    assert failed["low_throughput"] == ("no_data", None)
    assert failed["low_success_rate"] == ("firing", 0.0)
    assert failed["no_successful_requests"] == ("firing", 0)
    unknown = requests(2.0)
    unknown = Target("one", tuple(Point(NOW, make_request("r", values={})) for _ in unknown.points))
    assert states(unknown)["high_memory_usage"] == ("no_data", None)


def test_only_the_last_requests_count() -> None:
    assert states(requests(*[60.0] * 20, *[2.0] * 10))["high_response_time"] == ("ok", 2.0)
    assert states(requests(*[None] * 20, *[2.0] * 10))["low_success_rate"] == ("ok", 1.0)


def test_min_samples() -> None:
    rule = Rule(name="slow", metric="e2e_s", above=10, min_samples=3)
    few, enough = requests(60.0, None, 60.0), requests(60.0, None, 60.0, 60.0)
    assert [alert.state for alert in evaluate([rule], [few, enough], NOW)] == ["no_data", "firing"]


def test_several_values_of_a_request_count_once() -> None:
    rule = Rule(name="gaps", metric="itl_s", above=1, min_samples=2)
    assert evaluate([rule], [requests(2.0)], NOW)[0].state == "no_data"


def test_evaluating_twice_gives_the_same() -> None:
    targets = [requests(2.0, None), Target("two", ())]
    assert evaluate(load_rules(), targets, NOW) == evaluate(load_rules(), targets, NOW)


def test_message_has_value_count_and_limit() -> None:
    alert = evaluate([Rule(name="slow", metric="e2e_s", above=10, severity="low")], [requests(12.0, 12.0)], NOW)[0]
    assert alert.message == "End to end: 12 s (n = 2), above 10 s."
    assert (alert.target, alert.severity, alert.threshold, alert.at) == ("one", "low", 10.0, NOW)


def test_failures_count_as_failed_requests_unless_nothing_was_asked() -> None:
    kinds = ["oom", "timeout", "crash", "bad_output", "engine_error",
             "unsupported", "pruned", "interrupted", "missing_dependency", "missing_weights"]  # fmt: skip
    points = points_of(make_failure(kind, kind=kind) for kind in kinds)
    assert [point.outcome.kind for point in points if not isinstance(point.outcome, Request)] == kinds[:5]
    assert not any(point.ok for point in points)


def test_requests_before_a_crash_count_and_the_crash_comes_after_them() -> None:
    before = (make_request("a", sent_s=60.0), make_request("b", sent_s=61.0))
    points = points_of([make_failure("f", requests=before), make_measurement("m", iterations=1)])
    assert [point.ok for point in points] == [True, True, True, False]


def test_targets_are_speed_cases_told_apart() -> None:
    twins = [make_planned(make_case(threads=threads)) for threads in (1, 2)]
    report = make_report().model_copy(update={"run": make_run(*twins, make_planned(make_case(purpose="quality")))})
    labels = [target.label for target in report_targets(report)]
    assert labels == [f"{twin.label} ({twin.case.case_id})" for twin in twins]
    assert len(report_targets(make_report())) == 3
    assert [len(target.points) for target in report_targets(make_report())] == [9, 9, 1]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/results.db"


def test_a_failure_made_good_is_no_failed_request(tmp_path: Path) -> None:
    report = make_report(with_failure=False)
    crashed = make_failure("x", report.run.planned[0].case, process=1)
    report = report.model_copy(update={"failures": (crashed,)})
    assert [len(target.points) for target in report_targets(report)] == [9, 9, 0]
    with Store.writing(str(tmp_path / "results.db")) as store:
        store_report(store, report)
        assert all(point.ok for target in stored_targets(store, 100) for point in target.points)


def test_stored_targets_look_over_all_runs(url: str) -> None:
    old = make_report(started_at=START - timedelta(days=1), run_id="20260228-120000-aaaa", with_failure=False)
    with Store.writing(url) as store:
        store_report(store, old)
        store_report(store, make_report())
        targets = stored_targets(store, 12)
    assert [len(target.points) for target in targets] == [12, 12, 1]


def test_attempts_without_requests_hide_no_older_ones(url: str) -> None:
    with Store.writing(url) as store:
        store_report(store, make_report(with_failure=False))
        case = make_report().run.planned[0].case
        for number in range(12):
            at = START + timedelta(hours=1, minutes=number)
            store.add_failure(make_failure(f"u{number}", case, kind="unsupported", started_at=at, process=number))
        assert len(stored_targets(store, 3)[0].points) == 3


def test_command_exits_with_the_strongest(url: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(alerts, ["eval", "--store", url, *arguments], env={"COLUMNS": "200"})
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    quiet = tmp_path / "quiet.yaml"
    quiet.write_text("rules: [{name: fine, metric: success_rate, above: 2}]")
    with Store.writing(url) as store:
        assert run()[0] == 3
        healthy = make_report(with_failure=False)
        store_report(store, healthy)
        code, output = run()
        assert code == 3 and "no data" in output
        store_report(store, make_report(run_id="20260302-120000-bbbb", started_at=START + timedelta(days=1)))
    code, output = run()
    lines = output.splitlines()
    assert code == 1
    assert next(line for line in lines if "firing" in line or "no data" in line or " ok " in line).split()[:3] == [
        "firing",
        "high",
        "low_success_rate",
    ]
    assert run(str(quiet))[0] == 0
    assert run("--run", healthy.run.run_id)[0] == 3
    code, output = run("--run", "latest", "--json")
    found = [Alert.from_json(json.dumps(one)) for one in json.loads(output)]
    assert code == 1
    assert [alert.state for alert in found] == sorted((a.state for a in found), key=["firing", "no_data", "ok"].index)
    assert len(found) == 15


def test_schema_command() -> None:
    assert json.loads(CliRunner().invoke(alerts, ["schema"]).output)["title"] == "Gemmeter alert rules"
