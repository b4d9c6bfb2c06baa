"""Schedules are what they say; the test of arrivals lets right clients pass and finds the faults that real clients have had."""

import itertools
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.arrivals import arrival_test, deal, schedule
from results.cases import Load

pytestmark = pytest.mark.slow

CONSTANT = Load(arrivals="constant", rate=50)
POISSON = Load(arrivals="poisson", rate=200)
BURSTY = Load(arrivals="gamma", rate=50, burstiness=0.25)
STEADY = Load(arrivals="gamma", rate=50, burstiness=4)
TRACE = Load(arrivals="trace", trace="t1-00")
RANDOM = [POISSON, BURSTY, STEADY]
LOADS = [CONSTANT, *RANDOM]


def label(load: Load) -> str:
    return load.label


def late(offsets: Sequence[float], mean_s: float = 0.0003, seed: int = 5) -> list[float]:
    """What a client sends whose timers wake it up a little late."""
    generator = random.Random(seed)
    return [offset + generator.expovariate(1 / mean_s) for offset in offsets]


def gaps(offsets: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(offsets)]


def test_constant_is_evenly_spaced_to_the_last_bit() -> None:
    assert schedule(Load(arrivals="constant", rate=4), 5, seed=1) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert schedule(CONSTANT, 1000, seed=1) == tuple(number / 50 for number in range(1000))


@pytest.mark.parametrize(("load", "shape"), [(POISSON, 1), (BURSTY, 0.25), (STEADY, 4)])
def test_gaps_have_the_distribution_and_the_mean_that_were_asked_for(load: Load, shape: float) -> None:
    drawn = gaps((0.0, *schedule(load, 5000, seed=3)))
    assert stats.kstest(drawn, stats.gamma(shape, scale=1 / (shape * (load.rate or 0))).cdf).pvalue > 0.001


@pytest.mark.parametrize("load", RANDOM, ids=label)
def test_a_schedule_is_its_seed(load: Load) -> None:
    assert schedule(load, 50, seed=1) == schedule(load, 50, seed=1)
    assert schedule(load, 50, seed=1)[:20] == schedule(load, 20, seed=1)
    assert not set(schedule(load, 50, seed=1)) & set(schedule(load, 50, seed=2))
    assert schedule(load, 0, seed=1) == ()


@pytest.mark.parametrize(
    "load",
    [
        Load(arrivals="closed", concurrency=2),
        TRACE,
        Load(arrivals="poisson"),
        Load(arrivals="constant", rate=0),
        Load(arrivals="gamma", rate=1),
        Load(arrivals="gamma", rate=1, burstiness=0),
    ],
)
def test_what_draws_no_schedule_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match=r"draw no schedule|need a positive"):
        schedule(load, 3, seed=1)


@given(st.integers(0, 200), st.integers(1, 9))
def test_dealt_streams_are_disjoint_ordered_and_together_the_schedule(count: int, clients: int) -> None:
    dealt = deal(schedule(POISSON, count, seed=1), clients)
    assert len(dealt) == clients
    assert sorted(itertools.chain(*dealt)) == list(range(count))
    assert all(stream == sorted(stream) for stream in dealt)
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_no_clients_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one client"):
        deal((0.0,), 0)


@pytest.mark.parametrize("load", LOADS, ids=label)
def test_a_right_client_is_called_right(load: Load) -> None:
    wrong = []
    for seed in range(20):
        planned = schedule(load, 300, seed)
        found = arrival_test(load, planned, late(planned, seed=seed))
        assert found.dispersion and found.cv and found.windows > 20
        wrong += [] if found.ok else [(seed, found.why)]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, 600])
@pytest.mark.parametrize("load", LOADS, ids=label)
def test_false_alarms_are_rare(load: Load, count: int) -> None:
    made = [schedule(load, count, seed) for seed in range(150)]
    wrong = [found.why for planned in made if not (found := arrival_test(load, planned, late(planned))).ok]
    assert len(wrong) <= 2, wrong  # three of 150 have a chance of 1 in 2,000 where 1 in 1,000 is wrong


@pytest.mark.parametrize("load", LOADS, ids=label)
def test_the_figures_are_those_of_the_process(load: Load) -> None:
    planned = schedule(load, 5000, seed=2)
    found = arrival_test(load, planned, planned)
    assert found.rate and found.ratio and found.dispersion and found.cv
    assert found.rate.value == pytest.approx(4999 / (planned[-1] - planned[0]))
    assert found.ratio.value == 1
    variation = {"constant": 0.0, "poisson": 1.0}.get(load.arrivals) if load.burstiness is None else load.burstiness**-0.5
    assert found.cv.value == pytest.approx(variation, abs=0.08)
    assert found.cv.value == pytest.approx(statistics.stdev(gaps(planned)) / statistics.fmean(gaps(planned)))
    if load is CONSTANT:
        assert found.dispersion.value == 0
        assert found.lag1 is None
    else:
        assert found.lag1
        assert found.lag1.value == pytest.approx(stats.pearsonr(gaps(planned)[:-1], gaps(planned)[1:]).statistic)
    if load is POISSON:
        low, high = stats.chi2.ppf((0.0001, 0.9999), found.windows - 1) / (found.windows - 1)
        assert (found.dispersion.low, found.dispersion.high) == pytest.approx((low, high))
        assert found.windows == pytest.approx(1000, rel=0.05)


