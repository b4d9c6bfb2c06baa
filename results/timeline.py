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


def was_not_sent(request: Request) -> bool:
    return (request.error or "").partition(":")[0] in NOT_SENT


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
    """1 for the longest gap after the first token, 2 for the next …"""


def timeline(request: Request) -> tuple[Moment, ...]:
    """Everything that is known to have happened, from the schedule to the last event, whose first gap is from `sent` on."""
    found = [Moment(request.scheduled_s - request.sent_s, "scheduled")]
    if not was_not_sent(request):
        if "connect_s" in request.values:
            found.append(Moment(-request.values["connect_s"], "connecting: no open connection was left"))
        found.append(Moment(0.0, "sent"))
    return (*found, *_ranked(_events(request)))


def _events(request: Request) -> list[Moment]:
    times, tokens, first_content = request.event_times_s, request.event_tokens, request.first_content_s
    full = [number for number, count in enumerate(tokens) if count > 0]
    content = [number for number in full if first_content is not None and times[number] >= first_content]
    thoughts = full[: len(full) - len(content)]
    names = {
        number: _name(number, numbers, kind)
        for numbers, kind in ((thoughts, "thought"), (content, "content"))
        for number in numbers
    }
    found = []
    for number, (time, count) in enumerate(zip(times, tokens, strict=True)):
        before = times[number - 1] if number else request.sent_s
        parts = ["first event" if number == 0 else "", names.get(number, "no token"), "end" if number == len(times) - 1 else ""]
        found.append(Moment(time - request.sent_s, ", ".join(filter(None, parts)), time - before, count))
    return found


def _name(number: int, numbers: list[int], kind: str) -> str:
    ends = [end for end, place in (("first", numbers[0]), ("last", numbers[-1])) if place == number]
    return f"{' and '.join(ends)} {kind}".strip()


def _ranked(events: list[Moment]) -> list[Moment]:
    first_token = next((number for number, event in enumerate(events) if event.tokens), len(events))
    gaps = {number: event.gap_s for number, event in enumerate(events) if number > first_token and event.gap_s is not None}
    if len(gaps) < 2:
        return events
    least = SLOW * statistics.median(gaps.values())
    longest = [number for number in sorted(gaps, key=lambda number: -gaps[number]) if gaps[number] > least][:SLOWEST]
    ranks = {number: rank for rank, number in enumerate(longest, 1)}
    return [replace(event, rank=ranks.get(number)) for number, event in enumerate(events)]


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
    ("TTFT / prefill", "server_prefill_s", _value("ttft_s"), "network, waiting, first sampling"),
    ("Decoding", "server_decode_s", _decode_s, "uneven delivery"),
    ("Decode rate", "server_decode_tps", _value("decode_tps"), "uneven delivery"),
    ("Total", "server_total_s", _value("e2e_s"), "network, the end of the answer"),
)
