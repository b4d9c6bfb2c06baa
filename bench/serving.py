"""The serving sweep's decisions: which load to measure next, and with how many requests.

Pure functions of what was measured: asked again with the same measurements they decide the same, so a stopped sweep goes
on by asking. Measuring is left to `bench.sweep`, the statistics to `results.limits`, the words for what was found to
`bench.serving_conclusion`.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from results.cases import Load, PlannedCase
from results.caveats import sentence
from results.errors import UsageError
from results.limits import Limit, Limits, Verdict, bunching, parse_limits, proven, requests_needed
from results.metrics import process_value
from results.records import Failure, Measurement

R20 = (1.0, 1.12, 1.25, 1.4, 1.6, 1.8, 2.0, 2.24, 2.5, 2.8, 3.15, 3.55, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1, 8.0, 9.0)
"""Preferred numbers (Renard, ISO 3), 12 % apart: rates are taken from them, so that those of different runs meet by case."""
OCTAVE = 6
"""So many places on that grid double a rate."""

LEAST = 100
"""Requests at a rate: with so many, a rate a fifth above what the server can do is seen as too much nine times in ten."""
LATE = 2
"""Late answers among the first requests that a proof is to survive."""
LOOKS = 2
"""How often one rate is judged: once, and again after more requests where it was open. The doubt is shared out (Bonferroni)."""
MOST = 9
"""Times the first requests that a second look may come to."""
SHEDDING = 0.05
"""Share of errors beyond which a server is taken to refuse what it cannot serve: its queue does not grow, and yet it is full."""
CLIENT_DOUBTS = ("arrivals", "client_bottleneck")
"""Warnings that the rate was not offered as planned."""


class Serving(BaseModel):
    """Which loads a server is put under: one at a time, all at once, rates between, and a search for the highest that holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    steps: Annotated[int, Field(ge=0, le=50)] = Field(5, description="Rates between one at a time and all at once.")
    all_at_once: Annotated[int, Field(ge=2)] = Field(32, description="Requests in flight that give the highest throughput.")
    arrivals: Literal["constant", "poisson", "gamma"] = Field("poisson", description="How requests come at a rate.")
    burstiness: Annotated[FiniteFloat, Field(gt=0)] | None = Field(
        None, description="Shape of gamma arrivals: 1 is Poisson, less comes in bursts."
    )
    find_max: str | None = Field(
        None, description="Find the highest rate that holds these limits, e.g. ttft_s.p99<0.5 and tpot_s.p99<0.05."
    )
    confidence: Annotated[FiniteFloat, Field(gt=0.5, lt=1)] = Field(0.95, description="Of the statement that a rate holds.")

    @field_validator("find_max")
    @classmethod
    def _with_percentiles(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            limits = parse_limits(text)
        except UsageError as error:
            raise ValueError(str(error)) from None
        for term in limits.terms:
            if term.percentile is None:
                raise ValueError(
                    f"{term.text} needs a percentile, as no count proves it of every request: write for example .p99."
                )
        return limits.text

    @model_validator(mode="after")
    def _gamma_has_a_shape(self) -> Self:
        if (self.burstiness is not None) != (self.arrivals == "gamma"):
            raise ValueError("burstiness belongs to gamma arrivals: give both or none.")
        return self

    @property
    def limits(self) -> Limits:
        """Those of `find_max`; none without a search."""
        return parse_limits(self.find_max) if self.find_max else Limits(())

    @property
    def shares(self) -> tuple[float, ...]:
        """For each limit, of the requests that must meet it."""
        return tuple(term.share for term in self.limits.terms if term.share is not None)

    @property
    def doubt_per_look(self) -> float:
        return (1 - self.confidence) / LOOKS


@dataclass(frozen=True)
class Count:
    """How many requests met one limit."""

    met: int
    total: int
    """All that were scheduled; errors and those never sent are misses."""
    bunching: float = 1.0
    """For how many requests in a row one stands; see `results.limits.bunching`."""


@dataclass(frozen=True)
class Reached:
    """What one load came to, over all of its processes."""

    load: Load
    processes: int
    scheduled: int
    request_rate: float | None
    """Answers per second; the offered rate is the load's."""
    error_share: float
    counts: tuple[Count, ...] = ()
    """For each limit of the search."""
    over_saturated: bool | None = None
    failed: bool = False
    """A process of it failed, or no request was answered."""
    doubt: str | None = None
    """Why the load was perhaps not put on the server as planned in one of the processes."""

    @property
    def too_much(self) -> bool:
        """Whether the server could not serve it: higher rates tell nothing new."""
        return self.failed or bool(self.over_saturated) or self.error_share > SHEDDING


def reached(
    serving: Serving, planned: PlannedCase, measurements: Sequence[Measurement], failures: Sequence[Failure] = ()
) -> Reached:
    """What a case under load came to.

    Args:
        measurements: all of this case, one for each process.
        failures: of the same, as far as they still stand.
    """
    load = planned.case.load
    if load is None:
        raise ValueError(f"{planned.label} has no load")
    requests = [request for one in measurements for request in one.requests]
    answered = sum(not request.error for request in requests)
    rates = [rate for one in measurements if (rate := process_value("request_rate", one)) is not None]
    told = [one.values["over_saturated"] > 0 for one in measurements if "over_saturated" in one.values]
    doubts = [sentence(warning) for one in measurements for warning in one.warnings if warning.kind in CLIENT_DOUBTS]
    return Reached(
        load=load,
        processes=len(measurements),
        scheduled=len(requests),
        request_rate=statistics.median(rates) if rates else None,
        error_share=1 - answered / len(requests) if requests else 1.0,
        counts=tuple(_count(term, measurements) for term in serving.limits.terms),
        over_saturated=2 * sum(told) >= len(told) if told else None,
        failed=bool(measurements and not answered) or any(failure.kind != "interrupted" for failure in failures),
        doubt=next(iter(doubts), None),
    )


def _count(limit: Limit, measurements: Sequence[Measurement]) -> Count:
    met = total = 0
    worth = 0.0
    for one in measurements:
        requests = sorted(one.requests, key=lambda request: request.scheduled_s)
        met += sum(map(limit.met, requests))
        total += len(requests)
        worth += len(requests) / bunching([limit.excess(request) for request in requests], limit.share or 0.0)
    return Count(met, total, total / worth if worth else 1.0)


def requests_of(serving: Serving, load: Load, iterations: int, processes: int = 1) -> int:
    """How many requests a process sends at a load: the suite's iterations, or more where the load's questions need them.

    A closed loop needs four rounds of its concurrency for its throughput, a rate 100 requests for the verdict on
    over-saturation, and with `find_max`, over all processes, those that prove each share in spite of two late answers.
    """
    if load.concurrency is not None:
        return max(iterations, 4 * load.concurrency)
    return max(iterations, LEAST, math.ceil(requests_to_prove(serving) / processes))


def requests_to_prove(serving: Serving) -> int:
    """How many requests at a rate, over all processes, prove that it holds each limit of the search; 0 without a search."""
    return max((requests_needed(share, 1 - serving.doubt_per_look, LATE) for share in serving.shares), default=0)


def next_loads(serving: Serving, done: Sequence[Reached]) -> tuple[Load, ...]:
    """What to measure next: the two ends, then one rate after the other; nothing when the sweep is finished.

    A load that was measured already comes again where its verdict is open and more processes may prove that it holds;
    `processes_of` tells how many. Every load must have been measured in all of its processes before this is asked.
    """
    tried = tried_of(done)
    if missing := tuple(load for load in ends(serving) if load not in tried):
        return missing
    span = span_of(serving, tried)
    if span is None:
        return ()
    for place in _steps(serving, *span):
        step = tried.get(_load_at(serving, place))
        if step is None:
            return (_load_at(serving, place),)
        if step.too_much:
            break
    wanted = _search(serving, tried, *span) if serving.find_max else None
    return () if wanted is None else (_load_at(serving, wanted),)


def processes_of(serving: Serving, load: Load, processes: int, done: Sequence[Reached] = ()) -> int:
    """In how many processes in all a load is to be measured: the suite's, or more when it comes again."""
    again = next((one for one in done if one.load == load), None)
    return processes if again is None else _to_prove(serving, again, processes) or again.processes


def verdict(serving: Serving, one: Reached) -> Verdict:
    """Whether a load holds the limits of the search: each of them proven, nothing failed, no queue that grows, and no doubt
    that the load was offered."""
    found = "fails" if one.failed or one.over_saturated else _judge(serving, one.counts)
    return "open" if one.doubt and found == "holds" else found


def _judge(serving: Serving, counts: Sequence[Count], times: float = 1.0) -> Verdict:
    """The verdict on so many times the counts.

    Holding asks all limits to be proven, which needs no correction for their number (intersection-union test).
    """
    found = [
        proven(share, times * one.met / one.bunching, times * one.total / one.bunching, 1 - serving.doubt_per_look)
        for share, one in zip(serving.shares, counts, strict=True)
    ]
    return "fails" if "fails" in found else "open" if "open" in found else "holds"


def _to_prove(serving: Serving, one: Reached, first: int) -> int | None:
    """Processes in all that would prove an open load to hold if late answers went on coming as they do, and a quarter more.

    `None` where it is settled, in doubt, was looked at twice (it has more processes than `first`), or too many would be
    needed: that a rate fails is not worth the time of proving it.
    """
    if one.doubt or one.processes > first or verdict(serving, one) != "open":
        return None
    most = MOST * one.processes
    for processes in range(one.processes + 1, most + 1):
        if _judge(serving, one.counts, processes / one.processes) == "holds":
            return min(most, math.ceil(1.25 * processes))
    return None


def tried_of(done: Sequence[Reached]) -> dict[Load, Reached]:
    """By load, without those that were planned but not measured yet."""
    return {one.load: one for one in done if one.processes or one.failed}


def ends(serving: Serving) -> tuple[Load, Load]:
    return Load(arrivals="closed", concurrency=1), Load(arrivals="closed", concurrency=serving.all_at_once)


def span_of(serving: Serving, tried: Mapping[Load, Reached]) -> tuple[float, float] | None:
    """The lowest and highest rates between which the steps lie; `None` where an end gave none.

    A server that gains little from many at once would leave no room between its ends, so the lower one is at most half
    of the higher.
    """
    found = [tried[load] for load in ends(serving)]
    rates = [one.request_rate for one in found if one.request_rate and not one.failed]
    return (min(*rates, max(rates) / 2), max(rates)) if len(rates) == 2 else None


def _steps(serving: Serving, low: float, high: float) -> list[int]:
    """Places of evenly spaced rates between the ends, ascending; fewer where the grid has fewer."""
    width = (high - low) / (serving.steps + 1)
    return sorted({_place(low + step * width) for step in range(1, serving.steps + 1)})


def _search(serving: Serving, tried: Mapping[Load, Reached], low: float, high: float) -> int | None:
    """The place to look at next: one that is still open, else up or down until one holds and a higher one does not,
    then between the two."""
    first = max(tried[load].processes for load in ends(serving))
    if verdict(serving, tried[ends(serving)[0]]) == "fails":
        return None
    rates = rates_of(serving, tried)
    again = {place for place, one in rates.items() if _to_prove(serving, one, first)}
    below, above = bracket(serving, {place: one for place, one in rates.items() if place not in again})
    if waiting := [place for place in again if (below is None or place > below) and (above is None or place < above)]:
        return min(waiting)
    if above is None:
        if below is None:
            return _place((low + high) / 2)
        return below + 1 if below < _place(high) + OCTAVE else None
    if below is None:
        bottom = _place(low) - 4 * OCTAVE
        return max(above - OCTAVE, bottom) if above > bottom else None
    return (below + above) // 2 if above - below > 1 else None


def rates_of(serving: Serving, tried: Mapping[Load, Reached]) -> dict[int, Reached]:
    """The sweep's own rates by their place on the grid."""
    return {
        place: one
        for load, one in tried.items()
        if load.rate is not None and load == _load_at(serving, place := _place(load.rate))
    }


def bracket(serving: Serving, rates: Mapping[int, Reached]) -> tuple[int | None, int | None]:
    """(the highest place that holds with none below it that fails, the lowest above it that does not hold).

    An open place below one that holds is no obstacle: what holds at a rate holds at less.
    """
    verdicts = {place: verdict(serving, one) for place, one in rates.items()}
    lost = min((place for place, one in verdicts.items() if one == "fails"), default=math.inf)
    below = max((place for place, one in verdicts.items() if one == "holds" and place < lost), default=None)
    above = min((place for place, one in verdicts.items() if one != "holds" and (below is None or place > below)), default=None)
    return below, above


def _load_at(serving: Serving, place: int) -> Load:
    rate = float(f"{R20[place % len(R20)]}e{place // len(R20)}")
    return Load(arrivals=serving.arrivals, rate=rate, burstiness=serving.burstiness)


def _place(rate: float) -> int:
    """The place on the grid that is nearest to a rate: 0 is 1/s, 20 is 10/s."""
    return round(len(R20) * math.log10(rate))
