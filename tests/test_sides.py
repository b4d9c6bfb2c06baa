"""Sides of a comparison: several runs pooled, and what references to stored runs and files become."""

import subprocess
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
from hypothesis import given
from hypothesis import strategies as st
from stored import make_move

from bench.sides import pinnable, sides
from results.errors import NotComparableError, UsageError
from results.records import Failure, Measurement, Report, RunEvent, Score
from results.sides import pooled, without
from results.store import Store
from results.summary import by_case, unresolved

CASES = [make_case(output_tokens=16 + k) for k in range(3)]


def attempts(report: Report) -> list[Measurement | Failure]:
    return [*report.measurements, *report.failures]


# ---- pooling

Tries = list[tuple[int, int, bool]]
"""(case, process, whether it was measured) of one run."""


def make_tried(number: int, tries: Tries, **run: object) -> Report:
    """A run of all cases with these tries, the number-th in time."""
    run_id = f"20260301-1200{number:02d}-aaaa"
    made: dict[str, list[Measurement | Failure]] = {"measurements": [], "failures": []}
    for place, (case, process, measured) in enumerate(tries):
        attempt_id, at = f"{run_id}-{place}", START + timedelta(hours=number, minutes=place)
        if measured:
            fields = {"run_id": run_id, "process": process, "started_at": at, "iterations": 2}
            made["measurements"].append(make_measurement(attempt_id, CASES[case], **fields))  # type: ignore[arg-type]
        else:
            made["failures"].append(make_failure(attempt_id, CASES[case], run_id=run_id, process=process, started_at=at))
    requests = [request.request_id for one in made["measurements"] for request in one.requests]
    fields = {"run_id": run_id, "started_at": START + timedelta(hours=number)} | run
    return Report(
        run=make_run(*map(make_planned, CASES), **fields),  # type: ignore[arg-type]
        events=(RunEvent(run_id=run_id, at=START + timedelta(hours=number, minutes=50), kind="finished"),),
        tags=("main", f"t{number}"),
        measurements=made["measurements"],
        failures=made["failures"],
        scores=tuple(Score(request_id=one, scorer="s", version="v1", item="quality", value=0.5) for one in requests),
    )


some_tries = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.booleans()), max_size=8)


