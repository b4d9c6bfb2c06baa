"""Limits on latency such as `ttft_s.p99<0.5 and tpot_s.p99<0.05`: read, applied to requests, and proven or refuted by counting.

What a load must be to hold them is left to the sweep that searches for it.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from results.errors import UsageError
from results.metrics import METRICS, request_values
from results.records import Request
from results.validation import nearest

Verdict = Literal["holds", "fails", "open"]

LIMITABLE = tuple(
    name
    for name, metric in METRICS.items()
    if metric.level == "request" and metric.tool is None and re.fullmatch(r"(.+/)?s", metric.unit)
)
"""The metrics that a limit can be put on: times and rates of single requests."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AFTER_FIRST = frozenset({"tpot_s", "itl_s", "decode_tps"})
_TERM = re.compile(
    r"\s*(?P<metric>[A-Za-z]\w*)(?:\.(?P<quantile>\w+(?:\.\d+)?))?\s*(?P<operator>[<>]=?)"
    r"\s*(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z/]+)?\s*"
)


@dataclass(frozen=True)
class Limit:
    metric: str
    operator: str
    bound: float
    """In the metric's base unit."""
    percentile: float | None = None
    """Of the requests, at which the bound must hold; `None`: in every one."""

    @property
    def share(self) -> float | None:
        """The share of the requests that must meet the bound: 0.99 for `ttft_s.p99<0.5` and for `decode_tps.p1>20`."""
        if self.percentile is None:
            return None
        return round((self.percentile if self.operator[0] == "<" else 100 - self.percentile) / 100, 9)

    @property
    def text(self) -> str:
        quantile = "" if self.percentile is None else f".p{_number(self.percentile)}"
        return f"{self.metric}{quantile}{self.operator}{_number(self.bound)}"

    def excess(self, request: Request) -> float:
        """How bad a request was, for ranking: the value, turned round where more is better; infinite where it failed.

        The largest gap stands for `itl_s`. An answer of one token has no time between tokens, so limits on that time are
        met (minus infinity). Any other missing value misses, also that of many tokens in one event: what was not measured
        proves nothing.
        """
        values = request_values(self.metric, request)
        if values:
            return max(values) if self.operator[0] == "<" else -min(values)
        one_token = request.output_tokens == 1 and request.first_content_s is not None and not request.error
        return -math.inf if one_token and self.metric in _AFTER_FIRST else math.inf

    def met(self, request: Request) -> bool:
        """Whether this one request meets the bound, whatever share of them must."""
        excess = self.excess(request)
        if math.isinf(excess):
            return excess < 0
        return _OPERATORS[self.operator](excess if self.operator[0] == "<" else -excess, self.bound)


@dataclass(frozen=True)
class Limits:
    terms: tuple[Limit, ...]

    @property
    def text(self) -> str:
        """The canonical form, in base units; `parse_limits` reads it back."""
        return " and ".join(term.text for term in self.terms)

    def met(self, request: Request) -> bool:
        """Whether the request meets every bound; a failed request never does."""
        return all(term.met(request) for term in self.terms)


def parse_limits(text: str) -> Limits:
    """Limits from `METRIC[.pNN] (<|<=|>|>=) NUMBER[unit] [and …]`; the units `s` and `ms`, or the metric's own, may stand.

    Raises:
        UsageError: with the position, and the nearest name of a metric.
    """
    terms: list[Limit] = []
    for start, part in _parts(text):
        found = _TERM.fullmatch(part)
        try:
            if found is None:
                raise ValueError("is no limit: write for example ttft_s<0.5 or ttft_s.p99<500ms, joined by `and`.")
            term = _limit(found)
            if any((term.metric, term.percentile) == (one.metric, one.percentile) for one in terms):
                raise ValueError("limits the same twice: remove one of the two.")
        except ValueError as error:
            raise UsageError(f"limits, character {start + 1}: {part.strip()!r} {error}") from None
        terms.append(term)
    return Limits(tuple(terms))


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """(position, text) of what stands between the `and`s."""
    start = 0
    for joint in [*re.finditer(r"(?<!\S)and(?!\S)", text), None]:
        end = joint.start() if joint else len(text)
        part = text[start:end]
        yield start + len(part) - len(part.lstrip()), part
        start = joint.end() if joint else end


