"""One case under load: what is sent and when, in three phases: warm-up, measure, drain.

The schedule, the prompts and the requests' bytes are made before the start. Sending is left to the clients (`bench.client`, seen
through `bench.load_clients`), the records to `bench.load_requests`, what the whole says to `bench.load_values`.
"""

import math
import os
import statistics
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bench.arrivals import deal, schedule
from bench.client_calibration import calibrate_client
from bench.client_protocol import Item, Job, Phase, Sent, Usage
from bench.load_clients import LoadClients
from bench.load_requests import Asked, LoadSession, told_of
from bench.load_values import load_values, load_warnings
from bench.measure import WARMUP_TOKENS, Instruments
from bench.trace import Trace
from bench.workloads import Prompts, speed_prompt
from monitor import processes
from results.records import Case, Load, PlannedCase, Request, RowWarning, digest

__all__ = ["LoadOutcome", "LoadSession", "calibrate_client", "measure_load"]

HEADROOM = 1.5
"""Of a closed loop's pool of prompts over what it would need at the rate of the warm-up."""

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
    case, load = planned.case, planned.case.load
    if load is None:
        raise ValueError("a case without a load is measured by bench.measure")
    count = min(planned.clients, load.concurrency or 1) if load.arrivals == "closed" else planned.clients
    now, at = tools.now(), tools.clock()
    with LoadClients(count, _job(session, planned), tools.clock) as clients:
        rounds = _Rounds(session, planned, clients, phase)
        warm = _warm_up(rounds, session, planned, process, warmup, count)
        if rounds.broken:
            return LoadOutcome((), {}, (), rounds.broken)
        at_least = math.ceil(planned.iterations / case.turns)
        if load.arrivals == "closed":
            wanted = pool_size(planned, warm)
            asked = _asked(session, planned, process, prompts, wanted, trace)
            bodies = [one.body(session, case) for one in asked]
            begins = ramp(load.concurrency or 1, load.ramp_s)
            phases = closed_phases(bodies, begins, at_least, count, turns=case.turns, min_seconds=planned.min_seconds)
        else:
            drawn = int(digest([seed, case.case_id, process]), 16)
            offsets = due(load, at_least, planned.min_seconds, drawn, trace)
            at_least = len(offsets)
            asked = _asked(session, planned, process, prompts, at_least, trace)
            phases = open_phases([one.body(session, case) for one in asked], offsets, case.turns, count)
        sent, usages = rounds.send("measure", asked, phases, at_least * case.turns)
        rss_bytes = clients.peak_rss_bytes() + (processes.peak_rss_bytes(os.getpid()) or tools.rss_bytes())
    broken = rounds.broken or _last_breath(session, sent)
    told = told_of(sent, asked, planned, session, origin, lambda time: now + timedelta(seconds=time - at))
    values = load_values(planned, told, usages, rss_bytes)
    return LoadOutcome(tuple(one.request for one in told), values, tuple(load_warnings(planned, told, values)), broken)


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


def due(load: Load, at_least: int, min_seconds: float, seed: int, trace: Trace | None) -> tuple[float, ...]:
    """Seconds after the start at which an open loop's requests are due: so many, and all within so many seconds."""
    if trace is not None:
        offsets = tuple(entry.at_s for entry in trace.entries)
    else:
        count = at_least + math.ceil((load.rate or 0.0) * min_seconds)
        while (offsets := schedule(load, count, seed))[-1] < min_seconds:  # one seed: a longer schedule begins like a shorter one
            count *= 2
    return offsets[: max(at_least, bisect_left(offsets, min_seconds))]


def open_phases(bodies: Sequence[bytes], offsets: Sequence[float], turns: int, clients: int) -> list[Phase]:
    """A schedule dealt to the clients."""
    items = [
        Item(number, body.decode(), offset, turns) for number, (body, offset) in enumerate(zip(bodies, offsets, strict=True))
    ]
    return [Phase(tuple(items[number] for number in numbers)) for numbers in deal(offsets, clients)]


