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
from bench.client_protocol import Job, Phase, Sent, Usage
from bench.load_clients import LoadClients
from bench.load_plan import closed_phases, due, open_phases, pool_size, ramp
from bench.load_requests import Asked, LoadSession, conversations, plain_prompts, replayed, told_of
from bench.load_values import load_values, load_warnings
from bench.measure import WARMUP_TOKENS, Instruments
from bench.trace import Trace
from bench.workloads import Prompts
from monitor import processes
from results.records import Load, PlannedCase, Request, RowWarning, digest

__all__ = ["LoadOutcome", "LoadSession", "calibrate_client", "measure_load"]

BREATH_S = 0.05
LAST_BREATHS = 20

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class LoadOutcome:
    requests: tuple[Request, ...]
    """All that were scheduled, in that order, whatever became of them."""
    values: dict[str, float]
    warnings: tuple[RowWarning, ...]
    broken: str | None
    """Why a server of ours is gone."""


def measure_load(
    session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, warmup: Prompts, origin: float,
    tools: Instruments, phase: Tell, *, seed: int, trace: Trace | None = None,
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
        seed: of the arrivals.

    Raises:
        ValueError: the case has no load.
        ClientEndedError: a client of ours failed.
    """
    load = planned.case.load
    if load is None:
        raise ValueError("a case without a load is measured by bench.measure")
    count = min(planned.clients, load.concurrency or 1) if load.arrivals == "closed" else planned.clients
    now, at = tools.now(), tools.clock()
    with LoadClients(count, _job(session, planned), tools.clock) as clients:
        rounds = _Rounds(session, planned, clients, phase)
        warm = _warm_up(rounds, session, planned, process, warmup, count)
        if broken := _last_breath(session, warm):
            return LoadOutcome((), {}, (), broken)
        drawn = int(digest([seed, planned.case.case_id, process]), 16)
        asked, phases, at_least = _measured(session, planned, process, prompts, drawn, trace, count, warm)
        sent, usages = rounds.send("measure", asked, phases, at_least)
        rss_bytes = clients.peak_rss_bytes() + (processes.peak_rss_bytes(os.getpid()) or tools.rss_bytes())
    broken = rounds.broken or _last_breath(session, sent)
    told = told_of(sent, asked, planned, session, origin, lambda time: now + timedelta(seconds=time - at))
    values = load_values(planned, told, usages, rss_bytes)
    return LoadOutcome(tuple(one.request for one in told), values, tuple(load_warnings(planned, told, values)), broken)


def _measured(
    session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, seed: int, trace: Trace | None, clients: int,
    warm: Sequence[Sent],
) -> tuple[list[Asked], list[Phase], int]:  # fmt: skip
    """What is asked in the measured phase, by which client when, and how many requests that are at the least."""
    case, load = planned.case, planned.case.load or Load(arrivals="closed")
    at_least = math.ceil(planned.iterations / case.turns)
    if load.arrivals == "closed":
        asked = conversations(session, case, process, prompts, pool_size(planned, warm), seed)
        phases = closed_phases(
            [one.body(session, case) for one in asked], ramp(load.concurrency or 1, load.ramp_s), at_least, clients,
            turns=case.turns, min_seconds=planned.min_seconds,
        )  # fmt: skip
        return asked, phases, at_least * case.turns
    offsets = due(load, at_least, planned.min_seconds, seed, trace)
    if trace:
        asked = replayed(session, case, process, prompts, trace.entries[: len(offsets)])
    else:
        asked = conversations(session, case, process, prompts, len(offsets), seed)
    phases = open_phases([one.body(session, case) for one in asked], offsets, case.turns, clients)
    return asked, phases, len(offsets) * case.turns


class _Rounds:
    """The phases of one case, each by all clients."""

    def __init__(self, session: LoadSession, planned: PlannedCase, clients: LoadClients, tell: Tell) -> None:
        self._session, self._planned, self._clients, self._tell = session, planned, clients, tell
        self.broken: str | None = None

    def send(self, name: str, asked: Sequence[Asked], phases: Sequence[Phase], at_least: int) -> tuple[list[Sent], list[Usage]]:
        """One phase, until the last answer is there or given up; while it lasts, a server of ours is watched."""
        said: defaultdict[int, list[str]] = defaultdict(list)

        def next_turn(number: int, answer: str) -> bytes:
            history = said[number]
            history += [asked[number].prompts[len(history) // 2].text, answer]
            return asked[number].body(self._session, self._planned.case, history)

        def listen(done: int, draining: bool) -> str | None:
            self._tell("drain" if draining else name, done, at_least)
            self.broken = self.broken or self._session.alive()
            return self.broken

        self._tell(name, 0, at_least)
        return self._clients.run(phases, listen, next_turn)


def _warm_up(
    rounds: _Rounds, session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, clients: int
) -> list[Sent]:
    """Other prompts, few tokens, in a closed loop that an open loop's server can serve at once."""
    case = planned.case
    closed = case.load is not None and case.load.arrivals == "closed"
    count = planned.warmup or int(closed and planned.min_seconds > 0)
    if not count:
        return []
    tokens = min(case.output_tokens, WARMUP_TOKENS)
    asked = [Asked((prompt,), tokens) for prompt in plain_prompts(session, case, process, prompts, count)]
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