def test_values_go_by_metric_names() -> None:
    planned = schedule(POISSON, 500, seed=2)
    found = arrival_test(POISSON, planned, planned)
    assert found.rate and found.dispersion and found.lag1
    assert found.values() == {
        "arrival_rate": found.rate.value,
        "arrival_dispersion": found.dispersion.value,
        "arrival_lag1": found.lag1.value,
        "arrivals_ok": 1.0,
    }
    assert found.why.endswith("are as promised")


def test_lags_are_told_and_judged() -> None:
    planned = schedule(POISSON, 200, seed=2)
    found = arrival_test(POISSON, planned, [due + (0.04 if number % 50 else 0.045) for number, due in enumerate(planned)])
    assert found.lag_mean_s == pytest.approx(0.0401)
    assert found.lag_p99_s
    assert found.lag_p99_s.value == pytest.approx(0.045)
    assert found.ok, found.why
    delayed = arrival_test(POISSON, planned, [due + 2 for due in planned])
    assert delayed.why.startswith("99th percentile of lags 2 is outside")


def test_workers_with_one_seed_are_found() -> None:
    one = schedule(Load(arrivals="poisson", rate=20), 200, seed=1)
    merged = sorted(late(one * 10, mean_s=0.01))
    found = arrival_test(POISSON, merged, merged)
    assert found.dispersion
    assert 5 < found.dispersion.value < 9
    assert not found.ok
    assert found.why.startswith("dispersion of counts")
    assert found.values()["arrivals_ok"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_exponentials_where_constant_was_promised_are_found(seed: int) -> None:
    planned = schedule(Load(arrivals="poisson", rate=50), 300, seed)
    found = arrival_test(CONSTANT, planned, planned)
    assert found.cv and found.dispersion
    assert found.cv.value == pytest.approx(1, abs=0.25)
    assert not found.cv.ok
    assert not found.dispersion.ok
    assert not found.ok


@pytest.mark.parametrize("load", RANDOM, ids=label)
def test_even_gaps_where_random_ones_were_promised_are_found(load: Load) -> None:
    planned = schedule(Load(arrivals="constant", rate=load.rate), 300, seed=1)
    assert not arrival_test(load, planned, planned).ok


@pytest.mark.parametrize("load", LOADS, ids=label)
def test_skipped_arrivals_are_found(load: Load) -> None:
    planned = schedule(load, 300, seed=1)
    found = arrival_test(load, planned, [None if number in (7, 8) else due for number, due in enumerate(planned)])
    assert not found.ok
    assert found.why == "2 scheduled requests were never sent"
    assert found.unsent == 2
    assert found.rate


@pytest.mark.parametrize("load", LOADS, ids=label)
def test_a_client_that_catches_up_in_bursts_is_found(load: Load) -> None:
    """One tenth of the time it does something else, and then sends all at once."""
    planned = schedule(load, 1500, seed=1)
    cycle = 100 / (load.rate or 0)
    sent = [due if due % cycle > cycle / 10 else due - due % cycle + cycle / 10 for due in planned]
    assert not arrival_test(load, planned, sent).ok


@pytest.mark.parametrize("load", LOADS, ids=label)
def test_a_client_three_percent_slow_is_found(load: Load) -> None:
    planned = schedule(load, 1000, seed=1)
    found = arrival_test(load, planned, [due * 1.03 for due in planned])
    assert found.ratio
    assert found.ratio.value == pytest.approx(1 / 1.03)
    assert found.why.startswith("achieved / scheduled rate")


def test_a_schedule_of_another_rate_is_found() -> None:
    planned = schedule(Load(arrivals="poisson", rate=150), 1000, seed=1)
    found = arrival_test(POISSON, planned, planned)
    assert found.ratio and found.rate
    assert found.ratio.ok
    assert not found.rate.ok


def replayed() -> list[float]:
    """Arrivals as a log has them: rounded, several at a time, with quiet stretches."""
    generator, times = random.Random(3), [0.0]
    for _ in range(400):
        times.append(times[-1] + generator.choice((0, 0, 0, 1, 3)) / 10)
    return times


def test_a_trace_is_compared_with_itself() -> None:
    found = arrival_test(TRACE, replayed(), late(replayed()))
    assert found.ok, found.why
    assert found.dispersion
    assert found.dispersion.value > 1.5
    assert found.lag1


def test_a_trace_that_is_smoothed_or_bunched_is_found() -> None:
    planned = replayed()
    even = [number * planned[-1] / (len(planned) - 1) for number in range(len(planned))]
    assert not arrival_test(TRACE, planned, even).ok
    assert not arrival_test(TRACE, planned, [due - due % 4 for due in planned]).ok


@pytest.mark.parametrize("count", [2, 10, 29])
def test_too_few_arrivals_are_not_judged_by_their_pattern(count: int) -> None:
    planned = schedule(POISSON, count, seed=1)
    found = arrival_test(POISSON, planned, planned)
    assert (found.dispersion, found.lag1, found.cv, found.windows < 10) == (None, None, None, True)
    assert found.values().keys() == {"arrival_rate", "arrivals_ok"}
    assert found.ok


@pytest.mark.parametrize("sent", [[], [0.0], [None, None], [0.5, 0.5]])
def test_without_a_rate_nothing_passes(sent: list[float | None]) -> None:
    found = arrival_test(CONSTANT, [number / 50 for number in range(len(sent))], sent)
    assert found.values() == {"arrivals_ok": 0.0}
    assert found.why


def test_closed_loops_and_unpaired_times_are_refused() -> None:
    with pytest.raises(ValueError, match="no schedule"):
        arrival_test(Load(arrivals="closed", concurrency=2), [0.0], [0.0])
    with pytest.raises(ValueError, match="zip"):
        arrival_test(POISSON, [0.0, 1.0], [0.0])
