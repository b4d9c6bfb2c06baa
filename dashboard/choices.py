"""Frontiers and coverage turned into the DataFrames that their pages show and draw."""

from collections.abc import Iterable, Sequence

import pandas as pd

from dashboard.queries import case_names, weights_are
from results.coverage import Covered, Matrix
from results.export_table import heading
from results.format import plain, quantity
from results.metrics import METRICS
from results.pareto import Frontier, Point
from results.summary import estimate_text

WORDS = {"frontier": "on the frontier", "close": "close to", "beaten": "beaten by", "unknown": "not ranked"}
BEST = {"quality": "Best quality", "speed": "Fastest"}


def names_of(frontier: Frontier) -> dict[str, str]:
    return case_names(point.row.planned for point in frontier.points)


def frontier_frame(frontier: Frontier) -> pd.DataFrame:
    """For the figure: a row per configuration, in base units."""
    names = names_of(frontier)
    rows = []
    for number, point in enumerate(frontier.points, 1):
        if "speed" in point.values and "memory" in point.values:
            speed, quality = point.values["speed"], point.values.get("quality")
            rows.append(
                (
                    number, names[point.row.planned.case.case_id], speed.value, speed.low, speed.high, point.values["memory"].value,
                    quality.value if quality else float("nan"), point.standing,
                )
            )  # fmt: skip
    columns = ["number", "name", "speed", "speed_low", "speed_high", "memory", "quality", "standing"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({name: float for name in columns[2:7]})


def frontier_table(frontier: Frontier) -> pd.DataFrame:
    """As people read it: the configurations in the order of their memory, with where each stands."""
    names = names_of(frontier)
    numbers = {id(point.row): number for number, point in enumerate(frontier.points, 1)}
    figures = {
        heading(METRICS[metric]): [estimate_text(point.values.get(axis), metric) for point in frontier.points]
        for axis, metric in frontier.axes.items()
    }
    return pd.DataFrame(
        {
            "No": list(numbers.values()),
            "Configuration": [names[point.row.planned.case.case_id] for point in frontier.points],
            **figures,
            "Standing": [standing(point, numbers) for point in frontier.points],
            "Weights are": [weights_are(point.row.planned) for point in frontier.points],
        }
    )


def standing(point: Point, numbers: dict[int, int]) -> str:
    return WORDS[point.standing] + (f" {numbers[id(point.beaten_by)]}" if point.beaten_by else "")


def best_lines(frontier: Frontier, within_bytes: float) -> list[str]:
    """The best that fits, in quality and in speed."""
    names, limit = names_of(frontier), quantity(within_bytes, "B")
    best = frontier.best_within(within_bytes)
    if not best:
        return [f"Nothing fits in {limit}."]
    return [
        plain(f"{BEST[axis]} that fits in {limit}: {names[point.row.planned.case.case_id]}") for axis, point in best.items()
    ]  # fmt: skip


def coverage_frame(found: Matrix) -> pd.DataFrame:
    """The matrix as a table of text."""
    return pd.DataFrame(
        {"": found.rows, **{column: [found.cell(row, column).text for row in found.rows] for column in found.columns}}
    )


def failures_frame(covered: Iterable[Covered]) -> pd.DataFrame:
    """Cases without a measurement, and why."""
    lost: Sequence[Covered] = [one for one in covered if not one.measured]
    names = case_names(one.planned for one in lost)
    return pd.DataFrame({"Case": [names[one.planned.case.case_id] for one in lost], "Ended as": [one.outcome for one in lost]})
