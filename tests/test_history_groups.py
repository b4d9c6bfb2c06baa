"""Which changes are one finding, what they share, what marks excuse, and the exit code."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from fakes import START, make_case, make_planned
from history_fakes import make_origin, make_series, noisy

from results.decided import Mark
from results.history import Change, History, MetricSeries
from results.history_groups import Finding, exit_code, findings

NOW = START + timedelta(days=30)
FP32, BF16 = make_planned(), make_planned(make_case(dtype="bf16", quantization="bf16"))


def history(
    at: int, *, window: tuple[int, int] | None = None, series: MetricSeries | None = None, direction: str = "worse",
    effect: float = 0.2, **changes: object,
) -> History:  # fmt: skip
    """A series of 20 runs with one change at a run."""
    series = series or make_series(noisy(20))
    after, by = window or (at - 1, at)
    runs = {point.run.run_id: point.run for point in series.points}
    change = Change(
        series=series, found_by="step", run=runs[f"r{at:03}"], after_run=runs[f"r{after:03}"], by_run=runs[f"r{by:03}"],
        before=0.05, after=0.06, effect=effect, direction=direction,  # type: ignore[arg-type]
    )  # fmt: skip
    return History(series, (), (replace(change, **changes),))  # type: ignore[arg-type]


def found(histories: Sequence[History], *marks: Mark) -> list[Finding]:
    return findings(histories, marks, NOW)


def mark(kind: str = "acknowledged", run_id: str | None = "r012", **changes: object) -> Mark:
    fields: dict[str, object] = {
        "kind": kind, "case_id": FP32.case.case_id, "metric": "tpot_s", "run_id": run_id, "author": "Ada", "reason": "a new kernel",
        "at": START,
    }  # fmt: skip
    return Mark(**(fields | changes))


def test_changes_in_one_window_are_one_finding() -> None:
    series = [make_series(noisy(20), metric, planned) for metric in ("tpot_s", "ttft_s") for planned in (FP32, BF16)]
    (one,) = found([*(history(12, series=each) for each in series), History(make_series(noisy(20), "e2e_s"), (), ())])
    assert (len(one.telling), one.measured, one.run.run_id, one.state) == (4, 5, "r012", "worse")
    assert one.shared == {"model": "gemma-3-270m", "engine": "transformers", "device": "cpu", "shape": "pp32 tg16"}


def test_wide_windows_are_narrowed_by_the_others() -> None:
    wide = history(13, window=(9, 15), series=make_series(noisy(20), "ttft_s"))
    (one,) = found([wide, history(12)])
    assert (one.after_run.run_id, one.by_run.run_id) == ("r011", "r012")


def test_windows_that_only_touch_are_two_findings() -> None:
    assert [one.run.run_id for one in found([history(12), history(13, series=make_series(noisy(20), "ttft_s"))])] == [
        "r012",
        "r013",
    ]


def test_other_machines_are_other_findings() -> None:
    there = make_series(noisy(20), machine_id="m1-two")
    assert len(found([history(12), history(12, series=there)])) == 2


def test_a_drift_is_no_part_of_a_step() -> None:
    drift = history(12, window=(2, 19), series=make_series(noisy(20), "ttft_s"), found_by="drift")
    assert len(found([history(12), drift])) == 2


def test_small_changes_neither_narrow_nor_count() -> None:
    small = history(10, window=(9, 10), direction="small", effect=0.01, series=make_series(noisy(20), "ttft_s"))
    (one,) = found([small, history(12, window=(8, 14))])
    assert (one.after_run.run_id, one.by_run.run_id, len(one.telling), len(one.changes)) == ("r008", "r014", 1, 2)


def test_worst_first_and_the_corroborated_ones_before_lone_ones() -> None:
    pair = [history(5, effect=0.1, series=make_series(noisy(20), name)) for name in ("ttft_s", "e2e_s")]
    lone = history(12, effect=0.9)
    better = history(17, direction="better", effect=-0.5, series=make_series(noisy(20), "peak_rss_bytes"))
    waiting = history(19, confirmed=False, series=make_series(noisy(20), "step_s"))
    assert [(one.run.run_id, one.state) for one in found([better, waiting, lone, *pair])] == [
        ("r005", "worse"), ("r012", "worse"), ("r019", "waiting"), ("r017", "better"),
    ]  # fmt: skip


def test_the_environments_differences_in_the_window_are_told() -> None:
    runs = [make_origin(number, facts={"torch": "2.4.0" if number < 12 else "2.5.0"}) for number in range(20)]
    plain = make_series(noisy(20))
    series = replace(plain, points=tuple(replace(point, run=run) for point, run in zip(plain.points, runs, strict=True)))
    (one,) = found([history(12, series=series)])
    assert [(each.key, each.a, each.b) for each in one.differences] == [("torch", "2.4.0", "2.5.0")]


@pytest.mark.parametrize(
    ("histories", "code"),
    [
        ([], 0),
        ([history(12)], 1),
        ([history(12, stands=False)], 0),
        ([history(12, direction="better")], 0),
        ([history(12, direction="small")], 0),
        ([history(12, direction="described")], 0),
        ([history(12, confirmed=False)], 3),
        ([history(12, confirmed=False, direction="better")], 0),
        ([history(12, confirmed=False), history(5, series=make_series(noisy(20), "ttft_s"))], 1),
    ],
)
def test_exit_codes(histories: list[History], code: int) -> None:
    assert exit_code(found(histories)) == code


def test_what_is_acknowledged_is_known_and_fails_nothing() -> None:
    (one,) = found([history(12)], mark())
    assert (one.state, one.changes[0].mark) == ("acknowledged", mark())
    assert exit_code([one]) == 0


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (mark(run_id="r010"), 0),  # later runs may move a change by two
        (mark(run_id="r009"), 1),
        (mark(run_id=None), 0),
        (mark(run_id="gone"), 1),
        (mark(metric="ttft_s"), 1),
        (mark(case_id="c1-other"), 1),
        (mark("muted", None, expires_at=NOW + timedelta(seconds=1)), 0),
        (mark("muted", None, expires_at=NOW), 1),
        (mark(expires_at=NOW - timedelta(days=1)), 1),
    ],
)
def test_marks_mean_the_nearest_change_of_their_series_until_they_expire(said: Mark, code: int) -> None:
    assert exit_code(found([history(12)], said)) == code


def test_an_acknowledgement_means_one_change_only() -> None:
    early, late = history(10), history(13)
    both = History(early.series, (), (*early.changes, *late.changes))
    states = {one.run.run_id: one.state for one in found([both], mark(run_id="r011"))}
    assert states == {"r010": "acknowledged", "r013": "worse"}


def test_the_newest_mark_counts() -> None:
    (one,) = found([history(12)], mark(), mark("muted", None, reason="noisy week"))
    assert one.state == "muted"


def test_findings_are_plain_data() -> None:
    (one,) = found([history(12)], mark())
    data = one.to_dict()
    assert (data["state"], data["run"], data["after"]["commit"], data["by"]["commit"]) == ("acknowledged", "r012", "c011", "c012")
    assert data["changes"][0]["ratio"] == pytest.approx(1.2)
    assert data["changes"][0]["mark"]["author"] == "Ada"
