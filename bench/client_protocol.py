"""What a load's coordinator and its clients tell each other: one JSON object a line, on standard input and output.

The coordinator says `job` once, then for each phase `phase` (answered by `ready`), `go` with the start on the clock that both
share, and when all clients have told `ended`, `report`. In between come `turn` with the next request of a conversation, and
`stop`. A client tells `progress` and whether it stopped by itself, asks with `turn`, and answers `report` with one `sent` for each request and a `usage`.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from monitor.stream import Answer, Arrivals, Dialect


@dataclass(frozen=True)
class Job:
    """Whom a client asks and how, in all phases; holds secrets, so it goes through the pipe only."""

    url: str
    headers: dict[str, str] = field(repr=False)
    dialect: Dialect
    timeout_s: float
    retries: int
    give_up_after: int


@dataclass(frozen=True)
class Item:
    """A request, or a conversation that begins with one."""

    number: int
    """Among all items of the phase, whichever client sends them."""
    body: str
    at_s: float | None = None
    """Seconds from the start of an open loop."""
    turns: int = 1


@dataclass(frozen=True)
class Phase:
    """What one client sends, in this order."""

    items: tuple[Item, ...]
    runners: tuple[float, ...] = ()
    """Of a closed loop: seconds from the start after which each of its runners begins."""
    at_least: int = 0
    """Items after which a closed loop may end; those after them are sent while `min_seconds` lasts."""
    min_seconds: float = 0.0


@dataclass(frozen=True)
class Stop:
    """Why nothing more shall be sent."""

    why: str
    at_once: bool = False
    """What is in flight is given up too, as `timeout`."""


@dataclass(frozen=True)
class Sent:
    """One request as its client saw it, in times of the shared clock."""

    number: int
    turn: int
    """In its conversation, from 1."""
    scheduled: float
    sent: float
    """The first time that it was sent; when nothing could be sent, when that was tried."""
    ended: float
    answer: Answer
    """Of the last attempt, as `ended`."""
    connect_s: float | None = None
    """Of the first attempt."""
    attempts: int = 0
    last_sent: float | None = None
    """The last time, when there were several."""
    reads: int = 0
    raw: Arrivals = ()
    """The answer's bytes, where it did not say how many tokens they are."""


@dataclass(frozen=True)
class Usage:
    """What one phase cost its client."""

    cpu_s: float
    wall_s: float
    stall_p99_s: float
    """How late the client's heartbeat came."""
    stall_max_s: float


def line(event: str, **facts: Any) -> str:
    return json.dumps({"event": event, **facts}, separators=(",", ":")) + "\n"


def job_line(job: Job) -> str:
    return line("job", **asdict(job))


def read_job(facts: dict[str, Any]) -> Job:
    return Job(**_facts(facts))


def phase_line(phase: Phase) -> str:
    items = [[item.number, item.body, item.at_s, item.turns] for item in phase.items]
    return line("phase", items=items, runners=phase.runners, at_least=phase.at_least, min_seconds=phase.min_seconds)


def read_phase(facts: dict[str, Any]) -> Phase:
    items = tuple(Item(*one) for one in facts["items"])
    return Phase(items, tuple(facts["runners"]), facts["at_least"], facts["min_seconds"])


def sent_line(sent: Sent) -> str:
    raw = [(time, data.decode("latin-1")) for time, data in sent.raw]
    return line("sent", **(vars(sent) | {"answer": vars(sent.answer), "raw": raw}))


def read_sent(facts: dict[str, Any]) -> Sent:
    answer = facts["answer"]
    tuples = {name: tuple(answer[name]) for name in ("event_times", "event_tokens")}
    raw = tuple((time, data.encode("latin-1")) for time, data in facts["raw"])
    return Sent(**(_facts(facts) | {"answer": Answer(**(answer | tuples)), "raw": raw}))


def usage_line(usage: Usage) -> str:
    return line("usage", **vars(usage))


def read_usage(facts: dict[str, Any]) -> Usage:
    return Usage(**_facts(facts))


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "event"}