@given(st.lists(some_tries, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_pooling_loses_and_doubles_nothing(several: list[Tries], random: object) -> None:
    reports = [make_tried(number, tries) for number, tries in enumerate(several)]
    shuffled = [*reports, reports[0]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = pooled(shuffled)
    newest = reports[-1]

    assert found.run.run_id == newest.run.run_id
    for part in ("measurements", "scores", "events"):
        given_ones = [one for report in reports for one in getattr(report, part)]
        assert len(getattr(found, part)) == len(given_ones)
    by_id = {one.attempt_id: one for report in reports for one in attempts(report)}
    assert all(
        one.model_copy(update={"process": by_id[one.attempt_id].process}) == by_id[one.attempt_id] for one in attempts(found)
    )

    measured = {one.case_id for report in reports for one in report.measurements}
    left_out = set(by_id) - {one.attempt_id for one in attempts(found)}
    made_good = [one for report in reports[:-1] for one in report.failures if one.case_id in measured]
    assert left_out == {one.attempt_id for one in made_good}

    places: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for one in attempts(found):
        places.setdefault((one.case_id, one.process), set()).add((one.run_id, by_id[one.attempt_id].process))
    assert all(len(sources) == 1 for sources in places.values())  # no two processes became one
    assert len(places) == len({(one.run_id, one.case_id, by_id[one.attempt_id].process) for one in attempts(found)})
    assert all(one.process == by_id[one.attempt_id].process for one in attempts(found) if one.run_id == newest.run.run_id)


def test_processes_count_on_case_by_case() -> None:
    old = make_tried(0, [(0, 0, True), (0, 1, True), (1, 0, True)])
    new = make_tried(1, [(0, 0, True), (0, 2, True)])
    found = pooled([new, old])
    numbers = {one.attempt_id: one.process for one in found.measurements}
    assert numbers == {
        "20260301-120001-aaaa-0": 0,
        "20260301-120001-aaaa-1": 2,
        "20260301-120000-aaaa-0": 3,
        "20260301-120000-aaaa-1": 4,
        "20260301-120000-aaaa-2": 0,
    }
    assert [len(by_case(found)[0][case.case_id]) for case in CASES] == [4, 1, 0]
    assert found.tags == ("main", "t0", "t1")
    assert found.status == "finished"
    assert pooled([new]) is new


def test_the_newest_plan_of_a_case_counts_with_the_processes_of_all() -> None:
    old = make_tried(0, [])
    plan = (make_planned(CASES[2], processes=5, limits="ttft_s<1"), make_planned(make_case(dtype="bf16"), processes=2))
    new = make_tried(1, [])
    new = new.model_copy(update={"run": new.run.model_copy(update={"planned": plan, "paired_with": "20260301-115900-aaaa"})})
    found = pooled([old, new]).run
    assert [one.case for one in found.planned] == [CASES[2], plan[1].case, CASES[0], CASES[1]]
    assert [one.processes for one in found.planned] == [8, 2, 3, 3]
    assert found.planned[0].limits == "ttft_s<1"
    assert found.paired_with is None


def test_an_older_failure_is_made_good_by_any_run_and_the_newest_ones_stay() -> None:
    flaky = make_tried(0, [(0, 0, True), (0, 1, False), (1, 0, False)])
    steady = make_tried(1, [(0, 0, True), (0, 1, True)])
    found = pooled([flaky, steady])
    assert [one.case_id for one in unresolved(found.measurements, found.failures)] == [CASES[1].case_id]
    found = pooled([steady, make_tried(2, [(0, 0, False)])])
    assert [one.run_id for one in unresolved(found.measurements, found.failures)] == ["20260301-120002-aaaa"]


def test_soft_facts_that_differ_show_all_values_and_hard_ones_refuse() -> None:
    old = make_tried(0, [], environment=make_environment(python="3.11.7", kernel="6.1"))
    mid = make_tried(1, [], environment=make_environment(python="3.12.1"))
    new = make_tried(2, [], environment=make_environment(python="3.12.1"))
    found = pooled([new, mid, old]).run.environment
    assert found.facts["python"] == "3.11.7, 3.12.1"
    assert found.facts["kernel"] == "6.1, unknown"
    assert found.machine_id == new.run.environment.machine_id
    other = make_tried(3, [], environment=make_environment(cpu_count=8))
    with pytest.raises(NotComparableError, match=r"Runs 20260301-120000-aaaa and 20260301-120003-aaaa .* cpu_count is 2 and 8"):
        pooled([old, other])


def test_a_report_without_cases() -> None:
    report = make_tried(0, [(0, 0, True), (1, 0, True), (1, 1, False)])
    found = without(report, {CASES[1].case_id})
    assert [one.case for one in found.run.planned] == [CASES[0], CASES[2]]
    assert [one.attempt_id for one in attempts(found)] == ["20260301-120000-aaaa-0"]
    assert len(found.scores) == 2
    assert without(report, set()) is report


# ---- sides of a store


def stored(store: Store, number: int, **run: object) -> str:
    """A small finished run, the number-th in hours, with two processes of one case."""
    status = run.pop("status", "finished")
    tags = run.pop("tags", ())
    tpot_s = run.pop("tpot_s", 0.05)
    run_id = f"20260301-12{number:02d}00-aaaa"
    at = START + timedelta(hours=number)
    planned = make_planned(CASES[0], processes=2)
    measured = tuple(
        make_measurement(
            f"{run_id}-{k}", CASES[0], run_id=run_id, process=k, iterations=1, tpot_s=float(tpot_s), started_at=at  # type: ignore[arg-type]
        )
        for k in range(2)
    )  # fmt: skip
    events = () if status == "open" else (RunEvent(run_id=run_id, at=at + timedelta(minutes=5), kind=status),)
    made = make_run(planned, run_id=run_id, started_at=at, **run)
    store_report(store, Report(run=made, events=events, tags=tags, measurements=measured))
    return run_id


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "results.db")


@pytest.mark.slow
def test_runs_tags_branches_and_baselines_become_sides(url: str) -> None:
    with Store.writing(url) as store:
        ids = [stored(store, k, git_branch="main") for k in range(3)]
        last = stored(store, 3, git_branch="change", tags=("candidate",))
        store.add_baseline(make_move("release", *ids[:2]))
        store.add_baseline(make_move("gone", ids[0]))
        store.add_baseline(make_move("gone"))
        store.add_baseline(make_move("recent", reference="rolling:2:main"))
        store.add_baseline(make_move("last", reference="branch:main"))
    a, b = sides("release", "latest", url)
    assert (a.name, a.run_ids, len(a.report.measurements)) == ("baseline release (2 runs)", (ids[0], ids[1]), 4)
    assert (b.name, b.run_ids) == (f"latest ({last})", (last,))
    a, b = sides("20260301-1202", "tag:candidate", url)
    assert (a.name, a.run_ids) == (ids[2], (ids[2],))
    assert b.name == f"tag candidate ({last})"
    a, b = sides("main", "change", url)
    assert (a.name, b.name) == (f"branch main ({ids[2]})", f"branch change ({last})")
    assert sides("last", "candidate", url)[0].name == f"baseline last, branch:main ({ids[2]})"
    assert sides("branch:main", ids[2], url)[0].run_ids == (ids[1],)  # not the other side's own
    with pytest.raises(NotComparableError, match=r"Baseline 'gone' was taken away by Ada \(why not\)"):
        sides("gone", "latest", url)
    with pytest.raises(UsageError, match="both mean something beside another run only"):
        sides("recent", "fork-point", url)


@pytest.mark.slow
def test_a_window_is_found_on_either_side_and_beside_a_file(url: str, tmp_path: Path) -> None:
    with Store.writing(url) as store:
        ids = [stored(store, k, git_branch="main") for k in range(4)]
        stored(store, 4, status="interrupted")
        stored(store, 5, suite="other")
        stored(store, 6, environment=make_environment(cpu_count=8))
        stored(store, 7, kind="import")
        last = stored(store, 8)
        stored(store, 9)
        (tmp_path / "b.json").write_text(store.report(last).to_json())
    for b in (last, str(tmp_path / "b.json")):
        a, found = sides("rolling:3", b, url)
        assert (a.name, a.run_ids) == ("rolling:3 (3 runs)", tuple(ids[1:]))
        assert found.run_ids == (last,)
        turned = sides(b, "rolling:3", url)
        assert (turned[1].run_ids, turned[0].run_ids) == (a.run_ids, found.run_ids)
    assert sides("rolling:9", last, url)[0].run_ids == tuple(ids)
    assert sides("rolling:1:main", ids[2], url)[0].name == f"rolling:1:main ({ids[1]})"
    with pytest.raises(NotComparableError, match=f"rolling:3 holds no run: none of suite 'quickstart' .* before {ids[0]} began"):
        sides("rolling:3", ids[0], url)


@pytest.mark.slow
def test_a_window_ends_at_the_newest_change_of_level_case_by_case(url: str) -> None:
    """Ten runs, of which the last four decode 20 % slower: an older one in the window counts no more."""
    with Store.writing(url) as store:
        wobble = (1.0, 1.004, 0.997, 1.002, 0.999, 1.003, 0.998, 1.001, 0.996, 1.002, 1.0, 0.999)
        ids = [stored(store, k, tpot_s=0.05 * wobble[k] * (1.2 if k >= 8 else 1.0)) for k in range(12)]
        last = stored(store, 12, tpot_s=0.06)
    assert sides("rolling:6", last, url)[0].run_ids == tuple(ids[8:])
    assert sides("rolling:3", last, url)[0].run_ids == tuple(ids[9:])


@pytest.mark.slow
def test_a_window_begins_anew_at_an_accepted_run(url: str) -> None:
    with Store.writing(url) as store:
        ids = [stored(store, k) for k in range(5)]
        store.add_baseline(make_move("main", ids[0]))
        assert sides("rolling:9", ids[4], url)[0].run_ids == tuple(ids[:4])
        store.add_baseline(make_move("main", ids[2]))
        assert sides("rolling:9", ids[4], url)[0].run_ids == tuple(ids[2:4])
        assert sides("rolling:9", ids[2], url)[0].run_ids == tuple(ids[:2])


def test_files_need_no_store(tmp_path: Path) -> None:
    report = make_report()
    (tmp_path / "a.json").write_text(report.to_json())
    (tmp_path / "b.json").write_text(report.to_json())
    a, b = sides(str(tmp_path / "a.json"), str(tmp_path / "b.json"), str(tmp_path / "none.db"))
    assert (a.report, a.run_ids, a.name) == (report, (report.run.run_id,), "a.json")
    assert b.report == report
    assert not (tmp_path / "none.db").exists()


@pytest.mark.slow
def test_a_baseline_whose_run_is_elsewhere_is_not_comparable(url: str) -> None:
    with Store.writing(url) as store:
        stored(store, 0)
        store.add_baseline(make_move("main", "20250101-000000-ffff"))
    with pytest.raises(NotComparableError, match="Run 20250101-000000-ffff of baseline main is not in this store"):
        sides("main", "latest", url)


@pytest.mark.slow
def test_what_can_be_pinned(url: str) -> None:
    with Store.writing(url) as store:
        ids = [stored(store, k, tags=(f"t{k}",)) for k in range(2)]
        interrupted, going_on = stored(store, 2, status="interrupted"), stored(store, 3, status="open")
        elsewhere = stored(store, 4, environment=make_environment(gpus="H100"))
        empty = make_run(run_id="20260301-130000-aaaa", started_at=START + timedelta(days=1))
        events = (RunEvent(run_id=empty.run_id, at=START, kind="finished"),)
        store_report(store, Report(run=empty, events=events))

        assert pinnable(["t1", ids[0], "tag:t1"], store) == tuple(ids)
        assert pinnable([interrupted], store, force=True) == (interrupted,)
        for references, kind, sentence in (
            ([interrupted], UsageError, f"Run {interrupted} was interrupted: finish it with `bench run --resume"),
            ([ids[0], going_on], UsageError, f"Run {going_on} has not ended"),
            (["latest"], UsageError, "Nothing was measured in 20260301-130000-aaaa"),
            ([ids[0], elsewhere], NotComparableError, "gpus is '' and 'H100'"),
            (["rolling:3"], UsageError, "beside another run only"),
            (["x.json"], UsageError, "store its run with `bench import x.json`"),
        ):
            with pytest.raises(kind, match=sentence):
                pinnable(references, store)


# ---- fork points


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def commit(message: str) -> str:
    git("commit", "-q", "--allow-empty", "-m", message)
    return git("rev-parse", "HEAD")


@pytest.mark.slow
def test_a_fork_point_is_the_nearest_measured_commit_before_the_branch_began(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    git("init", "-q", "-b", "main")
    one, two, three = (commit(word) for word in ("one", "two", "three"))
    git("checkout", "-q", "-b", "change")
    changed = commit("changed")
    with Store.writing(url) as store:
        stored(store, 0, git_commit=one)
        measured = [stored(store, k, git_commit=two) for k in (1, 2)]
        stored(store, 3, git_commit=two, git_dirty=True)
        stored(store, 4, git_commit=two, status="interrupted")
        stored(store, 5, git_commit=three, suite="other")
        last = stored(store, 6, git_commit=changed)
        on_main = stored(store, 7, git_commit=two)
        at_first = stored(store, 8, git_commit=one)
        trying = stored(store, 9, git_commit=two, git_dirty=True)
    for reference in ("fork-point", "fork-point:main"):
        a, b = sides(reference, last, url)
        assert (a.name, a.run_ids) == (f"{reference} (3 runs)", (*measured, on_main))
        assert b.run_ids == (last,)
    git("checkout", "-q", "main")
    assert sides("fork-point", on_main, url)[0].run_ids == ("20260301-120000-aaaa", at_first)  # the commit before
    assert sides("fork-point", trying, url)[0].run_ids == (*measured, on_main)  # what was not committed yet is judged
    with pytest.raises(NotComparableError, match=r"No finished run of suite 'quickstart' .* of a commit of 'main' at or before"):
        sides("fork-point", at_first, url)
