"""The changes of single series: each rule, directions, windows, what stands, failures and slow drift."""

import math
import random

import pytest
from history_fakes import make_series, noisy
from hypothesis import assume, given
from hypothesis import strategies as st

from results.history import Change, MetricSeries
from results.history_changes import history_of

METRIC_NAMES = ("tpot_s", "goodput_rps", "error_share", "quality", "weights_bytes", "itl_s")


def only(series: MetricSeries) -> Change:
    (change,) = history_of(series).changes
    return change


def test_a_step_is_found_where_it_is() -> None:
    values = noisy(12) + noisy(8, 0.06, seed=2)
    change = only(make_series(values))
    assert (change.found_by, change.direction, change.confirmed, change.stands) == ("step", "worse", True, True)
    assert (change.after_run.run_id, change.run.run_id, change.by_run.run_id) == ("r011", "r012", "r012")
    assert change.ratio == pytest.approx(1.2, rel=0.02)


def test_levels_are_medians_in_the_metrics_unit() -> None:
    history = history_of(make_series([0.050, 0.051, 0.049, 0.050, 0.052, 0.050, 0.070, 0.071, 0.069, 0.070, 0.072, 0.070]))
    assert [(one.start, one.end, one.level) for one in history.stretches] == [(0, 6, 0.050), (6, 12, 0.070)]


def test_a_higher_throughput_is_better_and_a_lower_one_worse() -> None:
    up = noisy(12, 10.0) + noisy(8, 12.0, seed=2)
    assert only(make_series(up, "goodput_rps")).direction == "better"
    assert only(make_series(up[::-1], "goodput_rps")).direction == "worse"
    assert only(make_series(up)).direction == "worse"


def test_a_step_within_the_margin_is_small() -> None:
    values = noisy(20, spread=0.002) + noisy(20, 0.0515, 0.002, seed=2)
    assert only(make_series(values)).direction == "small"


def test_a_metric_without_a_margin_is_described() -> None:
    change = only(make_series(noisy(12) + noisy(8, 0.06, seed=2), "itl_s"))
    assert change.direction == "described"


def test_shares_change_in_points_and_none_is_a_share() -> None:
    change = only(make_series([0.0] * 10 + [0.04] * 10, "error_share"))
    assert (change.before, change.after, change.direction) == (0.0, 0.04, "worse")
    assert change.effect == pytest.approx(0.04)


def test_a_goodput_of_which_nothing_is_left_is_worse() -> None:
    change = only(make_series(noisy(12, 10.0) + [0.0] * 8, "goodput_rps"))
    assert (change.direction, change.after, change.ratio) == ("worse", 0.0, 0.0)
    change = only(make_series([0.0] * 8 + noisy(12, 10.0), "goodput_rps"))
    assert (change.direction, change.before, change.ratio) == ("better", 0.0, None)


def test_exact_metrics_change_by_the_least_difference_at_once() -> None:
    change = only(make_series([1000.0] * 3 + [1001.0], "weights_bytes"))
    assert (change.found_by, change.direction, change.run.run_id, change.confirmed) == ("exact", "worse", "r003", True)
    assert history_of(make_series([1000.0] * 3, "weights_bytes")).changes == ()
    assert history_of(make_series([1000.0, 1000.0 * (1 + 1e-15)], "weights_bytes")).changes == ()
    assert only(make_series([1e11, 1e11 + 1], "weights_bytes")).direction == "worse"


def test_the_newest_run_alone_is_a_suspicion_and_the_next_one_confirms_it() -> None:
    before = noisy(12)
    waiting, confirmed = only(make_series([*before, 0.06])), only(make_series([*before, 0.06, 0.0601]))
    assert (waiting.found_by, waiting.confirmed, waiting.direction) == ("newest runs", False, "worse")
    assert confirmed.confirmed
    assert (waiting.run.run_id, confirmed.run.run_id) == ("r012", "r012")
    assert history_of(make_series([*before, 0.06, 0.0501])).changes == ()


def test_two_runs_out_on_different_sides_confirm_nothing() -> None:
    found = history_of(make_series([*noisy(12), 0.06, 0.04])).changes
    assert [(one.run.run_id, one.confirmed) for one in found] == [("r013", False)] or not found


def test_what_was_recovered_from_stands_no_more() -> None:
    values = noisy(12) + noisy(8, 0.06, seed=2) + noisy(8, seed=3)
    worse, better = history_of(make_series(values)).changes
    assert (worse.direction, worse.stands) == ("worse", False)
    assert better.direction == "better"


def test_what_came_back_by_half_a_margin_is_recovered() -> None:
    for level, stands in ((0.056, True), (0.052, True), (0.0511, False)):
        values = [*noisy(12, spread=0.002), *noisy(12, 0.06, 0.002, seed=2), *noisy(12, level, 0.002, seed=3)]
        worse = history_of(make_series(values)).changes[0]
        assert (worse.direction, worse.stands) == ("worse", stands), level


def test_what_was_recovered_from_does_not_stand_again_when_another_change_follows() -> None:
    values = [one for seed, level in enumerate((0.05, 0.06, 0.05, 0.06)) for one in noisy(25, level, 0.002, seed=seed)]
    first, _, second = history_of(make_series(values)).changes
    assert (first.stands, second.stands) == (False, True)


def test_failing_runs_are_no_points_and_the_second_one_confirms() -> None:
    series = make_series([*noisy(8), "oom"])
    change = only(series)
    assert len(series.points) == 8
    assert (change.found_by, change.after, change.direction, change.confirmed) == ("failures", None, "worse", False)
    change = only(make_series([*noisy(8), "oom", "oom"]))
    assert (change.run.run_id, change.after_run.run_id, change.confirmed) == ("r008", "r007", True)