def closed_phases(
    bodies: Sequence[bytes], begins: Sequence[float], at_least: int, clients: int, *, turns: int = 1, min_seconds: float = 0.0
) -> list[Phase]:
    """A closed loop dealt to the clients: its runners by when they begin, the pool, and how many of it must be sent."""
    items = [Item(number, body.decode(), None, turns) for number, body in enumerate(bodies)]
    busy = min(clients, len(begins))
    phases = [
        Phase(tuple(items[client::busy]), tuple(begins[client::busy]), len(range(client, at_least, busy)), min_seconds)
        for client in range(busy)
    ]
    return phases + [Phase(())] * (clients - busy)


def ramp(runners: int, ramp_s: float) -> list[float]:
    """When each of a closed loop's runners begins: the first at once, the last after the ramp."""
    return [ramp_s * number / max(1, runners - 1) for number in range(runners)]


def pool_size(planned: PlannedCase, warm: Sequence[Sent]) -> int:
    """How many prompts a closed loop gets: those it must send, and what it will need for its seconds at the rate of the warm-up."""
    case = planned.case
    at_least = math.ceil(planned.iterations / case.turns)
    if not (seconds := [_whole_s(one, case.output_tokens) for one in warm if one.answer.first_content is not None]):
        return at_least
    runners = (case.load.concurrency if case.load else None) or 1
    needed = planned.min_seconds * runners / max(1e-6, statistics.median(seconds) * case.turns)
    return max(at_least, math.ceil(HEADROOM * needed) + runners if planned.min_seconds else 0)


def _whole_s(sent: Sent, output_tokens: int) -> float:
    """How long a warm-up request would have taken with all of the case's tokens."""
    answer = sent.answer
    if answer.first_content is None or answer.last_content is None:
        return 0.0
    gaps = max(1, sum(answer.event_tokens) - 1)
    return answer.first_content - sent.sent + (answer.last_content - answer.first_content) / gaps * (output_tokens - 1)


def _warm_up(
    rounds: _Rounds, session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, clients: int
) -> list[Sent]:
    """Other prompts, few tokens, in a closed loop that an open loop's server can serve at once."""
    case = planned.case
    closed = case.load is not None and case.load.arrivals == "closed"
    count = planned.warmup or int(closed and planned.min_seconds > 0)
    if not count:
        return []
    lengths = (case.prompt_tokens, case.prompt_format, session.encode, session.decode)
    tokens = min(case.output_tokens, WARMUP_TOKENS)
    asked = [Asked((speed_prompt(prompts, number, mark_of(case, process), *lengths),), tokens) for number in range(count)]
    runners = min(count, (case.load.concurrency if case.load and closed else case.slots) or 1)
    phases = closed_phases([one.body(session, case) for one in asked], ramp(runners, 0.0), count, clients)
    return rounds.send("warmup", asked, phases, count)[0]


def mark_of(case: Case, process: int) -> str:
    return f"{process + 1}.{int(case.case_id[-4:], 16) % 1000}"


def _asked(
    session: LoadSession, planned: PlannedCase, process: int, prompts: Prompts, count: int, trace: Trace | None
) -> list[Asked]:
    """What is sent: so many conversations of the case's turns."""
    case = planned.case
    lengths = (case.prompt_tokens, case.prompt_format, session.encode, session.decode)
    return [
        Asked(
            tuple(
                speed_prompt(prompts, number * case.turns + turn, mark_of(case, process), *lengths) for turn in range(case.turns)
            ),
            case.output_tokens,
        )
        for number in range(count)
    ]


def _last_breath(session: LoadSession, sent: Sequence[Sent]) -> str | None:
    """Why a server of ours is gone; its end is waited for when connections broke, as they do so a little earlier."""
    broke = any(one.answer.error and one.answer.error.startswith(("connect", "disconnected")) for one in sent)
    for _ in range(LAST_BREATHS if broke else 0):
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
