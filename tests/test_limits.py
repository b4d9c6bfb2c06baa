"""Limits are read, applied and proven."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from results.errors import UsageError
from results.limits import LIMITABLE, Limit, Limits, bunching, parse_limits, proven, requests_needed
from results.metrics import METRICS
from tests.fakes import make_request


def test_the_text_is_read_in_base_units() -> None:
    limits = parse_limits(" ttft_s.p99 < 500ms and tpot_s<=.05s and decode_tps.p1>20 tok/s and e2e_s.p99.9<3e1")
    assert limits.terms == (
        Limit("ttft_s", "<", 0.5, 99),
        Limit("tpot_s", "<=", 0.05),
        Limit("decode_tps", ">", 20, 1),
        Limit("e2e_s", "<", 30, 99.9),
    )
    assert [term.share for term in limits.terms] == [0.99, None, 0.99, 0.999]
    assert limits.text == "ttft_s.p99<0.5 and tpot_s<=0.05 and decode_tps.p1>20 and e2e_s.p99.9<30"


def _terms() -> st.SearchStrategy[Limit]:
    bounds = st.floats(min_value=0, exclude_min=True, allow_infinity=False)

    def term(name: str, bound: float, equal: bool, thousandths: int | None) -> Limit:
        higher = METRICS[name].better == "higher"
        percentile = None if thousandths is None else (50_000 - thousandths if higher else 50_000 + thousandths) / 1000
        return Limit(name, (">" if higher else "<") + "=" * equal, bound, percentile)

    return st.builds(term, st.sampled_from(LIMITABLE), bounds, st.booleans(), st.none() | st.integers(0, 49_999))


@given(st.lists(_terms(), min_size=1, max_size=4, unique_by=lambda term: (term.metric, term.percentile)))
def test_the_canonical_text_means_the_same(terms: list[Limit]) -> None:
    limits = Limits(tuple(terms))
    assert parse_limits(limits.text) == limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "limits, character 1: '' is no limit: write for example ttft_s<0.5 or ttft_s.p99<500ms, joined by `and`."),
        ("ttft_s<0.5 and", "limits, character 15: '' is no limit"),
        ("ttft_s<0.5,tpot_s<1", "limits, character 1: 'ttft_s<0.5,tpot_s<1' is no limit"),
        ("tpot_s<1 and  ttft<0.5", "limits, character 15: 'ttft<0.5' names an unknown metric, did you mean 'ttft_s'?"),
        ("rss_bytes<5", "'rss_bytes<5' limits no time or rate of a request: choose from ttft_s, "),
        ("request_rate>5", "limits no time or rate of a request"),
        ("ttft_s>1", "'ttft_s>1' points the wrong way: lower is better for ttft_s."),
        ("decode_tps<1", "points the wrong way: higher is better for decode_tps."),
        ("ttft_s<5us", "has an unknown unit 'us': choose from s, ms."),
        ("decode_tps>5ms", "has an unknown unit 'ms': choose from tok/s."),
        ("ttft_s<0", "needs a positive number."),
        ("ttft_s<1e999", "needs a positive number."),
        ("ttft_s<1e9999999", "limits, character 1: 'ttft_s<1e9999999' needs a positive number."),
        ("ttft_s<1e99999999999999999999", "needs a positive number."),
        ("ttft_s<1e-99999999999999999999ms", "needs a positive number."),
        ("ttft_s<-1", "is no limit"),
        ("ttft_s.99<1", "has the unknown percentile '99': write for example ttft_s.p99."),
        ("ttft_s.p0<1", "has the unknown percentile 'p0'"),
        ("ttft_s.p100<1", "has the unknown percentile 'p100'"),
        ("decode_tps.p99>5", "'decode_tps.p99>5' lets most requests miss the bound: decode_tps.p1> asks it of most."),
        ("ttft_s.p1<5", "lets most requests miss the bound: ttft_s.p99< asks it of most."),
        ("ttft_s<1 and ttft_s<2", "limits, character 14: 'ttft_s<2' limits the same twice: remove one of the two."),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limits(text)
    assert message in str(caught.value)


def test_a_request_meets_all_limits_or_misses() -> None:
    limits = parse_limits("ttft_s.p99<0.5 and tpot_s<=0.0625 and decode_tps>=16")
    assert limits.met(make_request("a", ttft_s=0.25, tpot_s=0.0625))
    assert not limits.met(make_request("a", ttft_s=0.5, tpot_s=0.0625))
    assert not limits.met(make_request("a", ttft_s=0.25, tpot_s=0.125))
    assert not limits.met(make_request("a", ttft_s=0.25, tpot_s=0.0625, error="timeout: no end in 120 s"))


def test_the_largest_gap_counts() -> None:
    stalled = make_request("a", tokens=3, event_times_s=(1.0, 1.125, 2.125), last_content_s=2.125)
    assert parse_limits("itl_s<=1").met(stalled)
    assert not parse_limits("itl_s<1").met(stalled)


def test_an_answer_of_one_token_has_no_time_between_tokens_to_miss() -> None:
    one = make_request("a", tokens=1)
    assert parse_limits("tpot_s<0.001 and itl_s<0.001 and decode_tps>1000").met(one)
    assert not parse_limits("server_prefill_s<9").met(one)
    assert not parse_limits("tpot_s<9").met(make_request("a", tokens=1, first_content_s=None, last_content_s=None))


@pytest.mark.parametrize("limit", ["tpot_s.p99<0.05", "itl_s<0.05", "decode_tps>20"])
def test_many_tokens_in_one_event_are_no_way_to_keep_a_limit(limit: str) -> None:
    held_back = make_request(
        "a", first_content_s=60.0, last_content_s=60.0, event_times_s=(60.0,), event_tokens=(64,), output_tokens=64
    )
    assert not parse_limits(limit).met(held_back)


def test_what_was_not_measured_proves_nothing() -> None:
    uncounted = make_request("a", output_tokens=None)
    assert not parse_limits("tpot_s<9").met(uncounted)
    assert not parse_limits("ttft_s<9").met(make_request("a", first_content_s=None, last_content_s=None))


def test_the_fewest_requests_of_a_proof() -> None:
    assert requests_needed(0.99, 0.95) == 299
    assert requests_needed(0.99, 0.99) == 459
    assert [requests_needed(0.9, 0.95, misses) for misses in range(3)] == [29, 46, 61]
    with pytest.raises(ValueError, match="no count proves a share of 1"):
        requests_needed(1, 0.95)


@given(st.sampled_from((0.5, 0.9, 0.95, 0.99)), st.integers(0, 5), st.sampled_from((0.8, 0.95, 0.99)))
def test_one_request_less_is_not_enough(share: float, misses: int, confidence: float) -> None:
    """The exact binomial tail says the same."""
    count = requests_needed(share, confidence, misses)
    assert binom.cdf(misses, count, 1 - share) <= 1 - confidence < binom.cdf(misses, count - 1, 1 - share)


def test_verdicts() -> None:
    assert proven(0.99, 299, 299, 0.95) == "holds"
    assert proven(0.99, 298, 298, 0.95) == "open"
    assert proven(0.99, 298, 299, 0.95) == "open"
    assert proven(0.99, 626, 628, 0.95) == "holds"
    assert proven(0.99, 616, 628, 0.95) == "fails"
    assert proven(0.99, 617, 628, 0.95) == "open"
    assert proven(0.99, 0, 1, 0.95) == "fails"
    assert proven(0.99, 0, 0, 0.95) == "open"


@given(st.integers(0, 400), st.integers(1, 400), st.sampled_from((0.5, 0.9, 0.99)))
def test_more_that_met_never_makes_it_worse(met: int, missed: int, share: float) -> None:
    ranks = ("fails", "open", "holds")
    total = met + missed
    assert ranks.index(proven(share, met + 1, total, 0.95)) >= ranks.index(proven(share, met, total, 0.95))


def test_requests_that_come_singly_count_fully() -> None:
    noise = random.Random(3)
    assert bunching([noise.random() for _ in range(2000)], 0.99) == pytest.approx(1.0, abs=0.5)
    assert bunching([1.0] * 50, 0.99) == 1.0
    assert bunching([], 0.99) == 1.0


def test_bursts_count_as_one() -> None:
    """Runs of ten that share their fate: the correlation falls linearly over ten requests, so that its sum is ten."""
    noise = random.Random(3)
    runs = [value for value in (noise.random() for _ in range(2000)) for _ in range(10)]
    assert bunching(runs, 0.99) == pytest.approx(10, rel=0.15)
    assert bunching(runs, 0.5) == pytest.approx(10, rel=0.15)


def test_only_the_worst_requests_matter() -> None:
    """One run of ten in ten is slow, all of it; the other requests differ singly."""
    noise = random.Random(3)
    excesses = [noise.random() + 10 * slow for slow in (noise.random() < 0.1 for _ in range(2000)) for _ in range(10)]
    assert bunching(excesses, 0.99) > 5
    assert bunching(excesses, 0.5) < 5
    noise.shuffle(excesses)
    assert bunching(excesses, 0.99) < 1.5
