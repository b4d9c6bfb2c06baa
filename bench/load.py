"""One case under load: what is sent and when, in three phases: warm-up, measure, drain.

All prompts and requests are made before the start. Who sends what when is planned by `bench.load_plan`, sending is left to the
clients (`bench.client`, seen through `bench.load_clients`), prompts and records to `bench.load_requests`, what the whole says to
`bench.load_values`.
"""

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bench.client_calibration import calibrate_client
from bench.client_protocol import Job, Phase, Sent, Stop, Usage
from bench.load_clients import ClientEndedError, LoadClients
from bench.load_plan import closed_phases, due, open_phases, pool_size, ramp
from bench.load_requests import Asked, LoadSession, conversations, plain_prompts, replayed, told_of
from bench.load_values import load_values, load_warnings, tested_arrivals
from bench.measure import WARMUP_TOKENS, Instruments, mark_of
from bench.trace import Trace
from bench.workloads import Prompts
from monitor import processes
from results.cases import Load, PlannedCase
from results.record import digest
from results.records import Request, RowWarning

__all__ = ["LoadOutcome", "LoadSession", "calibrate_client", "measure_load"]

BREATH_S = 0.05
LAST_BREATHS = 20
LEAST_REPORT_S, MOST_REPORT_S = 5.0, 60.0
REPORT_SHARE = 0.1
"""Of a case's time limit, between 5 and 60 s: kept free for reading the answers and telling of them, and as much again for
the last answers to come."""
STOPPED = "the run was interrupted"
OUT_OF_TIME = "the case's time limit was near: raise timeout_s"

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LoadOutcome:
    requests: tuple[Request, ...]
    """All that were scheduled, in that order, whatever became of them."""
    values: dict[str, float]
    warnings: tuple[RowWarning, ...]
    broken: str | None
    """Why a server or a client of ours is gone: then there are neither values nor warnings."""


def measure_load(
    session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, warmup: Prompts, origin: float,
    tools: Instruments, phase: Tell, *, seed: int, trace: Trace | None = None, stopped: Callable[[], bool] = lambda: False,
) -> LoadOutcome:  # fmt: skip
    """Put one case under load.

    An open loop sends `planned.iterations` requests at the least and all that are due within `planned.min_seconds`; a closed loop
    goes on until both are met or its prompts are used up, which were made in good number beforehand. `planned.warmup` requests go
    before, in a closed loop; a closed loop that has seconds to fill asks at least one, to know how many prompts it will need.

    Args:
        process: the round, so that no two processes ask the same prompt, and each has arrivals of its own.
        origin: the clock's value that the requests' times count from.
        tools: its clock must be `time.perf_counter`, as the clients read it too.
        phase: told (phase, requests done, requests at the least), once a second at most.
        seed: the run's, of the arrivals and prompts.
        stopped: whether nothing more shall be sent or waited for; asked once a second.

    Raises:
        ValueError: the case has no load.
    """
    load = planned.case.load
    if load is None:
        raise ValueError("a case without a load is measured by bench.measure")
    count = min(planned.clients, load.concurrency or 1) if load.arrivals == "closed" else planned.clients
    now, at = tools.now(), tools.clock()
    mark = mark_of(seed, planned.case, process)
    usages: list[Usage] = []
    with LoadClients(count, _job(session, planned), tools.clock) as clients:
        rounds = _Rounds(session, planned, clients, phase, origin, tools.clock, stopped)
        try:
            warm = _warm_up(rounds, session, planned, mark_of(seed, planned.case, process, "warmup"), warmup, count)
        except ClientEndedError as ended:
            return LoadOutcome((), {}, (), str(ended))
        if broken := _last_breath(session, warm):
            return LoadOutcome((), {}, (), broken)
        drawn = int(digest([seed, planned.case.case_id, process]), 16)
        asked, phases, at_least = _measured(session, planned, mark, prompts, drawn, trace, count, warm)
        try:
            sent, usages = rounds.send("measure", asked, phases, at_least)
        except ClientEndedError as ended:
            sent, rounds.broken = list(ended.sent), rounds.broken or str(ended)
        rss_bytes = clients.peak_rss_bytes() + (processes.peak_rss_bytes(os.getpid()) or tools.rss_bytes())
    broken = rounds.broken or _last_breath(session, sent)
    told = told_of(sent, asked, planned, session, origin, lambda time: now + timedelta(seconds=time - at))
    requests = tuple(one.request for one in told)
    if broken:
        return LoadOutcome(requests, {}, (), broken)
    test = tested_arrivals(load, told)
    values = load_values(planned, told, usages, rss_bytes, test)
    warnings = load_warnings(planned, told, values, test)
    if rounds.late_s is not None:
        warnings.append(RowWarning(kind="out_of_time", facts={"seconds": rounds.late_s}))
    return LoadOutcome(requests, values, tuple(warnings), None)