def _limit(found: re.Match[str]) -> Limit:
    name, sign, unit = found["metric"], found["operator"], found["unit"]
    if name not in LIMITABLE:
        if name in METRICS:
            raise ValueError(f"limits no time or rate of a request: choose from {', '.join(LIMITABLE)}.")
        raise ValueError(f"names an unknown metric{nearest(name, LIMITABLE)}")
    metric = METRICS[name]
    if metric.better == ("higher" if sign[0] == "<" else "lower"):
        raise ValueError(f"points the wrong way: {metric.better} is better for {name}.")
    units = {"s": 1, "ms": 1000} if metric.unit == "s" else {metric.unit: 1}
    if unit is not None and unit not in units:
        raise ValueError(f"has an unknown unit {unit!r}: choose from {', '.join(units)}.")
    try:
        bound = float(Decimal(found["number"]) / units[unit or metric.unit])
    except ArithmeticError:  # an exponent of too many digits
        bound = math.inf
    if not 0 < bound < math.inf:
        raise ValueError("needs a positive number.")
    return Limit(name, sign, bound, None if found["quantile"] is None else _percentile(found["quantile"], name, sign))


def _percentile(text: str, name: str, sign: str) -> float:
    digits = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,3})?)", text)
    if digits is None or not (percentile := float(digits[1])):
        raise ValueError(f"has the unknown percentile {text!r}: write for example {name}.p99.")
    if (percentile < 50) if sign[0] == "<" else (percentile > 50):
        other = f"{name}.p{_number(round(100 - percentile, 3))}{sign}"
        raise ValueError(f"lets most requests miss the bound: {other} asks it of most.")
    return percentile


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def proven(share: float, met: float, total: float, confidence: float) -> Verdict:
    """Whether at least this share of all requests meets a limit, as far as a count of some can tell.

    The exact one-sided bounds of a binomial share (Clopper and Pearson, Biometrika 26, 1934), each with this
    confidence: it holds when the lower one is at least `share`, fails when the upper one is less, and is open else.

    Args:
        total: everything that was scheduled; errors and what was never sent are misses. Counts divided by their
            `bunching` need not be whole (Korn and Graubard, Survey Methodology 24, 1998).
    """
    from scipy.special import betaincinv

    missed = total - met
    if met > 0 and float(betaincinv(met, missed + 1, 1 - confidence)) >= share:
        return "holds"
    if missed > 0 and float(betaincinv(met + 1, missed, confidence)) < share:
        return "fails"
    return "open"


def requests_needed(share: float, confidence: float, misses: int = 0) -> int:
    """The fewest independent requests that prove a share with so many misses: 299 for 0.99 at 95 % with none, 459 at 99 %.

    The idea is that of MLPerf's LoadGen, which lets a run end as soon as its late answers are few enough.
    """
    if not 0 < share < 1:
        raise ValueError(f"no count proves a share of {share}")
    low, high = 0, 1
    while proven(share, high, high + misses, confidence) != "holds":
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(share, middle, middle + misses, confidence) == "holds" else (middle, high)
    return high + misses


def bunching(excesses: Sequence[float], share: float) -> float:
    """For how many requests in a row one stands: 1 when late answers come singly, more when they come in bursts, as in queues.

    Counts divided by it are worth as much as independent ones. It is the integrated autocorrelation time, summed over
    the initial positive sequence of pairs (Geyer, Statistical Science 7, 1992), of whether a request is among the worst:
    the 1 - `share` of them, but at least one in ten, so that there is something to see before any is late.

    Args:
        excesses: `Limit.excess` of each request, in the order of their schedule.
    """
    n = len(excesses)
    edge = sorted(excesses)[min(n - 1, int(n * min(share, 0.9)))] if n else 0.0
    mask = sum(1 << place for place, excess in enumerate(excesses) if excess > edge)
    mean = mask.bit_count() / n if n else 0.0
    if not 0 < mean < 1:
        return 1.0

    def correlation(lag: int) -> float:
        both = (mask & (mask >> lag)).bit_count()
        ends = (mask >> lag).bit_count() + (mask & ((1 << (n - lag)) - 1)).bit_count()
        return (both - mean * ends + (n - lag) * mean**2) / (n * mean * (1 - mean))

    time = -1.0
    for lag in range(0, n // 2, 2):
        pair = correlation(lag) + correlation(lag + 1)
        if pair <= 0:
            break
        time += 2 * pair
    return max(1.0, time)
