"""What the load client can do, and how true its times are.

    python benchmarks/client.py [--requests 3000] [--tokens 16] [--rounds 3] [--streams 1 8 64 256] [--each 64]

First its rate: requests per second of one client on one core, against a server that takes no time on another, with the answer in
one write and with one write per event. The goal is 1,000 requests/s of 16 tokens. Then its times: against the golden server of the
tests, which records its own writes, so many streams at once of `--each` tokens (TTFT 80 ms, 12 ms per token, log-normal jitter
0.3). The goals at 64 streams: mean and median TTFT and mean TPOT within 1 % or 0.3 ms of the record, p99 within 3 %, and no token
miscounted.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from golden_server import GoldenServer, Script, body, golden_text

from bench.client_calibration import exchange, job, null_endpoint, rate
from bench.client_protocol import Item, Job, Phase, Sent
from bench.load_clients import LoadClients
from bench.load_plan import ramp

GOLDEN = Script(ttft_s=0.08, tpot_s=0.012, sigma=0.3)
FORMS = {"one write": None, "one write per event": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8, 64, 256])
    parser.add_argument("--each", type=int, default=64)
    options = parser.parse_args()
    for form, gap_s in FORMS.items():
        rates, busy = rates_of(options.requests, options.tokens, gap_s, options.rounds)
        best = statistics.median(rates)
        print(f"{form}: {best:.0f} requests/s, {best * options.tokens:.0f} tokens/s, {busy:.0f} µs of CPU per request")
    for streams in options.streams:
        print(f"{streams} streams: " + truth(streams, options.each))
        print(f"{streams} streams, all begun at one moment: " + truth(streams, options.each, together=True))


def rates_of(requests: int, tokens: int, gap_s: float | None, rounds: int) -> tuple[list[float], float]:
    """Requests/s of each round, and the median CPU time of a request in µs; 16 in flight."""
    rates, busy = [], []
    with contextlib.ExitStack() as stack:
        with on_core(0):
            url = stack.enter_context(null_endpoint())
        with on_core(1):
            clients = stack.enter_context(LoadClients(1, job(url), time.perf_counter))
        exchange(clients, min(200, requests), tokens, gap_s=gap_s, runners=16)
        for _ in range(rounds):
            sent, usage = exchange(clients, requests, tokens, gap_s=gap_s, runners=16)
            if any(one.answer.output_tokens != tokens for one in sent):
                raise SystemExit("tokens were miscounted")
            rates.append(rate(sent))
            busy.append(usage.cpu_s / requests * 1e6)
    return rates, statistics.median(busy)


def truth(streams: int, tokens: int, *, together: bool = False) -> str:
    """How far the client's figures lie from the server's record.

    Spread as the requests of a real load are, the record's own TTFT counts from when the server noticed a request. Begun together,
    new connections wait in the server before it notices them, so the record's TTFT is its write since the request was sent.
    """
    scripts = [Script(**(vars(GOLDEN) | {"tokens": tokens, "seed": number, "id": str(number)})) for number in range(2 * streams)]
    with GoldenServer() as server:
        asked = Job(server.chat_url, {}, "openai-chat", 120.0, retries=0, give_up_after=1)
        with LoadClients(1, asked, time.perf_counter) as clients:
            begins = tuple(ramp(streams, 0.0 if together else GOLDEN.ttft_s + tokens * GOLDEN.tpot_s))
            items = tuple(Item(number, body(script).decode()) for number, script in enumerate(scripts))
            sent, _ = clients.run([Phase(items, begins, at_least=len(items))], lambda *_: None, no_turn)
        records = server.records()
    wrong = sum(one.answer.text != golden_text(scripts[one.number]) or one.answer.output_tokens != tokens for one in sent)
    ours, theirs = {"TTFT": [], "TPOT": [], "ITL": []}, {"TTFT": [], "TPOT": [], "ITL": []}
    unnoticed: list[float] = []
    for one in sent:
        record = records[str(one.number)]
        written = [at for at, count in record["writes"] if count]
        take(ours, one.sent, content_times(one))
        take(theirs, one.sent if together else record["received"], written)
        unnoticed.append(record["received"] - one.sent)
    figures = "; ".join(compared(name, ours[name], theirs[name]) for name in ours)
    noticed = f"noticed by the server {statistics.fmean(unnoticed) * 1e3:.3f} ms after they were sent"
    return f"{wrong} of {len(sent)} answers miscounted, {noticed}; {figures}"


def content_times(sent: Sent) -> list[float]:
    answer = sent.answer
    return [at for at, tokens in zip(answer.event_times, answer.event_tokens, strict=True) if tokens]


def take(figures: dict[str, list[float]], start: float, times: Sequence[float]) -> None:
    gaps = [later - earlier for earlier, later in pairwise(times)]
    figures["TTFT"].append(times[0] - start)
    figures["TPOT"].append(statistics.fmean(gaps))
    figures["ITL"] += gaps


def compared(name: str, ours: list[float], theirs: list[float]) -> str:
    """Mean, median and p99 of the record in ms, each with the client's deviation from it."""
    parts = []
    for label, figure in (("mean", statistics.fmean), ("median", statistics.median), ("p99", p99)):
        true, off = figure(theirs) * 1e3, (figure(ours) - figure(theirs)) * 1e3
        parts.append(f"{label} {true:.2f} {off:+.3f} ms ({off / true:+.2%})")
    return f"{name} {', '.join(parts)}"


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """Processes that are started meanwhile run on this core alone, where cores can be chosen and there are two."""
    if not hasattr(os, "sched_setaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        yield
        return
    os.sched_setaffinity(0, {cores[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def no_turn(number: int, answer: str) -> bytes:
    raise ValueError("no conversations here")


if __name__ == "__main__":
    main()
