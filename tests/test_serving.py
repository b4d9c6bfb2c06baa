"""Serving sweeps against simulated servers: what they measure, when they end and what they say."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.serving import R20, Count, Reached, Serving, next_loads, processes_of, reached, requests_of, verdict
from bench.serving_conclusion import Conclusion, conclusion
from results.cases import Load
from results.records import Measurement, RowWarning
from results.saturation import over_saturated
from tests.fakes import START, make_case, make_failure, make_measurement, make_planned, make_request

ALONE = Load(arrivals="closed", concurrency=1)
TOGETHER = Load(arrivals="closed", concurrency=32)
LIMIT = "ttft_s.p99<0.5"
SEARCH = Serving(find_max="ttft_s.p90<5")

Server = Callable[[Load, int], Reached]
"""(load, processes) → what it came to."""


def poisson(rate: float) -> Load:
    return Load(arrivals="poisson", rate=rate)


def server(
    capacity: float, late: Callable[[float], float], *, alone: float = 1.0, alone_late: float = 0.0, bunching: float = 1.0,
    broken: frozenset[float] = frozenset(),
) -> Server:  # fmt: skip
    """One that is over-saturated above its capacity; `late` is the share of late answers at a rate."""

    def measure(load: Load, processes: int) -> Reached:
        total = processes * (720 if load.rate else 24)
        share = late(load.rate) if load.rate else alone_late if load.concurrency == 1 else 1.0
        return Reached(
            load=load,
            processes=processes,
            scheduled=total,
            request_rate=min(load.rate, capacity) if load.rate else alone if load.concurrency == 1 else capacity,
            error_share=0.0,
            counts=(Count(total - round(share * total), total, bunching),),
            over_saturated=load.rate > 1.05 * capacity if load.rate else None,
            failed=load.rate in broken,
        )

    return measure


def sweep(serving: Serving, measure: Server, most: int = 200) -> tuple[list[str], Conclusion]:
    """The loads in the order in which they were asked for, those of a second look with their processes, and the end."""
    done: dict[Load, Reached] = {}
    asked = []
    for _ in range(most):
        loads = next_loads(serving, list(done.values()))
        if not loads:
            return asked, conclusion(serving, list(done.values()))
        for load in loads:
            processes = processes_of(serving, load, 1, list(done.values()))
            asked.append(load.label if processes == 1 else f"{load.label} ×{processes}")
            done[load] = measure(load, processes)
    raise AssertionError(f"no end: {asked}")


def steep(edge: float, width: float = 0.05) -> Callable[[float], float]:
    """No late answers up to an edge, all of them from a little above."""
    return lambda rate: min(1.0, max(0.0, (rate - edge) / (width * edge)))


def test_a_sweep_goes_from_both_ends_to_the_rates_between() -> None:
    asked, end = sweep(Serving(), server(4.0, steep(9)))
    assert asked == ["c1", "c32", "poisson 1.6/s", "poisson 2/s", "poisson 2.5/s", "poisson 3.15/s", "poisson 3.55/s"]
    assert end.sentence == "It answers 1/s one at a time and 4/s with 32 at once. No rate between was over-saturated."
    assert end.finished


def test_steps_stop_when_over_saturated() -> None:
    asked, end = sweep(Serving(), lambda load, n: server(2.6 if load.rate else 4.0, steep(9))(load, n))
    assert asked[2:] == ["poisson 1.6/s", "poisson 2/s", "poisson 2.5/s", "poisson 3.15/s"]
    assert end.sentence.endswith("From 3.15/s on it is over-saturated.")


def test_errors_end_the_steps_and_are_told() -> None:
    """A server that refuses what it cannot serve has no queue that grows."""
    calm = server(9.0, lambda _: 0.0)

    def shedding(load: Load, processes: int) -> Reached:
        share = 0.47 if load.rate and load.rate > 4 else 0.02 if load.rate and load.rate > 3 else 0.0
        return replace(calm(load, processes), error_share=share)

    asked, end = sweep(Serving(), shedding)
    assert asked[2:] == ["poisson 2.24/s", "poisson 3.55/s", "poisson 5/s"]
    assert end.sentence == (
        "It answers 1/s one at a time and 9/s with 32 at once. No rate between was over-saturated."
        " Requests failed: 2 % at 3.55/s, 47 % at 5/s."
    )


def doubtful(measure: Server, *rates: float) -> Server:
    """The same, but that these rates were offered by a client that could not keep up."""

    def spoiled(load: Load, processes: int) -> Reached:
        return replace(measure(load, processes), doubt="the client lagged" if load.rate in rates else None)

    return spoiled


def test_a_rate_that_was_perhaps_not_offered_is_never_claimed() -> None:
    asked, end = sweep(Serving(find_max=LIMIT), doubtful(server(4.0, steep(2.6)), 2.5))
    assert asked[7:] == ["poisson 2.24/s"]  # nothing is spent on more of the same
    assert end.sentence == (
        "The highest rate that holds ttft_s.p99<0.5 is 2.24/s (95 % confidence, 0 of 720 late);"
        " 2.5/s stays open (0 of 720 late; the client lagged)."
    )
    _, end = sweep(Serving(find_max=LIMIT), doubtful(server(4.0, steep(2.6)), 2.8))
    assert end.sentence.endswith("2.8/s fails (720 of 720 late; the client lagged).")
    _, end = sweep(Serving(), doubtful(server(4.0, steep(9)), 2.5, 3.15))
    assert end.sentence.endswith("No rate between was over-saturated. In doubt: 2.5/s, 3.15/s, as the client lagged.")


def test_a_server_that_gains_little_from_many_still_has_rates_between() -> None:
    asked, _ = sweep(Serving(steps=3), server(1.0, steep(9), alone=0.95))
    assert asked[2:] == ["poisson 0.63/s", "poisson 0.8/s", "poisson 0.9/s"]


def test_rates_are_preferred_numbers_of_any_size() -> None:
    for scale in (0.01, 1.0, 1000.0):
        asked, _ = sweep(Serving(arrivals="constant"), server(4.3 * scale, steep(1e9), alone=scale))
        rates = [float(label.split()[1].removesuffix("/s")) for label in asked[2:]]
        assert rates == sorted(rates)
        assert all(any(rate == float(f"{one}e{power}") for one in R20 for power in range(-4, 5)) for rate in rates)


def test_the_search_ends_between_neighbours() -> None:
    asked, end = sweep(Serving(find_max=LIMIT), server(4.0, steep(2.6)))
    assert asked[2:] == [*(f"poisson {rate}/s" for rate in (1.6, 2, 2.5, 3.15, 3.55)), "poisson 2.8/s"]
    assert end.sentence == (
        "The highest rate that holds ttft_s.p99<0.5 is 2.5/s (95 % confidence, 0 of 720 late); 2.8/s fails (720 of 720 late)."
    )
    assert end.holds
    assert end.misses
    assert (end.holds.load, end.misses.load) == (poisson(2.5), poisson(2.8))


def test_an_open_verdict_asks_for_more_processes_once() -> None:
    """3 late of 720 prove nothing, but 6 of twice as many would; a quarter more is asked for, which makes three processes."""
    late = {1.6: 0.0, 2.0: 0.0, 2.5: 3 / 720, 2.8: 1.0, 3.15: 1.0, 3.55: 1.0}
    asked, end = sweep(Serving(find_max=LIMIT), server(4.0, lambda rate: late[rate]))
    assert asked[7:] == ["poisson 2.5/s ×3", "poisson 2.8/s"]
    assert end.holds
    assert (end.holds.load, end.holds.processes) == (poisson(2.5), 3)
    assert "2.5/s (95 % confidence, 9 of 2160 late)" in end.sentence


def test_there_is_no_third_look() -> None:
    """The second look has worse luck: it could be settled by still more, but the doubt was shared out for two."""
    usual = server(4.0, steep(2.3))
    unlucky = {1: 3, 3: 14}

    def measure(load: Load, processes: int) -> Reached:
        one = usual(load, processes)
        total = 720 * processes
        return replace(one, counts=(Count(total - unlucky[processes], total),)) if load == poisson(2.5) else one

    asked, end = sweep(Serving(find_max=LIMIT), measure)
    assert asked[7:] == ["poisson 2.5/s ×3", "poisson 2.24/s"]
    assert "2.5/s stays open (14 of 2160 late)" in end.sentence


def test_what_stays_open_is_not_claimed() -> None:
    """Exactly one in a hundred late can never be settled, so nothing is spent on it."""
    late = {2.0: 0.0, 2.5: 0.01}
    asked, end = sweep(Serving(find_max=LIMIT), server(4.0, lambda rate: late.get(rate, 0.0 if rate < 2.5 else 1.0)))
    assert asked[7:] == ["poisson 2.24/s"]
    assert end.sentence == (
        "The highest rate that holds ttft_s.p99<0.5 is 2.24/s (95 % confidence, 0 of 720 late); 2.5/s stays open (7 of 720 late)."
    )


def test_no_time_is_spent_on_proving_that_a_rate_fails() -> None:
    """16 of 720 late, in pairs: open, but more of the same can only go against it."""
    late = {2.0: 0.0, 2.5: 16 / 720}
    measure = server(4.0, lambda rate: late.get(rate, 0.0 if rate < 2.5 else 1.0), bunching=1.9)
    asked, end = sweep(Serving(find_max=LIMIT), measure)
    assert [label for label in asked if label.startswith("poisson 2.5/s")] == ["poisson 2.5/s"]
    assert "2.5/s stays open (16 of 720 late)" in end.sentence


def test_bunches_make_counts_worth_less() -> None:
    """720 requests in bunches of four are worth 180, too few though none was late; three times as many would do, and a quarter more."""
    asked, end = sweep(Serving(steps=1, find_max=LIMIT), server(4.0, steep(2.6), bunching=4.0))
    assert asked[2:5] == ["poisson 2.5/s", "poisson 2.5/s ×4", "poisson 2.8/s"]
    assert "2.5/s (95 % confidence, 0 of 2880 late, worth 720 as slow ones come in bunches)" in end.sentence


def test_limits_that_no_load_can_hold_cost_no_search() -> None:
    asked, end = sweep(Serving(steps=0, find_max=LIMIT), server(4.0, steep(2.6), alone_late=1.0))
    assert asked == ["c1", "c32"]
    assert end.sentence == "No rate holds ttft_s.p99<0.5: one request at a time fails (24 of 24 late)."


def test_a_search_goes_below_the_ends_and_gives_up_in_time() -> None:
    asked, end = sweep(Serving(steps=0, find_max=LIMIT), server(4.0, steep(0.42)))
    assert asked[2:] == [f"poisson {rate}/s" for rate in (2.5, 1.25, 0.63, 0.315, 0.45, 0.355, 0.4)]
    assert end.holds
    assert end.holds.load == poisson(0.4)
    asked, end = sweep(Serving(steps=0, find_max=LIMIT), server(4.0, lambda _: 1.0))
    assert asked[-1] == "poisson 0.063/s"
    assert end.sentence == "No rate is known to hold ttft_s.p99<0.5: 0.063/s fails (720 of 720 late)."


def test_a_search_goes_above_the_ends_and_gives_up_in_time() -> None:
    asked, end = sweep(Serving(steps=0, find_max=LIMIT), lambda load, n: server(99 if load.rate else 4.0, steep(99))(load, n))
    assert asked[2:] == [f"poisson {rate:g}/s" for rate in (2.5, 2.8, 3.15, 3.55, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1, 8.0)]
    assert end.sentence == (
        "Every rate that was tried holds ttft_s.p99<0.5, up to 8/s (95 % confidence, 0 of 720 late): raise all_at_once to look further."
    )


def test_an_over_saturated_or_broken_rate_does_not_hold() -> None:
    none_late = server(2.9, lambda _: 0.0)
    _, end = sweep(Serving(steps=0, find_max=LIMIT), none_late)
    assert end.sentence.endswith("is 2.8/s (95 % confidence, 0 of 720 late); 3.15/s is over-saturated (0 of 720 late).")
    _, end = sweep(Serving(steps=0, find_max=LIMIT), server(2.9, lambda _: 0.0, broken=frozenset({2.5})))
    assert end.sentence.endswith("is 2.24/s (95 % confidence, 0 of 720 late); 2.5/s broke down.")


def test_what_does_not_fit_is_told() -> None:
    """2/s fails but 2.5/s holds: neither is hidden, and the lower one decides."""
    late = {2.0: 0.5}
    asked, end = sweep(Serving(find_max=LIMIT), server(4.0, lambda rate: late.get(rate, 0.0 if rate <= 2.5 else 1.0)))
    assert asked[-1] == "poisson 1.8/s"
    assert end.sentence == (
        "The highest rate that holds ttft_s.p99<0.5 is 1.8/s (95 % confidence, 0 of 720 late); 2/s fails (360 of 720 late)."
        " Yet 2.5/s held: that does not fit, so measure again before you rely on it."
    )
    assert not end.monotone


def test_without_both_ends_there_is_no_sweep() -> None:
    lost = Reached(TOGETHER, 1, 128, None, 1.0, (Count(0, 128),), failed=True)
    done = [server(4.0, steep(9))(ALONE, 1), lost]
    assert next_loads(Serving(find_max=LIMIT), done) == ()
    end = conclusion(Serving(find_max=LIMIT), done)
    assert end.sentence == "The server's lowest and highest throughput were not measured: the closed loop c32 failed."


def test_a_sweep_on_its_way_says_so() -> None:
    serving = Serving()
    done = [server(4.0, steep(9))(load, 1) for load in (ALONE, TOGETHER)]
    assert not conclusion(serving, ()).finished
    found = conclusion(serving, done)
    assert not found.finished
    assert found.sentence.startswith("So far: It answers 1/s")


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(),
    steps=st.integers(0, 8),
    capacity=st.floats(0.05, 500),
    gain=st.floats(0.9, 30),
    share=st.sampled_from((0.0, 0.002, 0.005, 0.01, 0.03, 1.0)),
)
def test_every_sweep_ends_and_does_not_claim_what_failed(
    seed: int, steps: int, capacity: float, gain: float, share: float
) -> None:
    """Whatever a server answers, even when its rates have nothing to do with each other."""
    noise = random.Random(seed)
    known: dict[tuple[Load, int], Reached] = {}

    def anything(load: Load, processes: int) -> Reached:
        one = server(capacity, lambda _: share * noise.random(), alone=capacity / gain, bunching=noise.choice((1, 1, 3, 40)))
        known[load, processes] = one(load, processes)
        return known[load, processes]

    serving = Serving(steps=steps, find_max=LIMIT)
    asked, end = sweep(serving, anything, most=2 * (steps + 40))
    assert len(asked) == len(known)
    assert end.finished
    last = {load: one for (load, _), one in sorted(known.items(), key=lambda item: item[0][1])}
    shuffled = list(last.values())
    noise.shuffle(shuffled)
    assert next_loads(serving, shuffled) == ()
    assert conclusion(serving, shuffled) == end
    if end.holds and end.holds.load.rate:
        assert verdict(serving, end.holds) == "holds"
        failed = [load.rate for load, one in last.items() if load.rate and verdict(serving, one) == "fails"]
        assert min(failed, default=9e9) > end.holds.load.rate
        assert end.misses is None or (end.misses.load.rate or 0) > end.holds.load.rate


@settings(max_examples=60, deadline=None)
@given(edge=st.floats(0.2, 3.5), steps=st.integers(0, 6))
def test_a_steep_server_is_found_to_the_neighbour(edge: float, steps: int) -> None:
    _, end = sweep(Serving(steps=steps, find_max=LIMIT), server(4.0, steep(edge, 0.001)))
    assert end.holds
    assert end.misses
    assert end.holds.load.rate is not None
    assert end.misses.load.rate is not None
    assert end.holds.load.rate <= edge * 1.001 <= end.misses.load.rate * 1.001
    assert end.misses.load.rate / end.holds.load.rate < 1.15


def test_a_sweep_goes_on_from_what_is_stored() -> None:
    """Stopped after any load and asked again, it asks for the rest."""
    serving, measure = Serving(find_max=LIMIT), server(4.0, steep(2.6))
    whole, _ = sweep(serving, measure)
    done = [measure(ALONE, 1), measure(TOGETHER, 1)]
    for label in whole[2:]:
        (load,) = next_loads(serving, done[::-1])
        assert load.label == label
        done.append(measure(load, 1))
    assert next_loads(serving, done) == ()


def test_how_many_requests_a_load_needs() -> None:
    plain, searching = Serving(), Serving(find_max="ttft_s.p99<0.5 and tpot_s.p90<0.05")
    assert requests_of(plain, ALONE, 24) == 24
    assert requests_of(plain, TOGETHER, 24) == 128
    assert requests_of(plain, poisson(2.0), 24) == 100
    assert requests_of(plain, poisson(2.0), 500) == 500
    assert requests_of(searching, poisson(2.0), 24) == 720
    assert requests_of(searching, poisson(2.0), 24, processes=3) == 240
    assert requests_of(Serving(find_max="ttft_s.p90<0.5"), poisson(2.0), 24) == 100


def queue(attempt: str, gaps: list[float], service_s: float, process: int = 0, **changes: object) -> Measurement:
    """Requests to a server that serves them one after the other."""
    ready, requests = 0.0, []
    for number, at in enumerate(itertools.accumulate(gaps)):
        ready = max(ready, at) + service_s
        requests.append(
            make_request(
                f"{attempt}-{number}", index=number, sent_s=at, sent_at=START + timedelta(seconds=at), tokens=2,
                first_content_s=ready - service_s / 2, last_content_s=ready, event_times_s=(ready - service_s / 2, ready),
            )
        )  # fmt: skip
    return make_measurement(attempt, requests=tuple(requests), process=process, **changes)


def test_requests_are_counted_over_all_processes() -> None:
    planned = make_planned(make_case(load=poisson(1.0)), processes=2)
    serving = Serving(find_max="ttft_s.p90<0.5 and tpot_s.p50<0.1")
    calm = queue("a", [1.0] * 100, 0.5)
    lost = [one.model_copy(update={"error": "timeout: no end"}) if one.index < 10 else one for one in calm.requests]
    shaky = calm.model_copy(update={"requests": tuple(lost), "process": 1})
    found = reached(serving, planned, [calm, shaky])
    assert (found.processes, found.scheduled, found.error_share, found.over_saturated) == (2, 200, pytest.approx(0.05), None)
    assert [(one.met, one.total) for one in found.counts] == [(190, 200), (0, 200)]
    assert found.request_rate == pytest.approx((100 / 99.5 + 90 / 99.5) / 2)
    assert not found.failed
    assert verdict(serving, found) == "fails"


@pytest.mark.parametrize(("stored", "found"), [((), None), ((0,), False), ((1,), True), ((0, 1), True), ((0, 0, 1), False)])
def test_over_saturation_is_what_half_of_the_processes_say(stored: tuple[int, ...], found: bool | None) -> None:
    planned = make_planned(make_case(load=poisson(1.0)))
    told = [queue(f"m{n}", [1.0] * 100, 0.5, values={"over_saturated": float(one)}) for n, one in enumerate(stored)]
    one = reached(SEARCH, planned, [*told, queue("silent", [1.0] * 100, 0.5, values={})])
    assert one.over_saturated is found
    assert verdict(SEARCH, one) == ("fails" if found else "holds")


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("client_bottleneck", {"why": "busy for 95% of the time", "value": 0.95}, "bottleneck (busy for 95% of the time)"),
        ("arrivals", {"what": "rate 1 is outside 2 to 3"}, "did not arrive as planned (rate 1 is outside 2 to 3)"),
    ],
)
def test_a_client_in_doubt_in_one_process_leaves_the_load_open(kind: str, facts: dict[str, Any], words: str) -> None:
    planned = make_planned(make_case(load=poisson(1.0)), processes=2)
    calm = queue("a", [1.0] * 100, 0.5)
    spoiled = queue("b", [1.0] * 100, 0.5, 1, warnings=(RowWarning(kind=kind, facts=facts),))
    assert verdict(SEARCH, reached(SEARCH, planned, [calm])) == "holds"
    one = reached(SEARCH, planned, [calm, spoiled])
    assert one.doubt and words in one.doubt
    assert verdict(SEARCH, one) == "open"
    late = Serving(find_max="ttft_s.p90<0.1")
    assert verdict(late, reached(late, planned, [calm, spoiled])) == "fails"


def test_a_failure_fails_the_load() -> None:
    planned = make_planned(make_case(load=poisson(1.0)))
    good = queue("a", [1.0] * 60, 0.5)
    assert reached(Serving(), planned, [], [make_failure("f")]).failed
    assert reached(Serving(), planned, [good], [make_failure("f")]).failed
    assert not reached(Serving(), planned, [good], [make_failure("f", kind="interrupted")]).failed
    silent = good.model_copy(update={"requests": tuple(one.model_copy(update={"error": "connect: no"}) for one in good.requests)})
    assert reached(Serving(), planned, [silent]).failed
    with pytest.raises(ValueError, match="has no load"):
        reached(Serving(), make_planned(), [good])


def test_what_was_not_measured_yet_is_as_if_never_asked_for() -> None:
    """As a load that was interrupted."""
    started = reached(Serving(), make_planned(make_case(load=ALONE)), [], [make_failure("f", kind="interrupted")])
    assert not started.failed
    assert next_loads(Serving(), [started]) == (ALONE, TOGETHER)


def test_a_whole_sweep_over_requests() -> None:
    """One request is served at a time, in a quarter of a second: 4/s is just what the server can do."""
    serving = Serving(steps=3, arrivals="constant", find_max="ttft_scheduled_s.p99<0.25")

    def measure(load: Load, processes: int) -> Reached:
        count, gap = requests_of(serving, load, 24), 1 / load.rate if load.rate else 0.25
        found = [queue(f"{load.label}-{process}", [gap] * count, 0.25, process) for process in range(processes)]
        if load.rate:
            found = [one.model_copy(update={"values": over_saturated(one.requests, load.rate).values()}) for one in found]
        return reached(serving, make_planned(make_case(load=load)), found)

    asked, end = sweep(serving, measure)
    rates = ["2.5", "3.15", "3.55", "4", "4.5"]
    assert asked == ["c1", "c32", *(f"constant {rate}/s" for rate in rates)]
    assert end.sentence == (
        "The highest rate that holds ttft_scheduled_s.p99<0.25 is 4/s (95 % confidence, 0 of 720 late);"
        " 4.5/s is over-saturated (715 of 720 late)."
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"find_max": "ttft<1"}, "names an unknown metric, did you mean 'ttft_s'?"),
        ({"find_max": "ttft_s<0.5"}, "ttft_s<0.5 needs a percentile"),
        ({"arrivals": "gamma"}, "burstiness belongs to gamma arrivals"),
        ({"burstiness": 0.5}, "burstiness belongs to gamma arrivals"),
        ({"all_at_once": 1}, "greater than or equal to 2"),
        ({"confidence": 1.0}, "less than 1"),
        ({"rates": [1]}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("?", r"\?")):
        Serving.model_validate(fields)


def test_limits_are_kept_in_their_canonical_form() -> None:
    assert Serving(find_max=" ttft_s.p99 < 500 ms").find_max == "ttft_s.p99<0.5"
