"""The statistics agree with SciPy's own tests, and their edges are finite and exact."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from results.stats import (
    Estimate,
    alpha_per_look,
    blocked,
    changed_answers_p,
    estimate,
    exp,
    false_discovery_adjusted,
    paired,
    t_interval,
    welch,
)

A = [0.10, 0.12, -0.03, 0.07, 0.01]
B = [0.25, 0.21, 0.11, 0.32]
numbers = st.floats(min_value=-50, max_value=50)
sides = st.lists(numbers, min_size=2, max_size=8)


def test_no_values_give_no_estimate() -> None:
    assert estimate([]) is None
    assert estimate([[], []]) is None


def test_one_value_has_no_interval() -> None:
    assert estimate([[3.0]]) == Estimate(3.0, None, None, 1, "requests")


def test_one_process_gives_the_quartiles_of_its_requests() -> None:
    assert estimate([[4.0, 1.0, 3.0, 2.0, 5.0], []]) == Estimate(3.0, 2.0, 4.0, 5, "requests")


def test_processes_are_the_unit_and_not_their_requests() -> None:
    found = estimate([[1.0, 2.0, 100.0], [2.0] * 50, [4.0]])
    assert found is not None
    assert (found.value, found.n, found.basis) == (2.0, 3, "processes")
    low, high = reference.t.interval(0.95, 2, loc=math.log(16) / 3, scale=reference.sem([math.log(2), math.log(2), math.log(4)]))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_t_interval_of_values_that_are_not_all_positive_is_linear() -> None:
    assert t_interval([-1.0, 1.0]) == pytest.approx((-12.7062, 12.7062), abs=1e-4)


def test_extreme_spread_stays_finite() -> None:
    low, high = t_interval([1e-300, 1e300])
    assert low == 0
    assert math.isfinite(high)
    assert exp(1e9) < math.inf


def test_welch_agrees_with_scipy() -> None:
    found = welch(A, B)
    test = reference.ttest_ind(B, A, equal_var=False)
    expected, wider = test.confidence_interval(0.95), test.confidence_interval(0.99)
    assert found.value == pytest.approx(statistics.fmean(B) - statistics.fmean(A))
    assert (found.low, found.high, found.p_value) == pytest.approx((expected.low, expected.high, test.pvalue))
    assert (welch(A, B, 0.99).low, welch(A, B, 0.99).high) == pytest.approx((wider.low, wider.high))
    assert (welch(A, B, 0.99).detectable or 0) > (found.detectable or 0)


def test_paired_agrees_with_scipy() -> None:
    found = paired(A)
    expected = reference.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_detectable_shift_has_80_percent_power(n: int) -> None:
    values = [(-1.0) ** k * 0.02 for k in range(2 * n)]
    found = welch(values[:n], values[n:])
    error = math.sqrt(2 * statistics.variance(values[:n]) / n)
    assert found.detectable is not None
    power = reference.nct.sf(reference.t.ppf(0.975, 2 * n - 2), 2 * n - 2, found.detectable / error)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_more_processes_detect_less() -> None:
    detectable = [welch(A * k, B * k).detectable or 0 for k in (1, 2, 4)]
    assert detectable[0] > detectable[1] > detectable[2] > 0


def test_constant_sides_have_an_interval_without_width() -> None:
    same, other = welch([2.0] * 3, [2.0] * 5), welch([2.0] * 3, [3.0] * 3)
    assert (same.value, same.low, same.high, same.detectable) == (0, 0, 0, 0)
    assert (other.value, other.low, other.high, other.detectable) == (1, 1, 1, 0)
    assert paired([0.5, 0.5]).low == 0.5


def test_one_constant_side_leaves_the_other_one_s_doubt() -> None:
    found = welch([0.0] * 4, B)
    expected = reference.ttest_1samp(B, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0], [2.0, 2.1, 2.2]), ([1.0, 1.1], [2.0])])
def test_one_process_on_a_side_gives_no_interval(a: list[float], b: list[float]) -> None:
    found = welch(a, b)
    assert found.value == pytest.approx(statistics.fmean(b) - 1, abs=0.06)
    assert (found.low, found.high, found.detectable) == (None, None, None)


@given(sides, sides)
def test_swapped_sides_turn_the_shift_round(a: list[float], b: list[float]) -> None:
    there, back = welch(a, b), welch(b, a)
    assert there.low is not None and there.high is not None and there.detectable is not None
    assert back.low is not None and back.high is not None
    assert there.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), rel=1e-9, abs=1e-12)
    assert there.low <= there.value <= there.high
    assert all(map(math.isfinite, (there.low, there.high, there.detectable)))


def test_blocks_are_paired_where_they_correlate() -> None:
    before, after = [1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 2.6, 3.4, 4.5, 5.6]
    expected = reference.ttest_rel(after, before)
    found = blocked(before, after)
    assert (found.p_value, found.low) == pytest.approx((expected.pvalue, expected.confidence_interval(0.95).low))
    assert found.low is not None and found.low > 0.4


@pytest.mark.parametrize("after", [[3.0, 1.0, 5.0, 2.0, 4.0], [5.0, 4.0, 3.0, 2.0, 1.0], [2.0] * 5])
def test_blocks_without_a_common_cause_are_compared_by_welch(after: list[float]) -> None:
    before = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert blocked(before, after) == welch(before, after)
    assert blocked(before[:2], after[:2]) == welch(before[:2], after[:2])


@pytest.mark.parametrize(("looks", "alpha"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158)])
def test_alpha_per_look_is_pococks(looks: int, alpha: float) -> None:
    """Pocock, Biometrika 64 (1977), table 1: equally spaced looks that together err with 5 %."""
    assert alpha_per_look(tuple(range(1, looks + 1)), 0.05) == pytest.approx(alpha, abs=5e-5)


def test_alpha_per_look_agrees_with_the_normal_distribution_of_two_looks() -> None:
    each = alpha_per_look((3, 12), 0.05)
    bound = reference.norm.isf(each / 2)
    both = reference.multivariate_normal(cov=[[1, 0.5], [0.5, 1]])
    inside = both.cdf([bound, bound], lower_limit=[-bound, -bound])
    assert 1 - inside == pytest.approx(0.05, abs=1e-5)
    assert alpha_per_look((7,), 0.05) == 0.05
    assert alpha_per_look((3, 12), 0.05) == pytest.approx(alpha_per_look((1, 4), 0.05))


def test_false_discovery_control_is_benjamini_and_hochbergs() -> None:
    assert false_discovery_adjusted([]) == []
    assert false_discovery_adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_changed_answers_are_tested_exactly() -> None:
    assert changed_answers_p([1, 1, 1, 0, 1, 0.0], [0, 0, 0, 0, 1, 1.0]) == pytest.approx(0.625)  # 3 lost, 1 won
    assert changed_answers_p([1.0, 0.0], [1.0, 0.0]) is None
    assert changed_answers_p([0.5, 0.0], [1.0, 0.0]) is None
