"""Frontiers on a terminal: a table per task, and the best that fits a given memory in words."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from bench.tables import Column, Fitted, case_label, table
from results.format import plain, quantity
from results.metrics import METRICS
from results.pareto import Frontier, Point
from results.summary import estimate_text

MARKS = {"frontier": "● frontier", "close": "◐ close to", "beaten": "beaten by", "unknown": "not ranked"}


def pareto_table(frontier: Frontier) -> RenderableType:
    """Configurations of one task by their memory, with where each stands."""
    numbers = {id(point.row): str(position) for position, point in enumerate(frontier.points, 1)}
    figures = [
        Column(
            METRICS[metric].label,
            [estimate_text(point.values.get(axis), metric) for point in frontier.points],
            justify="right",
        )
        for axis, metric in frontier.axes.items()
    ]
    short = [
        Column(
            METRICS[metric].label,
            [
                quantity(point.values[axis].value, METRICS[metric].unit) if axis in point.values else "–"
                for point in frontier.points
            ],
            justify="right",
        )
        for axis, metric in frontier.axes.items()
    ]
    first = [
        Column("No", list(numbers.values()), justify="right"),
        Column("Configuration", [case_label(point.row.planned) for point in frontier.points], wraps=24),
    ]
    stands = Column("Standing", [_standing(point, numbers) for point in frontier.points])
    return Fitted((table([*first, *figures, stands]), table([*first, *short, stands])))


def _standing(point: Point, numbers: dict[int, str]) -> str:
    return MARKS[point.standing] + (f" {numbers[id(point.beaten_by)]}" if point.beaten_by else "")


def pareto(frontiers: Sequence[Frontier], within_bytes: float | None) -> RenderableType:
    """All frontiers; with the best that fits where a limit is given."""
    parts: list[RenderableType] = []
    for frontier in frontiers:
        parts += [Text(f"Task {frontier.task}", style="bold"), pareto_table(frontier)]
        if within_bytes is not None:
            parts += [Text(line) for line in best_lines(frontier, within_bytes)]
        parts.append(Text())
    closing = "● nothing is at least as good in all columns and better in one; ◐ something is, within the doubt."
    return Group(*parts, Text(closing))


def best_lines(frontier: Frontier, within_bytes: float) -> list[str]:
    """Which configuration is best within so much memory, in quality and in speed."""
    limit, best = quantity(within_bytes, "B"), frontier.best_within(within_bytes)
    if not best:
        return [f"Nothing fits in {limit}."]
    words = {"quality": "Best quality", "speed": "Fastest"}
    return [
        plain(f"{words[name]} that fits in {limit}: {case_label(point.row.planned)}") for name, point in best.items()
    ]  # fmt: skip


def pareto_to_dict(frontiers: Sequence[Frontier], within_bytes: float | None) -> list[dict[str, object]]:
    """The same as plain data, in base units."""
    return [
        {
            "task": frontier.task,
            "axes": frontier.axes,
            "points": [
                {
                    "case_id": point.row.planned.case.case_id,
                    "label": case_label(point.row.planned),
                    "values": {name: one.value for name, one in point.values.items()},
                    "standing": point.standing,
                    "beaten_by": point.beaten_by.planned.case.case_id if point.beaten_by else None,
                }
                for point in frontier.points
            ],
            "best_within": None
            if within_bytes is None
            else {name: point.row.planned.case.case_id for name, point in frontier.best_within(within_bytes).items()},
        }
        for frontier in frontiers
    ]
