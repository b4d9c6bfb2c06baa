"""Changes of level are found where they are, in any unit and either direction of time, and noise of many kinds has none."""

import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.change_points import change_points

BENCHMARK = Path(__file__).parent.parent / "benchmarks/change_points.py"
LABELLED = Path(__file__).parents[2] / "shared/data/changepoints"
JITTER = [0.3, -0.4, 0.1, 0.5, -0.2, -0.5, 0.2, 0.0, 0.4, -0.3, -0.1, 0.6]


def indices(values: list[float], least: int = 3) -> list[int]:
    return [change.index for change in change_points(values, least=least)]


def noise(seed: int, n: int) -> list[float]:
    return list(np.random.default_rng(seed).standard_normal(n))


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("change_points_benchmark", BENCHMARK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_step_is_found_with_the_levels_on_both_sides() -> None:
    (found,) = change_points([10 + jitter for jitter in JITTER] + [20 + jitter for jitter in JITTER])
    assert (found.index, found.before, found.after) == (12, pytest.approx(10.05), pytest.approx(20.05))
    assert found.p_value is not None
    assert 0 <= found.p_value < 1e-9


def test_several_steps_are_found_in_order() -> None:
    levels = [0, 5, 2, 9]
    values = [level + jitter for level in levels for jitter in JITTER]
    assert indices(values) == [12, 24, 36]


def test_a_level_that_came_and_went_is_two_changes() -> None:
    assert indices([*noise(1, 60), *(8 + value for value in noise(2, 8)), *noise(3, 60)]) == [60, 68]


@pytest.mark.parametrize("length", [10, 12, 25])
def test_levels_that_come_and_go_again_and_again_are_all_found(length: int) -> None:
    values = [level + 0.1 * jitter for level in (1.0, 2.0, 1.0, 2.0) for jitter in (JITTER * 3)[:length]]
    assert indices(values) == [length, 2 * length, 3 * length]


def test_exact_values_change_where_they_differ() -> None:
    assert indices([100.0] * 5 + [101.0] * 5) == [5]
    assert indices([100.0] * 30 + [101.0] * 4) == [30]
    assert indices([7.0] * 20 + [3.0] * 20 + [7.0] * 20) == [20, 40]


def test_short_series_have_no_changes() -> None:
    assert change_points([]) == []
    assert change_points([1.0]) == []
    assert change_points([1.0, 2.0], least=1) == []
    assert change_points([1.0, 2.0, 2.0, 1.0], least=1) == []
    assert change_points([1.0, 1.0, 1.0, 9.0, 9.0, 9.0]) == []
    assert change_points([1.0] * 4 + [9.0] * 5) == []


def test_spikes_are_no_levels() -> None:
    values = noise(4, 120)
    for place in (3, 40, 41, 90, 119):
        values[place] += 50
    assert indices(values) == []
    assert indices([1.0] * 50 + [90.0] + [1.0] * 50) == []
    assert indices([1.0] * 50 + [90.0, 90.0] + [1.0] * 50) == []


def test_a_step_among_spikes_is_found() -> None:
    values = [*noise(5, 50), *(4 + value for value in noise(6, 50))]
    for place in (10, 30, 70, 95):
        values[place] += 60
    assert [abs(index - 50) <= 1 for index in indices(values)] == [True]


def test_a_few_odd_values_among_equal_ones_are_no_level() -> None:
    values = [0.0] * 100
    for place in (20, 50, 51, 70):
        values[place] = 1.0
    assert indices(values) == []


def test_a_steady_drift_is_no_change_of_level() -> None:
    assert indices([0.1 * i for i in range(100)]) == []
    assert indices([0.1 * i + value for i, value in enumerate(noise(7, 100))]) == []


def test_a_step_on_top_of_a_drift_is_found() -> None:
    values = [0.02 * i + value + (10 if i >= 60 else 0) for i, value in enumerate(noise(8, 100))]
    assert indices(values) == [60]


def test_stretches_have_the_least_number_of_points() -> None:
    values = [*noise(9, 40), *(20 + value for value in noise(10, 5))]
    assert indices(values) == [40]
    assert all(index <= 37 for index in indices(values, least=8))


@given(st.floats(-1e6, 1e6), st.integers(2, 6))
def test_a_constant_series_has_no_changes(value: float, tens: int) -> None:
    assert change_points([value] * 10 * tens) == []


@settings(max_examples=12)
@given(st.integers(10, 60), st.integers(10, 60), st.sampled_from([-1, 1]), st.integers(0, 1000))
def test_a_clean_step_is_found_at_its_index(before: int, after: int, sign: int, seed: int) -> None:
    """Others may be found in the noise; how rarely is the false alarms' own test."""
    values = noise(seed, before + after)
    assert before in indices([*values[:before], *(value + sign * 100 for value in values[before:])])


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_units_do_not_matter(seed: int, scale: float, shift: float) -> None:
    values = [*noise(seed, 30), *(4 + value for value in noise(seed + 1, 20))]
    assert indices([scale * (value + shift) for value in values]) == indices(values)


@settings(max_examples=12)
@given(st.integers(0, 1000), st.integers(8, 40))
def test_backwards_and_upside_down_the_changes_are_mirrored(seed: int, place: int) -> None:
    values = [*noise(seed, place), *(6 + value for value in noise(seed + 1, 30))]
    found = indices(values)
    assert indices([-value for value in values]) == found
    assert indices(values[::-1]) == [len(values) - index for index in reversed(found)]


def test_shuffled_noise_rarely_has_changes() -> None:
    random = np.random.default_rng(11)
    values = np.exp(random.standard_normal(80))
    assert sum(bool(change_points(random.permutation(values))) for _ in range(100)) <= 3


def test_metrics_of_the_benchmark_agree_with_their_definitions(benchmark: ModuleType) -> None:
    """Worked by hand."""
    assert benchmark.covering([[5]], [5], 10) == 1
    assert benchmark.covering([[5]], [], 10) == 0.5
    assert benchmark.covering([[], [5]], [5], 10) == pytest.approx((0.5 + 1) / 2)
    assert benchmark.covering([[4]], [5], 10) == pytest.approx(0.4 * 4 / 5 + 0.6 * 5 / 6)
    assert benchmark.f1([[50]], []) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert benchmark.f1([[50]], [55]) == 1
    assert benchmark.f1([[50]], [56]) == 0.5
    assert benchmark.f1([[50], []], [50, 90]) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert benchmark.f1([[50, 52]], [51]) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))


