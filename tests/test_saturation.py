"""Queues of known load are called what they are."""

import random
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from results.records import Request
from results.saturation import MIN_REQUESTS, Saturation, knee, over_saturated
from tests.fakes import make_request

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/saturation.py"))


def at_even_times(count: int, capacity: float, **changes: object) -> list[Request]:
    """One request per second to a server that completes so many per second, one after the other."""
    ready, requests = 0.0, []
    for number in range(count):
        ready = max(ready, float(number)) + 1 / capacity
        times = {"scheduled_s": float(number), "ttft_s": ready - number, "tpot_s": 0.0, "tokens": 1}
        requests.append(make_request(f"r{number}", index=number, sent_s=float(number), **(times | changes)))  # type: ignore[arg-type]
    return requests


def test_slopes_of_an_even_overload_are_exact() -> None:
    """At twice the capacity half of what comes stays, and each request waits a second longer than the one before."""
    found = over_saturated(at_even_times(121, capacity=0.5), rate=1.0)
    assert found.over_saturated is True
    assert found.in_flight_slope == pytest.approx(0.5, rel=0.01)
    assert found.ttft_slope == pytest.approx(1.0, rel=0.01)
    assert found.values() == {
        "in_flight_slope": found.in_flight_slope,
        "ttft_slope": found.ttft_slope,
        "over_saturated": 1.0,
    }


def test_an_even_load_below_capacity_does_not_grow() -> None:
    found = over_saturated(at_even_times(120, capacity=1.25), rate=1.0)
    assert found.over_saturated is False
    assert found.in_flight_slope == pytest.approx(0.0, abs=1e-3)
    assert found.values()["over_saturated"] == 0.0


def test_an_overload_that_hardly_matters_is_none() -> None:
    assert over_saturated(at_even_times(300, capacity=0.98), rate=1.0).over_saturated is False
    assert over_saturated(at_even_times(300, capacity=0.9), rate=1.0).over_saturated is True


def test_too_few_requests_give_no_verdict() -> None:
    assert over_saturated(at_even_times(MIN_REQUESTS - 1, capacity=0.5)) == Saturation(None, None, None)
    assert over_saturated([make_request(f"r{n}") for n in range(100)]) == Saturation(None, None, None)
    assert Saturation(None, None, None).values() == {}
    silent = over_saturated(at_even_times(100, capacity=0.5, error="connect: no connection"))
    assert (silent.ttft_slope, silent.over_saturated) == (None, None)


def test_the_order_of_the_records_does_not_matter() -> None:
    requests = at_even_times(100, capacity=0.8)
    assert over_saturated(requests[::-1], 1.0) == over_saturated(requests, 1.0)


def test_refused_requests_leave_at_once_and_timed_out_ones_stay() -> None:
    requests = at_even_times(120, capacity=2.0)
    gone = {"first_content_s": None, "last_content_s": None}
    refused = [one.model_copy(update=gone | {"error": "http_4xx: 429"}) if one.index % 2 else one for one in requests]
    stuck = [one.model_copy(update=gone | {"error": "timeout: no end"}) if one.index % 2 else one for one in requests]
    assert over_saturated(refused, 1.0).in_flight_slope == pytest.approx(0.0, abs=1e-3)
    assert over_saturated(stuck, 1.0).in_flight_slope == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("server", ["one slot", "four slots", "shared"])
def test_stable_queues_are_not_called_over_saturated(simulated: dict[str, Any], server: str) -> None:
    calls = [simulated["share_called"](server, load, count, 25) for load in (0.5, 0.8, 0.9) for count in (60, 150)]
    assert sum(calls) / len(calls) <= 0.02


@pytest.mark.parametrize("server", ["one slot", "four slots", "shared"])
def test_overloads_are_found(simulated: dict[str, Any], server: str) -> None:
    assert simulated["share_called"](server, 1.2, 300, 30) >= 0.9
    assert simulated["share_called"](server, 1.5, 100, 30) >= 0.9
    assert simulated["share_called"](server, 2.0, 100, 30, rate_known=False) >= 0.9


def test_chance_arrivals_are_not_taken_for_a_slow_server(simulated: dict[str, Any]) -> None:
    """The last third of a load comes at nearly twice its rate: the queue grows, but the server does what was planned."""
    noise = random.Random(4)
    at = sorted([*(noise.uniform(0, 80) for _ in range(50)), *(noise.uniform(80, 120) for _ in range(50))])
    times = simulated["in_turn"](at, 1, noise)
    requests = [
        make_request(f"r{n}", index=n, sent_s=sent, first_content_s=first, last_content_s=last)
        for n, (sent, (first, last)) in enumerate(zip(at, times, strict=True))
    ]
    assert over_saturated(requests, rate=100 / 120).over_saturated is False


@pytest.mark.slow
def test_the_simulation_prints_its_tables() -> None:
    command = [sys.executable, "-P", "benchmarks/saturation.py", "--runs", "1", "--proofs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 3 * 6 * 4 + 2 + 3 * 4 * 2


@pytest.mark.slow
def test_proofs_hold_what_they_promise_only_with_bunching(simulated: dict[str, Any]) -> None:
    counted, bunched = simulated["share_proven"]("one slot", 0.7, 628, 100)
    assert counted > 0.3
    assert bunched <= 0.05


def test_the_knee_has_the_highest_power() -> None:
    curve = [(1.0, 0.1), (2.0, 0.11), (4.0, 0.16), (5.0, 0.4), (5.2, 2.0)]
    assert knee(curve) == (4.0, 0.16)
    assert knee(curve[::-1]) == (4.0, 0.16)
    assert knee([(1.0, 1.0), (2.0, 2.0), (3.0, 4.0)]) == (2.0, 2.0)


def test_no_knee_before_the_curve_bends() -> None:
    assert knee([(1.0, 0.1), (2.0, 0.11), (4.0, 0.16)]) is None
    assert knee([(1.0, 0.1), (2.0, 1.0)]) is None
    assert knee([]) is None


def test_the_knee_of_the_simplest_queue_is_half_its_capacity() -> None:
    """M/M/1: the mean time in the system is 1 / (1 - load), so power is load (1 - load)."""
    assert knee([(load / 20, 1 / (1 - load / 20)) for load in range(1, 20)]) == (0.5, 2.0)
