"""`bench history` on stored runs: what it shows, what marks do, and its exit codes."""

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import START, make_case, make_environment, make_failure, make_measurement, make_planned, make_run
from history_fakes import noisy
from terminal import run_bench, same_as_golden

from results.decided import Baseline, Mark
from results.records import RunEvent
from results.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("utc")]

FP32 = make_planned(processes=1)
BF16 = make_planned(make_case(dtype="bf16", quantization="bf16", source_precision=None), processes=1)
STEP = "20260301-000014-aaaa"
"""The run at which fp32 became 20 % slower."""


def add_run(store: Store, number: int, factor: float = 1.0, *, bf16: float | None = 1.0, **changes: object) -> None:
    """Run `number`, an hour after the one before it; without `bf16` that case is out of memory."""
    run_id = f"20260301-{number:06}-aaaa"
    at = START + timedelta(hours=number)
    facts = make_environment(torch="2.4.0" if number < 14 else "2.5.0")
    fields: dict[str, object] = {"git_commit": f"{number:03}c0ffee", "git_branch": "main", "environment": facts}
    store.add_run(make_run(FP32, BF16, run_id=run_id, started_at=at, **(fields | changes)))
    noise = noisy(1, 1.0, 0.005, seed=number)[0]
    for place, (planned, times) in enumerate(((FP32, factor), (BF16, bf16))):
        key = f"{run_id}-{place}"
        if times is None:
            store.add_failure(make_failure(key, planned.case, run_id=run_id, kind="oom", started_at=at))
            continue
        tpot, ttft = 0.05 * times * noise, 0.2 * times * noise
        store.add_measurement(
            make_measurement(
                key, planned.case, run_id=run_id, tpot_s=tpot, ttft_s=ttft, iterations=1, started_at=at, warnings=(), series=()
            )
        )
    store.add_event(RunEvent(run_id=run_id, at=at + timedelta(minutes=9), kind="finished"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 runs; fp32 is 20 % slower from run 14 on, with another torch."""
    path = tmp_path_factory.mktemp("template") / "results.db"
    with Store.writing(str(path)) as store:
        for number in range(24):
            add_run(store, number, 1.2 if number >= 14 else 1.0)
    return path


@pytest.fixture
def url(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "store").mkdir()
    path = str(shutil.copy(template, tmp_path / "store" / "results.db"))
    monkeypatch.setenv("BENCH_STORE", path)
    return path


def test_all_series_at_a_glance(url: str) -> None:
    done = run_bench("history", columns=180)
    assert done.code == 1
    same_as_golden("history.txt", done.output)
    same_as_golden("history_narrow.txt", run_bench("history", columns=80).output)


def test_one_series_with_its_points(url: str) -> None:
    done = run_bench("history", "fp32", "--metric", "tpot_s", "--limit", "12")
    assert done.code == 1
    same_as_golden("history_case.txt", done.output)


def test_the_metrics_of_one_case(url: str) -> None:
    done = run_bench("history", "bf16")
    assert done.code == 0
    assert "Quiet: 5 series" in done.output
    assert "▄▄▄▄" in done.output


@pytest.mark.parametrize("words", [FP32.case.case_id, FP32.case.case_id[:8], "fp32", "TRANSFORMERS fp32", FP32.label])
def test_cases_are_found_by_id_or_words(url: str, words: str) -> None:
    found = json.loads(run_bench("history", words, "--metric", "tpot_s", "--json").output)
    assert [one["case_id"] for one in found["series"]] == [FP32.case.case_id]


def test_words_that_mean_several_cases_or_none_list_them(url: str) -> None:
    several, none = run_bench("history", "transformers"), run_bench("history", "vllm")
    assert several.code == none.code == 2
    assert FP32.case.case_id in several.error
    assert BF16.case.case_id in several.error
    assert BF16.label in none.error


def test_json_holds_findings_states_and_points(url: str) -> None:
    found = json.loads(run_bench("history", "fp32", "--json").output)
    (one,) = found["findings"]
    assert (found["schema"], found["exit_code"], one["state"], one["run"]) == ("history/1", 1, "worse", STEP)
    assert {each["metric"] for each in one["changes"]} == {"ttft_s", "tpot_s", "e2e_s"}
    assert one["environment"] == [{"key": "torch", "a": "2.4.0", "b": "2.5.0", "hard": False}]
    states = {each["metric"]: each["state"] for each in found["series"]}
    assert states == {"ttft_s": "worse", "tpot_s": "worse", "e2e_s": "worse", "peak_rss_bytes": "quiet", "weights_bytes": "quiet"}
    assert all(len(each["points"]) == 24 for each in found["series"])
    assert "points" not in json.loads(run_bench("history", "--json").output)["series"][0]


def test_what_is_acknowledged_fails_no_more_and_stays_shown(url: str) -> None:
    done = run_bench("history", "acknowledge", "--at", STEP, "--reason", "torch 2.5 is slower", "--author", "Ada")
    assert (done.code, done.output.count("Acknowledged")) == (0, 3)
    shown = run_bench("history", columns=180)
    assert shown.code == 0
    assert "acknowledged by Ada: torch 2.5 is slower" in shown.output
    assert "+20." in shown.output
    with Store.reading(url) as store:
        assert {(one.run_id, one.metric) for one in store.marks()} == {(STEP, name) for name in ("ttft_s", "tpot_s", "e2e_s")}


def test_an_acknowledgement_of_one_metric_leaves_the_others(url: str) -> None:
    assert run_bench("history", "acknowledge", "fp32", "--metric", "tpot_s", "--at", STEP, "--reason", "known").code == 0
    assert run_bench("history", "--metric", "tpot_s").code == 0
    assert run_bench("history").code == 1


def test_what_gets_worse_later_counts_again(url: str) -> None:
    run_bench("history", "acknowledge", "--at", STEP, "--reason", "known")
    with Store.writing(url) as store:
        for number in range(24, 32):
            add_run(store, number, 1.5)
    done = run_bench("history", columns=180)
    assert done.code == 1
    assert "20260301-000024-aaaa" in done.output


def test_nothing_is_acknowledged_where_nothing_changed(url: str) -> None:
    done = run_bench("history", "acknowledge", "--at", "20260301-000003", "--reason", "x")
    assert done.code == 2
    assert STEP in done.error
    assert run_bench("history", "acknowledge", "--at", STEP, "--reason", " ").code == 2
    assert run_bench("history", "acknowledge", "--at", "nowhere", "--reason", "x").code == 2
    assert run_bench("history", "marks").output == "Nothing is acknowledged or muted.\n"


def test_muted_series_say_nothing_until_then(url: str) -> None:
    assert run_bench("history", "mute", "fp32", "--until", "30d", "--reason", "the cooler is broken", "--author", "Ada").code == 0
    assert run_bench("history").code == 0
    listed = run_bench("history", "marks", columns=200)
    assert listed.output.count("the cooler is broken") == 5
    assert {one["kind"] for one in json.loads(run_bench("history", "marks", "--json").output)} == {"muted"}


def test_a_mute_that_expired_counts_no_more(url: str) -> None:
    with Store.writing(url) as store:
        for metric in ("ttft_s", "tpot_s", "e2e_s"):
            store.add_mark(
                Mark(
                    kind="muted", case_id=FP32.case.case_id, metric=metric, author="Ada", reason="once", at=START,
                    expires_at=START + timedelta(days=1),
                )
            )  # fmt: skip
    assert run_bench("history").code == 1
    assert "muted, expired" in run_bench("history", "marks", columns=200).output


def test_nothing_is_muted_that_no_run_measured(url: str) -> None:
    done = run_bench("history", "mute", "fp32", "--metric", "quality", "--until", "1d", "--reason", "x")
    assert (done.code, "No finished run has measured that" in done.error) == (2, True)


def test_runs_of_changed_trees_alone_can_be_muted_and_prove_nothing_of_the_code(tmp_path: Path) -> None:
    path = str(tmp_path / "results.db")
    with Store.writing(path) as store:
        for number in range(20):
            add_run(store, number, 1.2 if number >= 10 else 1.0, git_dirty=True, git_commit="c0ffee")
    shown = run_bench("history", "--dirty", "--store", path, columns=180)
    assert (shown.code, "one commit" in shown.output, "c0ffee+" in shown.output) == (1, False, True)
    assert run_bench("history", "mute", "fp32", "--until", "1d", "--reason", "x", "--store", path).code == 0
    assert run_bench("history", "--dirty", "--store", path).code == 0


def test_several_machines_are_told_apart(url: str) -> None:
    assert "Test CPU" not in run_bench("history", columns=180).output
    there = make_environment(cpu_model="Other CPU")
    with Store.writing(url) as store:
        for number in range(24, 44):
            add_run(store, number, 1.4 if number >= 34 else 1.0, environment=there)
    overview = run_bench("history", columns=180).output
    assert "on Test CPU m1-" in overview
    assert f"on Other CPU {there.machine_id}" in overview
    assert run_bench("history", "fp32", columns=180).output.count(f"Other CPU {there.machine_id}") == 6


def test_marks_keep_their_reasons_on_narrow_terminals(url: str) -> None:
    run_bench("history", "acknowledge", "--at", STEP, "--reason", "torch", "--author", "Ada Lovelace <ada@example.org>")
    for columns in (60, 80, 200):
        listed = run_bench("history", "marks", columns=columns).output
        assert listed.count("torch") == 3, columns
        assert listed.count("fp32") == 3, columns
        assert max(map(len, listed.splitlines())) <= columns


@pytest.mark.parametrize("until", ["soon", "2001-01-01", "3", "-3d", "99999999d"])
def test_mutes_end_ahead(url: str, until: str) -> None:
    assert run_bench("history", "mute", "fp32", "--until", until, "--reason", "x").code == 2


def test_unknown_metrics_lead_to_the_nearest(url: str) -> None:
    for arguments in (("--metric", "tpot"), ("mute", "fp32", "--metric", "tpot", "--until", "1d", "--reason", "x")):
        done = run_bench("history", *arguments)
        assert done.code == 2
        assert "did you mean 'tpot_s'?" in done.error


def test_a_failing_case_waits_for_the_next_run_and_then_fails(url: str) -> None:
    run_bench("history", "acknowledge", "--at", STEP, "--reason", "known")
    with Store.writing(url) as store:
        add_run(store, 24, 1.2, bf16=None)
    waiting = run_bench("history", columns=180)
    assert waiting.code == 3
    assert "fails (oom)" in waiting.output
    assert "5 of 10" in waiting.output
    assert "✗ oom" in run_bench("history", "bf16", "--metric", "tpot_s").output
    with Store.writing(url) as store:
        add_run(store, 25, 1.2, bf16=None)
    assert run_bench("history").code == 1


def test_the_newest_run_alone_waits(url: str) -> None:
    with Store.writing(url) as store:
        add_run(store, 24, 1.2, bf16=1.3)
    done = run_bench("history", "bf16", columns=180)
    assert done.code == 3
    assert "the next one confirms it or not" in done.output


def test_releases(url: str) -> None:
    assert "No drift guard" in run_bench("history").output
    missing = run_bench("history", "--release", "v1")
    assert (missing.code, "bench baseline set v1 RUN" in missing.error) == (4, True)
    with Store.writing(url) as store:
        for name, reference, runs in (("release", None, ("20260301-000001-aaaa",)), ("v1", "rolling:5", ())):
            store.add_baseline(Baseline(name=name, reference=reference, run_ids=runs, author="Ada", reason="1.0", at=START))
    assert "Drift guard: 8 of 10 series are held against release" in run_bench("history", columns=180).output
    assert run_bench("history", "--release", "v1").code == 2


def test_an_empty_store_is_no_pass(tmp_path: Path) -> None:
    Store.writing(str(tmp_path / "results.db")).close()
    assert run_bench("history", "--store", str(tmp_path / "results.db")).code == 2
    assert run_bench("history", "--store", str(tmp_path / "none.db")).code == 2


def test_reading_leaves_the_store_as_it_is(url: str) -> None:
    before = Path(url).read_bytes()
    run_bench("history")
    run_bench("history", "marks")
    assert Path(url).read_bytes() == before


def test_help_tells_both_ways() -> None:
    assert "acknowledge" in run_bench("history", "--help").output
    assert "--metric" in run_bench("history", "show", "--help").output
