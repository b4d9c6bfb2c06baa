"""A run is suspected where Student's prediction interval, all that was seen and the margin agree, and never on less."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from results.fast_rule import CLEARANCE, CONFIDENCE, LEAST, Suspicion, suspected

STABLE = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 10.1, 9.9]
numbers = st.integers(-1000, 1000).map(float)


def test_the_expected_lies_in_students_prediction_interval() -> None:
    found = suspected(STABLE, 12.0, margin=0)
    assert found is not None
    spread = reference.tstd(STABLE)
    half = reference.t.ppf((1 + CONFIDENCE) / 2, 7) * spread * math.sqrt(1 + 1 / 8)
    assert (found.effect, found.low, found.high) == pytest.approx((2.0, 10 - half, 10 + half))
    assert suspected(STABLE, 10 + half * 1.001, margin=0) is not None
    assert suspected(STABLE, 10 + half * 0.999, margin=0) is None


def test_both_directions_are_suspected() -> None:
    below = suspected(STABLE, 8.0, margin=0)
    assert below is not None
    assert below.effect == pytest.approx(-2.0)


def test_an_effect_below_the_margin_is_not_suspected() -> None:
    assert suspected(STABLE, 12.0, margin=2.1) is None
    assert suspected(STABLE, 12.0, margin=1.9) is not None


def test_a_run_like_one_that_was_seen_is_not_suspected() -> None:
    """Beside a hundred quiet runs one was odd: the interval forgets it, the rule does not."""
    quiet = [0.1 * (i % 5) for i in range(100)]
    assert suspected(quiet, 5.1, margin=0) is not None
    seen = [*quiet, 5.0]
    clear = 5.0 + CLEARANCE * reference.tstd(seen)
    assert suspected(seen, 5.1, margin=0) is None
    assert suspected(seen, clear - 0.01, margin=0) is None
    assert suspected(seen, clear + 0.01, margin=0) is not None


def test_a_constant_stretch_is_left_by_any_other_value_as_far_as_the_margin() -> None:
    constant = [3.0] * LEAST
    assert suspected(constant, 3.0, margin=0) is None
    assert suspected(constant, 3.01, margin=0.02) is None
    assert suspected(constant, 3.5, margin=0.02) == Suspicion(0.5, 3.0, 3.0)


def test_too_few_runs_raise_no_suspicion() -> None:
    assert suspected(STABLE[:-1], 1000.0, margin=0) is None
    assert suspected(STABLE[:3], 1000.0, margin=0, least=3) is not None
    assert suspected([1.0], 1000.0, margin=0, least=0) is None
    assert suspected([], 1000.0, margin=0, least=0) is None


@given(st.lists(numbers, min_size=LEAST, max_size=20), numbers, st.sampled_from([0.25, 0.5, 2.0, 1024.0]), numbers)
def test_units_do_not_matter(segment: list[float], new: float, scale: float, shift: float) -> None:
    found = suspected(segment, new, margin=10.0)
    moved = suspected([scale * value + shift for value in segment], scale * new + shift, margin=scale * 10.0)
    assert (found is None) == (moved is None)
    if found and moved:
        assert moved.effect == pytest.approx(scale * found.effect)


@given(st.lists(numbers, min_size=LEAST, max_size=20), numbers)
def test_upside_down_the_suspicion_is_mirrored(segment: list[float], new: float) -> None:
    found = suspected(segment, new, margin=0)
    mirrored = suspected([-value for value in segment], -new, margin=0)
    assert (found is None) == (mirrored is None)
    if found and mirrored:
        assert (-mirrored.effect, -mirrored.high, -mirrored.low) == pytest.approx((found.effect, found.low, found.high))
