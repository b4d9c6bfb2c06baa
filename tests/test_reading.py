"""A list of runs counts the same measurements and failures as the reports of those runs."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from fakes import START, make_failure, make_measurement, make_planned, make_run, store_report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from load_fakes import make_load_report

from results.reading import RunSummary
from results.records import Failure, Measurement, Report
from results.store import Store
from results.summary import unresolved

pytest_plugins = ["postgres"]

TRIES = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["measured", "crash", "oom", "interrupted"])), max_size=8)


def tried(tries: Sequence[tuple[int, str]]) -> Report:
    """A report of one case, tried in these processes with these ends, a minute apart; none is tried after a measurement."""
    measured: dict[int, Measurement] = {}
    failed: list[Failure] = []
    for minute, (process, end) in enumerate(tries):
        at = START + timedelta(minutes=minute)
        if process in measured:
            continue
        if end == "measured":
            measured[process] = make_measurement(f"a{minute}", process=process, started_at=at)
        else:
            failed.append(make_failure(f"a{minute}", process=process, started_at=at, kind=end))
    return Report(run=make_run(make_planned()), measurements=tuple(measured.values()), failures=tuple(failed))


def summary_of(report: Report, url: str) -> RunSummary:
    with Store.writing(url) as store:
        store_report(store, report)
        (summary,) = store.runs()
        store.remove_run(report.run.run_id)
    return summary


@pytest.mark.parametrize(
    ("tries", "measured", "failed"),
    [
        ([], 0, 0),
        ([(0, "crash")], 0, 1),
        ([(0, "crash"), (0, "measured")], 1, 0),
        ([(0, "interrupted"), (0, "crash"), (1, "measured")], 1, 1),
        ([(0, "oom"), (0, "oom"), (2, "timeout")], 0, 2),
    ],
)
def test_a_run_counts_what_still_failed(tries: list[tuple[int, str]], measured: int, failed: int, any_url: str) -> None:
    summary = summary_of(tried(tries), any_url)
    assert (summary.measured, summary.failed) == (measured, failed)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TRIES)
def test_lists_and_reports_count_alike(any_url: str, tries: list[tuple[int, str]]) -> None:
    report = tried(tries)
    summary = summary_of(report, any_url)
    assert summary.measured == len(report.measurements)
    assert summary.failed == len(unresolved(report.measurements, report.failures))


@pytest.mark.slow
def test_a_summary_counts_the_cases_under_load(any_url: str) -> None:
    loaded = make_load_report()
    with Store.writing(any_url) as store:
        store.add_run(make_run())
        store.add_run(loaded.run)
        found = {run.run_id: run.loads for run in store.runs()}
    assert found[loaded.run.run_id] == sum(one.case.load is not None for one in loaded.run.planned) > 0
    assert found[make_run().run_id] == 0