def _measured(
    session: LoadSession, planned: PlannedCase, mark: str, prompts: Prompts, seed: int, trace: Trace | None, clients: int,
    warm: Sequence[Sent],
) -> tuple[list[Asked], list[Phase], int]:  # fmt: skip
    """What is asked in the measured phase, by which client when, and how many requests that are at the least."""
    case, load = planned.case, planned.case.load or Load(arrivals="closed")
    at_least = math.ceil(planned.iterations / case.turns)
    if load.arrivals == "closed":
        asked = conversations(session, case, mark, prompts, pool_size(planned, warm), seed)
        phases = closed_phases(
            [one.body(session, case) for one in asked], ramp(load.concurrency or 1, load.ramp_s), at_least, clients,
            turns=case.turns, min_seconds=planned.min_seconds,
        )  # fmt: skip
        return asked, phases, at_least * case.turns
    offsets = due(load, at_least, planned.min_seconds, seed, trace)
    if load.arrivals == "trace" and trace:
        asked = replayed(session, case, mark, prompts, trace.entries[: len(offsets)])
    else:
        asked = conversations(session, case, mark, prompts, len(offsets), seed)
    phases = open_phases([one.body(session, case) for one in asked], offsets, case.turns, clients)
    return asked, phases, len(offsets) * case.turns


class _Rounds:
    """The phases of one case, each by all clients.

    Nothing more is sent, and at last nothing waited for, when the case's time is nearly over: so that what is there can be told.
    """

    def __init__(
        self, session: LoadSession, planned: PlannedCase, clients: LoadClients, tell: Tell, origin: float,
        clock: Callable[[], float], stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._session, self._planned, self._clients, self._tell = session, planned, clients, tell
        self._origin, self._clock, self._stopped = origin, clock, stopped
        self._last_send_s, self._last_wait_s = last_times(planned.timeout_s, planned.request_timeout_s)
        self.broken: str | None = None
        self.late_s: float | None = None
        """Seconds after the case's begin when its time was found to be nearly over."""

    def send(self, name: str, asked: Sequence[Asked], phases: Sequence[Phase], at_least: int) -> tuple[list[Sent], list[Usage]]:
        """One phase, until the last answer is there or given up; while it lasts, a server of ours is watched."""
        said: defaultdict[int, list[str]] = defaultdict(list)

        def next_turn(number: int, answer: str) -> bytes:
            history = said[number]
            history += [asked[number].prompts[len(history) // 2].text, answer]
            return asked[number].body(self._session, self._planned.case, history)

        def listen(done: int, draining: bool) -> Stop | None:
            self._tell("drain" if draining else name, done, at_least)
            if self._stopped():
                return Stop(STOPPED, at_once=True)
            self.broken = self.broken or self._session.alive()
            passed_s = self._clock() - self._origin
            if passed_s >= self._last_send_s and (not draining or passed_s >= self._last_wait_s):
                self.late_s = self.late_s or passed_s
                return Stop(self.broken or OUT_OF_TIME, at_once=passed_s >= self._last_wait_s)
            return Stop(self.broken) if self.broken else None

        self._tell(name, 0, at_least)
        return self._clients.run(phases, listen, next_turn)


def last_times(timeout_s: float, request_timeout_s: float) -> tuple[float, float]:
    """Seconds after a case's begin until which requests are sent, and until which their answers are waited for."""
    report_s = min(timeout_s / 4, max(LEAST_REPORT_S, min(REPORT_SHARE * timeout_s, MOST_REPORT_S)))
    return timeout_s - report_s - min(request_timeout_s, report_s), timeout_s - report_s


def _warm_up(
    rounds: _Rounds, session: LoadSession, planned: PlannedCase, mark: str, prompts: Prompts, clients: int
) -> list[Sent]:
    """Other prompts, few tokens, in a closed loop that an open loop's server can serve at once."""
    case = planned.case
    closed = case.load is not None and case.load.arrivals == "closed"
    count = planned.warmup or int(closed and planned.min_seconds > 0)
    if not count:
        return []
    tokens = min(case.output_tokens, WARMUP_TOKENS)
    asked = [Asked((prompt,), tokens) for prompt in plain_prompts(session, case, mark, prompts, count)]
    runners = min(count, (case.load.concurrency if case.load and closed else case.slots) or 1)
    phases = closed_phases([one.body(session, case) for one in asked], ramp(runners, 0.0), count, clients)
    return rounds.send("warmup", asked, phases, count)[0]


def _last_breath(session: LoadSession, sent: Sequence[Sent]) -> str | None:
    """Why a server of ours is gone; its end is waited for when connections broke, as they do so a little earlier."""
    broke = any(one.answer.error and one.answer.error.startswith(("connect", "disconnected")) for one in sent)
    for _ in range(LAST_BREATHS if broke and session.server_pid is not None else 0):
        if session.alive():
            break
        time.sleep(BREATH_S)
    return session.alive()


def _job(session: LoadSession, planned: PlannedCase) -> Job:
    form = planned.case.prompt_format
    endpoint = session.endpoint(form)
    return Job(
        endpoint.url,
        dict(endpoint.headers),
        session.dialect(form),
        planned.request_timeout_s,
        planned.retries,
        planned.give_up_after,
    )
