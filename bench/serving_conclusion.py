"""What a serving sweep found, in a sentence. Deciding what to measure is left to `bench.serving`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.serving import Reached, Serving, bracket, ends, next_loads, rates_of, span_of, tried_of, verdict


@dataclass(frozen=True)
class Conclusion:
    """What a sweep found, as far as it went."""

    sentence: str
    holds: Reached | None = None
    """The highest rate that holds the limits, with none below it that does not."""
    misses: Reached | None = None
    """The lowest rate above it that was not proven to hold them."""
    finished: bool = True
    monotone: bool = True
    """Whether nothing held above what missed."""


def conclusion(serving: Serving, done: Sequence[Reached]) -> Conclusion:
    """The sweep's answer, in one or two sentences."""
    tried = tried_of(done)
    finished = not next_loads(serving, done)
    if any(load not in tried for load in ends(serving)) or span_of(serving, tried) is None:
        lost = next((load for load in ends(serving) if load in tried and tried[load].failed), None)
        why = f": the closed loop {lost.label} failed" if lost else ""
        return Conclusion(f"The server's lowest and highest throughput were not measured{why}.", finished=finished)
    slow, fast = (tried[load].request_rate or 0.0 for load in ends(serving))
    rates = rates_of(serving, tried)
    if not serving.find_max:
        full = min((place for place, one in rates.items() if one.over_saturated), default=None)
        end = "No rate between was over-saturated." if full is None else f"From {_rate(rates[full])} on it is over-saturated."
        between = f"It answers {slow:.3g}/s one at a time and {fast:.3g}/s with {serving.all_at_once} at once."
        every = [*(tried[load] for load in ends(serving)), *(one for _, one in sorted(rates.items()))]
        told = " ".join([between, end, *_errors(every), *_doubts(every)])
        return Conclusion(f"{'' if finished else 'So far: '}{told}", finished=finished)
    below, above = bracket(serving, rates)
    holds, misses = (None if place is None else rates[place] for place in (below, above))
    odd = [_rate(one) for place, one in sorted(rates.items()) if above is not None and place > above and _holds(serving, one)]
    sentence = _found(serving, tried[ends(serving)[0]], holds, misses)
    if odd:
        sentence += f" Yet {', '.join(odd)} held: that does not fit, so measure again before you rely on it."
    return Conclusion(f"{'' if finished else 'So far: '}{sentence}", holds, misses, finished, not odd)


def _errors(every: Sequence[Reached]) -> list[str]:
    """The first load at which requests failed, and the worst."""
    failing = [one for one in every if one.error_share]
    worst = sorted(failing, key=lambda one: -one.error_share)[:1]
    shares = [f"{100 * one.error_share:.2g} % at {_rate(one)}" for one in dict.fromkeys(failing[:1] + worst)]
    return [f"Requests failed: {', '.join(shares)}."] if shares else []


def _doubts(every: Sequence[Reached]) -> list[str]:
    doubtful = [one for one in every if one.doubt]
    return [f"In doubt: {', '.join(map(_rate, doubtful))}, as {doubtful[0].doubt}."] if doubtful else []


def _holds(serving: Serving, one: Reached) -> bool:
    return verdict(serving, one) == "holds"


def _found(serving: Serving, alone: Reached, holds: Reached | None, misses: Reached | None) -> str:
    limits = serving.limits.text
    if holds is None:
        if verdict(serving, alone) == "fails":
            return f"No rate holds {limits}: one request at a time {_why(serving, alone)}."
        return f"No rate is known to hold {limits}" + (f": {_rate(misses)} {_why(serving, misses)}." if misses else ".")
    proof = f"{100 * serving.confidence:g} % confidence, {_late(serving, holds)}"
    if misses is None:
        return f"Every rate that was tried holds {limits}, up to {_rate(holds)} ({proof}): raise all_at_once to look further."
    return f"The highest rate that holds {limits} is {_rate(holds)} ({proof}); {_rate(misses)} {_why(serving, misses)}."


def _why(serving: Serving, one: Reached) -> str:
    if one.failed:
        return "broke down"
    word = "is over-saturated" if one.over_saturated else "fails" if verdict(serving, one) == "fails" else "stays open"
    return f"{word} ({_late(serving, one)}{f'; {one.doubt}' if one.doubt else ''})"


def _late(serving: Serving, one: Reached) -> str:
    """The limit that was missed most often, and how often; what the count is worth where bunches halve it and it matters."""
    term, count = min(zip(serving.limits.terms, one.counts, strict=True), key=lambda pair: pair[1].met)
    missed = count.total - count.met
    counts_less = count.bunching >= 2 and verdict(serving, one) != "fails"
    worth = f", worth {count.total / count.bunching:.0f} as slow ones come in bunches" if counts_less else ""
    what = f" missed {term.text}" if len(one.counts) > 1 and missed else " late"
    return f"{missed} of {count.total}{what}{worth}"


def _rate(one: Reached) -> str:
    return f"{one.load.rate:g}/s" if one.load.rate else one.load.label