def test_indices_that_one_found_change_could_match_are_matched_once(benchmark: ModuleType) -> None:
    assert benchmark.f1([[50], [53]], [51]) == 1
    assert benchmark.f1([[20]], [18, 21]) == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"),
    [("normal", 0.01), ("lognormal 0.5", 0.03), ("lognormal 1", 0.03), ("AR(0.3)", 0.02), ("AR(0.6)", 0.05), ("spiky", 0.03)],
)
def test_series_without_a_change_rarely_raise_an_alarm(benchmark: ModuleType, name: str, most: float) -> None:
    series = 300
    slack = 2 * math.sqrt(most * (1 - most) / series)
    assert benchmark.alarms(benchmark.NOISES[name], benchmark.told, series) <= most + slack


@pytest.mark.slow
def test_the_benchmark_prints_a_row_for_each_noise_and_step() -> None:
    command = [sys.executable, "-P", BENCHMARK, "--series", "2", "--online", "1", "--steps", "2", "--stores", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AR(0.") == 4
    assert done.stdout.count("standard deviations ") == 3


@pytest.mark.slow
def test_steps_of_three_standard_deviations_are_found_within_ten_runs(benchmark: ModuleType) -> None:
    random = np.random.default_rng(2)
    runs = [benchmark.runs_until_found(3.0, random) for _ in range(100)]
    assert sum(one <= 10 for one in runs) >= 91


@pytest.mark.slow
@pytest.mark.skipif(not LABELLED.is_dir(), reason="the labelled series do not stand next to this checkout")
def test_labelled_series_are_segmented_better_than_by_leaving_them_whole(benchmark: ModuleType) -> None:
    series = benchmark.labelled(LABELLED)

    def means(method: Callable[[list[float]], list[int]]) -> tuple[float, float]:
        rows = list(benchmark.scores(method, series).values())
        return sum(row[0] for row in rows) / len(rows), sum(row[1] for row in rows) / len(rows)

    assert len(series) == 13
    assert means(benchmark.nothing) == pytest.approx((0.531, 0.627), abs=0.001)
    covering, harmonic = means(benchmark.ours)
    assert covering >= 0.67
    assert harmonic >= 0.725
