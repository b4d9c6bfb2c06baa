"""One request's events in order, and the server's own account of it beside ours. How both are shown is left to others."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from results.metrics import METRICS, request_values
from results.records import Request

SLOWEST = 3
"""So many of the longest gaps are ranked."""
SLOW = 1.5
"""A gap is ranked only when it is longer than the median gap by this factor."""
NOT_SENT = frozenset({"connect", "unsent"})
"""Kinds of errors of requests that never left."""


@dataclass(frozen=True)
class Moment:
    """Something that happened in a request."""

    at_s: float
    """Since it was sent."""
    what: str
    gap_s: float | None = None
    """Since the event before."""
    tokens: int | None = None
    """Of an event: how many it carried."""
    rank: int | None = None
    """1 for the longest gap between events, 2 for the next …"""


def timeline(request: Request) -> tuple[Moment, ...]:
    """Everything that is known to have happened, from the schedule to the last event.

    The gap of the first event counts from when the request was sent, and is never ranked.
    """
    found = [Moment(request.scheduled_s - request.sent_s, "scheduled")]
    if (request.error or "").partition(":")[0] not in NOT_SENT:
        if "connect_s" in request.values:
            found.append(Moment(-request.values["connect_s"], "connecting: no open connection was left"))
        found.append(Moment(0.0, "sent"))
    return (*found, *_ranked(_events(request)))


def _events(request: Request) -> list[Moment]:
    times, tokens = request.event_times_s, request.event_tokens
    full = [number for number, count in enumerate(tokens) if count > 0]
    visible = [number for number in full if request.first_content_s is not None and times[number] >= request.first_content_s]
    thought = [number for number in full if number not in set(visible)]
    marks: dict[int, list[str]] = {}
    for name, numbers in (("thought", thought), ("content", visible)):
        for number in numbers:
            ends = [end for end, place in (("first", numbers[0]), ("last", numbers[-1])) if place == number]
            marks[number] = [f"{' and '.join(ends)} {name}".strip()]
    return [
        Moment(
            at_s=time - request.sent_s,
            what=", ".join(
                [*(["first event"] if number == 0 else []), *marks.get(number, ["no token"])]
                + (["end"] if number == len(times) - 1 else [])
            ),
            gap_s=time - (times[number - 1] if number else request.sent_s),
            tokens=tokens[number],
        )
        for number, time in enumerate(times)
    ]


def _ranked(events: list[Moment]) -> list[Moment]:
    gaps = {number: event.gap_s for number, event in enumerate(events) if number and event.gap_s is not None}
    if len(gaps) < 2:
        return events
    least = SLOW * statistics.median(gaps.values())
    longest = [number for number in sorted(gaps, key=lambda number: -gaps[number]) if gaps[number] > least][:SLOWEST]
    return [replace(event, rank=longest.index(number) + 1) if number in longest else event for number, event in enumerate(events)]


@dataclass(frozen=True)
class Account:
    """One figure as we measured it and as the server tells it."""

    label: str
    unit: str
    ours: float | None
    server: float
    why: str
    """What lies between the two."""

    @property
    def difference(self) -> float | None:
        """Ours minus the server's."""
        return None if self.ours is None else self.ours - self.server


def accounts(request: Request) -> tuple[Account, ...]:
    """What the server said of itself, beside ours; empty when it said nothing."""
    return tuple(
        Account(label, METRICS[name].unit, ours(request), request.values[name], why)
        for label, name, ours, why in _ACCOUNTS
        if name in request.values
    )


def _value(name: str) -> Callable[[Request], float | None]:
    return lambda request: next(iter(request_values(name, request)), None)


def _decode_s(request: Request) -> float | None:
    first, last = request.first_content_s, request.last_content_s
    return None if first is None or last is None or request.error else last - first


def _unknown(_: Request) -> None:
    return None


_ACCOUNTS: tuple[tuple[str, str, Callable[[Request], float | None], str], ...] = (
    ("Loading", "server_load_s", _unknown, "part of our TTFT"),
    ("TTFT / prefill", "server_prefill_s", _value("ttft_s"), "network, waiting, sampling, the server's work before and after"),
    ("Decoding", "server_decode_s", _decode_s, "events that arrived bunched or late"),
    ("Decode rate", "server_decode_tps", _value("decode_tps"), "the same"),
    ("Total", "server_total_s", _value("e2e_s"), "network, and what came after the last token"),
)
