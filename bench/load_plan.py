"""Which client sends what when: an open loop's schedule, or a closed loop's runners and its pool, dealt disjointly."""

import math
from bisect import bisect_left
from collections.abc import Sequence

from bench.arrivals import deal, schedule
from bench.client_protocol import Item, Phase, Sent
from bench.trace import Trace
from results.cases import Load, PlannedCase

HEADROOM = 1.5
"""Of a closed loop's pool of prompts over what it would need at the pace of the warm-up."""


def due(load: Load, at_least: int, min_seconds: float, seed: int, trace: Trace | None) -> tuple[float, ...]:
    """Seconds after the start at which an open loop's requests are due: so many, and all within so many seconds."""
    if load.arrivals == "trace":
        if trace is None:
            raise ValueError("a load that replays a trace needs it")
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
    """How many prompts a closed loop gets: those it must send, and what it will need for its seconds if all are as
    fast as the fastest of the warm-up."""
    case = planned.case
    at_least = math.ceil(planned.iterations / case.turns)
    if not (seconds := [_whole_s(one, case.output_tokens) for one in warm if one.answer.first_content is not None]):
        return at_least
    runners = (case.load.concurrency if case.load else None) or 1
    needed = planned.min_seconds * runners / max(1e-6, min(seconds) * case.turns)
    return max(at_least, math.ceil(HEADROOM * needed) + runners if planned.min_seconds else 0)


def _whole_s(sent: Sent, output_tokens: int) -> float:
    """How long a warm-up request would have taken with all of the case's tokens."""
    answer = sent.answer
    if answer.first_content is None or answer.last_content is None:
        return 0.0
    gaps = max(1, sum(answer.event_tokens) - 1)
    return answer.first_content - sent.sent + (answer.last_content - answer.first_content) / gaps * (output_tokens - 1)
