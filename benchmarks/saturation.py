"""How often a load is called over-saturated, and how often a limit is called proven, on simulated servers whose truth is known.

    python benchmarks/saturation.py [--runs 400] [--proofs 200]

Poisson arrivals meet servers of capacity 1/s: one request at a time or four (first come, first served, service times that
spread by 30 %), or all at once (processor sharing). A load below 1 is stable: at most 2 % may be called over-saturated. The
second table takes the limit that exactly 99 % of the answers keep, which a proof at 95 % may call kept in 5 % of the runs;
`as counted` takes the requests for independent, `bunched` is what the sweep does.
"""

import argparse
import heapq
import itertools
import math
import random
from datetime import UTC, datetime

from results.limits import Limit, bunching, proven
from results.records import Request
from results.saturation import over_saturated

AT = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_TOKEN = 0.2
"""Share of the service after which the first token comes."""


def arrivals(rate: float, count: int, noise: random.Random) -> list[float]:
    return list(itertools.accumulate(noise.expovariate(rate) for _ in range(count)))


def in_turn(at: list[float], slots: int, noise: random.Random) -> list[tuple[float, float]]:
    """(first token, last token) of each request: `slots` are served at a time, the others wait in line."""
    free, times = [0.0] * slots, []
    for arrived in at:
        start, service = max(heapq.heappop(free), arrived), slots * noise.lognormvariate(-0.045, 0.3)
        heapq.heappush(free, start + service)
        times.append((start + FIRST_TOKEN * service, start + service))
    return times


def shared(at: list[float]) -> list[tuple[float, float]]:
    """The same where all requests are served at once, each the slower the more there are.

    Work done per request is one clock for all: a request has its tokens when that clock passes its own marks.
    """
    marks: list[tuple[float, int, int]] = []
    times = [[0.0, 0.0] for _ in at]
    now = work = 0.0
    active = 0
    for number, arrived in enumerate([*at, math.inf]):
        while marks and (reached := now + (marks[0][0] - work) * active) <= arrived:
            now, (work, done, is_last) = reached, heapq.heappop(marks)
            times[done][is_last] = now
            active -= is_last
        if number < len(at):
            work += (arrived - now) / active if active else 0.0
            now, active = arrived, active + 1
            heapq.heappush(marks, (work + FIRST_TOKEN, number, 0))
            heapq.heappush(marks, (work + 1, number, 1))
    return [(first, last) for first, last in times]


def served(server: str, load: float, count: int, noise: random.Random) -> list[tuple[float, float, float]]:
    """(scheduled, first token, last token) of requests to one of the servers, from its idle start."""
    at = arrivals(load, count, noise)
    times = shared(at) if server == "shared" else in_turn(at, {"one slot": 1, "four slots": 4}[server], noise)
    return [(scheduled, first, last) for scheduled, (first, last) in zip(at, times, strict=True)]


def requests(server: str, load: float, count: int, noise: random.Random) -> list[Request]:
    return [
        Request(
            request_id=str(number), index=number, prompt_index=0, sent_at=AT, scheduled_s=scheduled, sent_s=scheduled,
            first_content_s=first, last_content_s=last,
        )
        for number, (scheduled, first, last) in enumerate(served(server, load, count, noise))
    ]  # fmt: skip


SERVERS = ("one slot", "four slots", "shared")


def share_called(server: str, load: float, count: int, runs: int, *, rate_known: bool = True, seed: int = 1) -> float:
    """The share of runs that is called over-saturated."""
    noise = random.Random(f"{seed} {server} {load} {count}")
    rate = load if rate_known else None
    return sum(over_saturated(requests(server, load, count, noise), rate).over_saturated is True for _ in range(runs)) / runs


def share_proven(server: str, load: float, count: int, runs: int, share: float = 0.99, seed: int = 1) -> tuple[float, float]:
    """The share of runs in which a limit that exactly `share` of the answers keep is called kept: as counted, and bunched."""
    noise = random.Random(f"{seed} {server} {load} {count} {share}")
    long = sorted(first - scheduled for scheduled, first, _ in served(server, load, 60_000, noise))
    limit = Limit("ttft_s", "<", long[int(share * len(long))], 100 * share)
    plain = bunched = 0
    for _ in range(runs):
        answers = requests(server, load, count, noise)
        met, bunch = sum(map(limit.met, answers)), bunching([limit.excess(one) for one in answers], share)
        plain += proven(share, met, count, 0.95) == "holds"
        bunched += proven(share, met / bunch, count / bunch, 0.95) == "holds"
    return plain / runs, bunched / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--proofs", type=int, default=200)
    options = parser.parse_args()
    print(f"{'server':<11}{'load':>5}{'requests':>10}  called over-saturated, the rate known / unknown")
    for server in SERVERS:
        for load, count in itertools.product((0.5, 0.8, 0.9, 1.2, 1.5, 2.0), (60, 100, 150, 300)):
            known, unknown = (share_called(server, load, count, options.runs, rate_known=one) for one in (True, False))
            print(f"{server:<11}{load:5.1f}{count:10d}  {known:6.1%} / {unknown:6.1%}")
    print(f"\n{'server':<11}{'load':>5}{'requests':>10}  wrongly proven at 95 %, as counted / bunched")
    for server in SERVERS:
        for load, count in itertools.product((0.3, 0.5, 0.7, 0.8), (628, 2000)):
            plain, bunched = share_proven(server, load, count, options.proofs)
            print(f"{server:<11}{load:5.1f}{count:10d}  {plain:6.1%} / {bunched:6.1%}")


if __name__ == "__main__":
    main()
