"""Which configurations are worth a look: those that no other one beats in speed, memory and quality at once.

Reads rows of the standing table and draws nothing. Rows are only set against rows that were asked the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from results.cases import Case
from results.metrics import METRICS
from results.stats import Estimate
from results.summary import CaseRow

MEMORY = ("peak_device_bytes", "peak_rss_bytes")
QUALITY = ("quality",)

Standing = Literal["frontier", "close", "beaten", "unknown"]


@dataclass(frozen=True)
class Point:
    """One configuration at one task."""

    row: CaseRow
    values: dict[str, Estimate]
    """By `speed`, `memory` and `quality`; those that were not measured are absent."""
    standing: Standing
    """`frontier`: no other is at least as good in all and better in one; `close`: one is, but by less than the intervals leave
    in doubt; `beaten`: one clearly is; `unknown`: it lacks a metric that others have."""
    beaten_by: CaseRow | None = None
    """The fastest of those that are better; for `close` and `beaten`."""


@dataclass(frozen=True)
class Frontier:
    """Configurations that did the same task, in the order of their memory."""

    task: str
    """Such as `pp32 tg16`."""
    axes: dict[str, str]
    """Metric names by `speed`, `memory` and `quality`, of those that any row has."""
    points: tuple[Point, ...]

    def best_within(self, memory_bytes: float) -> dict[str, Point]:
        """The best that fits, by what it is best in: `quality` (the faster of equals), and `speed`."""
        fitting = [one for one in self.points if "memory" in one.values and one.values["memory"].value <= memory_bytes]
        found = {}
        for first, then in (("quality", "speed"), ("speed", "quality")):
            known = [one for one in fitting if first in one.values]
            if known:
                found[first] = max(known, key=lambda one: (one.values[first].value, _value(one, then)))
        return found


def frontiers(rows: Iterable[CaseRow]) -> list[Frontier]:
    """One per task, for tasks that more than one configuration did, in the order of the rows; rows without any value are left out."""
    tasks: dict[tuple[object, ...], list[CaseRow]] = {}
    for row in rows:
        case = row.planned.case
        if row.processes and case.purpose == "speed":
            asked = (case.workload, case.prompt_format, case.prompt_tokens, case.stop, case.shape)
            tasks.setdefault(asked, []).append(row)
    return [_frontier(mine) for mine in tasks.values() if len(mine) > 1]


def _frontier(rows: Sequence[CaseRow]) -> Frontier:
    axes = {
        name: metric
        for name, metrics in (("speed", (_speed(rows[0].planned.case),)), ("memory", MEMORY), ("quality", QUALITY))
        if (metric := _first(metrics, rows)) is not None
    }
    known = [(row, {name: row.estimates[metric] for name, metric in axes.items() if metric in row.estimates}) for row in rows]
    points = [_placed(row, values, axes, known) for row, values in known]
    points.sort(key=lambda one: _value(one, "memory"))
    return Frontier(rows[0].planned.case.shape, axes, tuple(points))


def _speed(case: Case) -> str:
    """What counts for a load, for a batch, or for one request at a time."""
    return "output_tps" if case.load else "batch_tps" if case.batch > 1 else "decode_tps"


def _first(metrics: Sequence[str], rows: Sequence[CaseRow]) -> str | None:
    """The first metric that all rows have, else the first that any has."""
    for enough in (all, any):
        for metric in metrics:
            if enough(metric in row.estimates for row in rows):
                return metric
    return None


def _placed(
    row: CaseRow, values: dict[str, Estimate], axes: dict[str, str], others: Sequence[tuple[CaseRow, dict[str, Estimate]]]
) -> Point:
    if values.keys() != axes.keys():
        return Point(row, values, "unknown")
    whole = [(other, theirs) for other, theirs in others if other is not row and theirs.keys() == axes.keys()]
    better = [(other, theirs) for other, theirs in whole if _beats(theirs, values, axes, clearly=False)]
    if not better:
        return Point(row, values, "frontier")
    clearly = [(other, theirs) for other, theirs in better if _beats(theirs, values, axes, clearly=True)]
    beaten_by, _ = max(clearly or better, key=lambda one: one[1]["speed"].value if "speed" in axes else 0.0)
    return Point(row, values, "beaten" if clearly else "close", beaten_by)


def _beats(one: dict[str, Estimate], other: dict[str, Estimate], axes: dict[str, str], *, clearly: bool) -> bool:
    """Whether one is at least as good in all and better in one; clearly: better in one by more than both intervals leave in doubt."""
    signs = {name: 1 if METRICS[metric].better == "higher" else -1 for name, metric in axes.items()}
    gains = {name: sign * (one[name].value - other[name].value) for name, sign in signs.items()}
    if min(gains.values()) < 0 or max(gains.values()) == 0:
        return False
    return not clearly or any(_apart(one[name], other[name], sign) for name, sign in signs.items())


def _apart(one: Estimate, other: Estimate, sign: int) -> bool:
    """Whether the whole interval of one lies on the better side of the other's."""
    return _end(one, -sign) > _end(other, sign) if sign > 0 else _end(one, -sign) < _end(other, sign)


def _end(one: Estimate, sign: int) -> float:
    """The upper end of its interval for 1, the lower one for -1; its value where it has none."""
    end = one.high if sign > 0 else one.low
    return one.value if end is None else end


def _value(point: Point, name: str) -> float:
    return point.values[name].value if name in point.values else float("-inf")
