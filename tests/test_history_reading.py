"""Series as they come out of a store: which runs, values, processes, failures and machines are in them."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import (
    START,
    make_case,
    make_environment,
    make_failure,
    make_measurement,
    make_planned,
    make_report,
    make_run,
    store_report,
)

from results.cases import Load
from results.errors import UsageError
from results.history import MetricSeries
from results.history_reading import JUDGED, read_history
from results.records import Failure, Measurement, RowWarning, RunEvent
from results.store import Store
from results.summary import summarize


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "results.db"
    Store.writing(str(path)).close()
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "store").mkdir()
    with Store.writing(str(shutil.copy(template, tmp_path / "store" / "results.db"))) as opened:
        yield opened


def add_run(
    store: Store, number: int, *found: Measurement | Failure, ended: str | None = "finished", limits: str | None = None,
    case: object = None, **changes: object,
) -> str:  # fmt: skip
    """Run `number`, an hour after the one before it, of one case with these attempts."""
    run_id = f"20260301-{number:06}-aaaa"
    planned = make_planned(case, limits=limits)  # type: ignore[arg-type]
    store.add_run(make_run(planned, run_id=run_id, started_at=START + timedelta(hours=number), **changes))
    for place, one in enumerate(found):
        update = {"run_id": run_id, "attempt_id": f"{run_id}-{place}", "process": place, "case_id": planned.case.case_id}
        requests = tuple(each.model_copy(update={"request_id": f"{run_id}-{place}-{each.index}"}) for each in one.requests)
        moved = one.model_copy(update=update | {"requests": requests})
        store.add_failure(moved) if isinstance(moved, Failure) else store.add_measurement(moved)
    if ended:
        store.add_event(RunEvent(run_id=run_id, at=START + timedelta(hours=number, minutes=9), kind=ended))
    return run_id


def measured(tpot_s: float = 0.05, **changes: object) -> Measurement:
    return make_measurement("m", tpot_s=tpot_s, **changes)  # type: ignore[arg-type]


def series(store: Store, metric: str = "tpot_s", **asked: object) -> MetricSeries:
    (one,) = read_history(store.engine, metrics=[metric], **asked)  # type: ignore[arg-type]
    return one


def test_a_point_is_the_median_of_the_processes_medians(store: Store) -> None:
    add_run(store, 1, measured(0.04), measured(0.05), measured(0.09), git_branch="main", git_commit="abc")
    (point,) = series(store).points
    assert point.value == pytest.approx(0.05)
    assert point.processes == 3
    assert (point.run.run_id, point.run.commit, point.run.branch, point.run.suite) == (
        "20260301-000001-aaaa",
        "abc",
        "main",
        "quickstart",
    )
    assert point.run.facts["cpu_model"] == "Test CPU"


def test_values_are_those_that_tables_show(store: Store) -> None:
    report = make_report()
    store_report(store, report)
    speeds = {row.planned.case.case_id: row.estimates for row in summarize(report) if row.processes}
    for one in read_history(store.engine, metrics=[*JUDGED, "decode_tps", "output_tps", "load_s"]):
        if one.metric != "quality":
            assert one.points[0].value == speeds[one.planned.case.case_id][one.metric].value, one.metric
    assert len(speeds) == 2
    assert series(store, "quality").points[0].value == pytest.approx((1.0 + 0.7 + 1.0 + 0.5) / 4)


def test_points_come_in_order_of_time_whatever_was_stored_first(store: Store) -> None:
    for number in (3, 1, 2):
        add_run(store, number, measured(number / 100))
    assert [point.value for point in series(store).points] == pytest.approx([0.01, 0.02, 0.03])


def test_only_ended_benchmark_runs_count(store: Store) -> None:
    kept = [add_run(store, 1, measured()), add_run(store, 2, measured(), ended="interrupted")]
    add_run(store, 3, measured(), ended="failed")
    add_run(store, 4, measured(), ended=None)
    add_run(store, 5, measured(), kind="import")
    assert [point.run.run_id for point in series(store).points] == kept


def test_changed_trees_and_other_branches_stay_out_unless_asked_for(store: Store) -> None:
    clean = add_run(store, 1, measured(), git_branch="main")
    dirty = add_run(store, 2, measured(), git_branch="main", git_dirty=True)
    other = add_run(store, 3, measured(), git_branch="wip")
    assert [point.run.run_id for point in series(store).points] == [clean, other]
    assert [point.run.run_id for point in series(store, dirty=True, branch="main").points] == [clean, dirty]
    with pytest.raises(UsageError, match=r"'wap'.*main, wip"):
        read_history(store.engine, branch="wap")


def test_the_release_is_read_whatever_its_branch(store: Store) -> None:
    pinned = add_run(store, 1, measured(0.04), git_branch="release")
    shown = add_run(store, 2, measured(), git_branch="main")
    found = series(store, branch="main", release=[pinned, "gone"])
    assert [point.run.run_id for point in found.points] == [shown]
    assert [point.value for point in found.release] == pytest.approx([0.04])


def test_failures_are_no_points(store: Store) -> None:
    add_run(store, 1, measured(), make_failure("f"))
    add_run(store, 2, make_failure("f", kind="oom"), make_failure("f", kind="interrupted"))
    add_run(store, 3, make_failure("f", kind="interrupted"))
    found = series(store)
    assert [point.processes for point in found.points] == [1]
    assert [(one.run.run_id[9:15], one.kind) for one in found.failed] == [("000002", "oom"), ("000003", "interrupted")]


def test_machines_are_series_of_their_own_and_soft_facts_are_not(store: Store) -> None:
    add_run(store, 1, measured())
    add_run(store, 2, measured(), environment=make_environment(python="3.12"))
    add_run(store, 3, measured(), environment=make_environment(cpu_model="Other CPU"))
    found = read_history(store.engine, metrics=["tpot_s"])
    assert [len(one.points) for one in found] == [2, 1]


def test_answers_that_stopped_early_have_no_end_to_end_time(store: Store) -> None:
    add_run(store, 1, measured())
    add_run(store, 2, measured(warnings=(RowWarning(kind="early_stop", facts={"share": 0.5}),)))
    assert (len(series(store).points), len(series(store, "e2e_s").points)) == (2, 1)


def test_goodputs_under_other_limits_are_another_metric(store: Store) -> None:
    for number, limits in enumerate(("ttft_s<1", "ttft_s<0.5", "ttft_s<0.5"), 1):
        add_run(store, number, measured(values={"goodput_rps": float(number)}), limits=limits)
    assert [point.value for point in series(store, "goodput_rps").points] == [2.0, 3.0]


def test_errors_count_under_load_only(store: Store) -> None:
    add_run(store, 1, measured())
    assert read_history(store.engine, metrics=["error_share"]) == []
    add_run(store, 2, measured(), case=make_case(load=Load(arrivals="closed", concurrency=2)))
    assert [point.value for point in series(store, "error_share").points] == [0.0]


def test_any_metric_can_be_read_and_an_unknown_one_leads_to_its_nearest(store: Store) -> None:
    add_run(store, 1, measured(0.05))
    assert series(store, "decode_tps").points[0].value == pytest.approx(20)
    assert series(store, "load_s").points[0].value == 2.0
    assert series(store, "rss_bytes").points[0].value == 1.5e9
    with pytest.raises(UsageError, match="did you mean 'tpot_s'"):
        read_history(store.engine, metrics=["tpot"])
    with pytest.raises(UsageError, match="No metric is called ''"):
        read_history(store.engine, metrics=[""])


def test_cases_can_be_chosen(store: Store) -> None:
    report = make_report()
    store_report(store, report)
    chosen = report.run.planned[1].case.case_id
    assert {one.planned.case.case_id for one in read_history(store.engine, cases=[chosen])} == {chosen}
