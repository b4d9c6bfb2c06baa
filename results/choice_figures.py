"""Figures for a choice: configurations by memory and speed with their frontier, and what a store covers as a matrix.

As in `results.figures`: base units in, readable ones on the axes, colours never alone.
"""

from typing import TYPE_CHECKING

from results.coverage import Matrix, State
from results.figures import COLOURS, axis_title, common_scale, error_bars, new_figure, shown_text
from results.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure

STANDINGS = {
    "frontier": ("circle", 14, "nothing beats it"),
    "close": ("circle-open", 12, "beaten, but within the doubt"),
    "beaten": ("x", 10, "beaten"),
    "unknown": ("square-open", 10, "not ranked: a figure is missing"),
}
"""Symbol, size and words of each standing."""

HEADROOM = 1.3
"""Of the axis of speed over the fastest configuration: an interval beyond it leaves the picture, and stands in the table."""

STATES: dict[State, str] = {
    "never tried": "#FFFFFF",
    "not reached": "#D9D9D9",
    "failed": "#D55E00",
    "partly": "#F0E442",
    "measured": "#56B4E9",
}


def frontier(points: "DataFrame", speed: str, memory: str) -> "Figure":
    """Configurations by memory and speed; the quality, where it is known, is the colour, and stands at the point.

    Args:
        points: columns `number`, `name`, `speed`, `speed_low`, `speed_high`, `memory`, `quality` (unknown: NaN) and `standing`.
        speed: the metric on the vertical axis.
        memory: the metric on the horizontal axis.
    """
    import plotly.graph_objects as go

    speeds, factor = METRICS[speed], common_scale(points["memory"], METRICS[memory].unit)
    figure = new_figure(
        f"{speeds.label} against {METRICS[memory].label}",
        "up and to the left is better; numbers as in the table",
        height=480,
    )
    known = points["quality"].notna().any()
    scale = {"coloraxis": "coloraxis"} if known else {"color": COLOURS[0]}
    for standing, (symbol, size, words) in STANDINGS.items():
        mine = points[points["standing"] == standing]
        if mine.empty:
            continue
        colour = scale | ({"color": mine["quality"]} if known and mine["quality"].notna().any() else {})
        if known and mine["quality"].isna().all():
            colour = {"color": "gray"}
        figure.add_trace(
            go.Scatter(
                x=mine["memory"] / factor[0], y=mine["speed"], mode="markers+text", name=words,
                marker={"symbol": symbol, "size": size, "line": {"width": 2}} | colour,
                text=mine["number"].astype(str), textposition="middle right",
                hovertext=mine["name"].map(shown_text),
                error_y=error_bars(mine["speed"], mine["speed_low"], mine["speed_high"]) | {"color": "gray"},
            )
        )  # fmt: skip
    if known:
        figure.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {"title": "quality"}})
    figure.update_xaxes(title=axis_title(METRICS[memory].label, factor[1]), rangemode="tozero")
    highest = HEADROOM * float(points["speed"].max())  # an interval far beyond all points would squeeze them into a line
    return figure.update_yaxes(title=axis_title(speeds.label, speeds.unit), range=[0, highest])


def coverage(found: Matrix) -> "Figure":
    """A cell for each row and column, with how many cases ended how."""
    import plotly.graph_objects as go

    states, size = list(STATES), len(STATES)
    cells = [[found.cell(row, column) for column in found.columns] for row in found.rows]
    steps = [[(place + end) / size, colour] for place, colour in enumerate(STATES.values()) for end in (0, 1)]
    figure = new_figure("Coverage", "cases by how they ended", height=230 + 46 * len(found.rows), legend=False)
    figure.add_trace(
        go.Heatmap(
            z=[[states.index(cell.state) for cell in row] for row in cells],
            text=[[cell.text.replace(", ", "<br>") for cell in row] for row in cells],
            texttemplate="%{text}",
            textfont={"color": "black"},
            x=[shown_text(one) for one in found.columns],
            y=[shown_text(one) for one in found.rows],
            colorscale=steps,
            zmin=-0.5,
            zmax=size - 0.5,
            xgap=2,
            ygap=2,
            hovertemplate="%{y}<br>%{x}<br>%{text}<extra></extra>",
            colorbar={
                "tickvals": list(range(size)),
                "ticktext": states,
                "orientation": "h",
                "y": 0,
                "yanchor": "bottom",
                "yref": "container",
                "thickness": 14,
            },
        )
    )
    figure.update_xaxes(side="top", type="category")
    return figure.update_yaxes(autorange="reversed", type="category")