def test_failures_that_passed_or_that_the_machine_caused_change_nothing() -> None:
    assert history_of(make_series([*noisy(4), "oom", *noisy(4, seed=2)])).changes == ()
    assert history_of(make_series([*noisy(8), "missing_weights", "unsupported"])).changes == ()


def test_short_series_say_how_many_runs_they_need() -> None:
    needed = [history_of(make_series([0.05] * count)).needed for count in (1, 2, 20)]
    assert needed[0] == needed[1] + 1 > 1
    assert needed[2] == 0
    assert history_of(make_series([1000.0, 1000.0], "weights_bytes")).needed == 0


def test_a_series_of_one_value_never_changes() -> None:
    for metric in ("tpot_s", "quality", "error_share", "goodput_rps"):
        for value in (0.0, 0.5):
            assert history_of(make_series([value] * 30, metric)).changes == ()


@pytest.mark.slow
def test_a_slow_drift_that_no_step_shows_is_found_against_the_release() -> None:
    found = silent = 0
    for seed in range(100):
        series = make_series(noisy(60, spread=0.02, seed=seed, drift=0.002), release=(0, 1, 2))
        changes = [one for one in history_of(series).changes if one.direction == "worse" and one.stands]
        found += bool(changes)
        without = history_of(make_series(noisy(60, spread=0.02, seed=seed, drift=0.002)))
        silent += not any(one.direction == "worse" and one.stands for one in without.changes)
    assert found >= 95
    assert silent > 0, "the guard adds nothing here"


@pytest.mark.slow
def test_the_drift_guard_seldom_cries_over_noise() -> None:
    drifts = 0
    for seed in range(300):
        history = history_of(make_series(noisy(40, spread=0.02, seed=1000 + seed), release=(0, 1, 2)))
        assert history.guarded
        drifts += any(one.found_by == "drift" for one in history.changes)
    assert drifts <= 6


def test_a_step_since_the_release_is_told_once() -> None:
    series = make_series(noisy(12) + noisy(8, 0.06, seed=2), release=(0, 1, 2))
    assert [one.found_by for one in history_of(series).changes] == ["step"]


def test_small_steps_that_add_up_are_a_drift() -> None:
    values = [value for step in range(4) for value in noisy(12, 0.05 * 1.03**step, 0.002, seed=step)]
    history = history_of(make_series(values, release=(0, 1, 2)))
    drift = history.changes[-1]
    assert {one.direction for one in history.changes[:-1]} == {"small"}
    assert (drift.found_by, drift.direction, drift.after_run.run_id, drift.run.run_id) == ("drift", "worse", "r002", "r036")
    assert drift.ratio == pytest.approx(1.03**3, rel=0.01)


def test_a_drift_within_the_margin_is_none() -> None:
    values = [value for step in range(2) for value in noisy(12, 0.05 * 1.02**step, 0.002, seed=step)]
    history = history_of(make_series(values, release=(0, 1, 2)))
    assert history.guarded
    assert {one.direction for one in history.changes} <= {"small"}


def test_a_lucky_release_proves_nothing_where_runs_spread_widely() -> None:
    history = history_of(make_series([0.045, *noisy(30, spread=0.1)], release=(0,)))
    assert history.guarded
    assert not [one for one in history.changes if one.found_by == "drift"]


def test_the_release_guards_only_where_it_was_measured() -> None:
    assert not history_of(make_series(noisy(20))).guarded
    assert not history_of(make_series(noisy(20), release=(19,))).guarded


@pytest.mark.slow
def test_the_window_of_a_change_holds_the_true_place() -> None:
    within = total = 0
    noise = random.Random(5)
    for seed in range(200):
        place = noise.randrange(8, 22)
        values = noisy(place, spread=0.03, seed=seed) + noisy(30 - place, 0.055, 0.03, seed=1000 + seed)
        for one in history_of(make_series(values)).changes:
            if one.found_by == "step" and one.direction == "worse":
                total += 1
                within += one.after_run.run_id < f"r{place:03}" <= one.by_run.run_id
    assert total > 150
    assert within >= 0.93 * total


def test_an_effect_is_on_the_scale_of_logarithms() -> None:
    change = only(make_series([0.05] * 10 + [0.06] * 10))
    assert change.effect == pytest.approx(math.log(1.2))


@given(
    st.lists(st.one_of(st.floats(1e-6, 1e3), st.just(0.05), st.just("oom")), min_size=1, max_size=40),
    st.sampled_from(METRIC_NAMES),
)
def test_stretches_hold_every_run_once_and_changes_lie_within_their_windows(values: list[float | str], metric: str) -> None:
    assume(any(not isinstance(value, str) for value in values))
    history = history_of(make_series(values, metric))
    assert [place for one in history.stretches for place in range(one.start, one.end)] == list(range(len(history.series.points)))
    for one in history.changes:
        assert one.after_run.at < one.run.at <= one.by_run.at
        assert one.direction != "described" or metric == "itl_s"


@given(st.lists(st.floats(1e-3, 1e3), min_size=10, max_size=40))
def test_the_unit_of_a_time_changes_nothing(values: list[float]) -> None:
    seconds, halves = (history_of(make_series([factor * value for value in values])) for factor in (1, 0.5))
    assert [(one.start, one.end) for one in seconds.stretches] == [(one.start, one.end) for one in halves.stretches]
    assert [one.direction for one in seconds.changes] == [one.direction for one in halves.changes]
