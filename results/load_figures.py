"""DataFrames of loads drawn as plotly figures: throughput against latency, goodput against offered rate, one load over time.

What goes into the frames, and tables beside the figures, are left to the caller; colours and units are those of `results.figures`.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from results.figures import (
    COLOURS,
    DASHES,
    MAX_POINTS,
    SYMBOLS,
    axis_title,
    common_scale,
    cycled,
    error_bars,
    new_figure,
    points_shown,
    shown_text,
    thin,
)
from results.format import number
from results.load_curve import LATENCIES
from results.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame, Series
    from plotly.graph_objects import Figure

OVER_SATURATED = "x"
"""The symbol of loads that arrived faster than they were served, whatever the symbol of their line."""

Place = tuple[float, float]
"""x, and the height: y, or its logarithm on a logarithmic axis."""

LOG_FROM = 8

LABEL_GAP, LABEL_WIDTH = 0.06, 0.2
"""Room for a label, as shares of the axes."""

_GREY = "gray"
_SYMBOL_TEXTS = ("●", "■", "◆")
"""The first of `SYMBOLS` as letters."""
_ERROR_SYMBOLS = ("x", "cross", "triangle-down", "star", "hash", "diamond-tall")


def throughput_latency(points: "DataFrame", throughput: str, latency: str) -> "Figure":
    """A line for each quantile of a latency through the loads in their order, on a logarithmic axis where the latencies span
    more than `LOG_FROM` times.

    Args:
        points: columns `load`, `quantile`, `x`, `value`, its interval `low` and `high` (unknown where there is none),
            `over_saturated` and `knee`, both true or false.
        throughput: the metric of `x`.
        latency: of `results.load_curve.LATENCIES`.
    """
    import pandas as pd
    import plotly.graph_objects as go

    label = METRICS[LATENCIES[latency]["p50"]].label
    factor, unit = common_scale(points["value"], "s")
    figure = new_figure(f"{label} against throughput", "each point is one load", height=460)
    for place, (quantile, mine) in enumerate(points.groupby("quantile", sort=True)):
        value, colour = mine["value"] / factor, cycled(COLOURS, place)
        interval = (
            {"error_y": error_bars(value, mine["low"] / factor, mine["high"] / factor)} if mine["low"].notna().any() else {}
        )
        figure.add_trace(
            go.Scatter(
                x=mine["x"],
                y=value,
                name=str(quantile),
                mode="lines+markers",
                line={"color": colour, "dash": cycled(DASHES, place), "width": 2},
                marker={"color": colour, "size": 9, "symbol": _symbols(mine["over_saturated"], cycled(SYMBOLS, place))},
                hovertext=mine["load"].map(shown_text),
                showlegend=False,
                **interval,
            )
        )
    ends = pd.concat([points["value"], points["low"], points["high"]]).dropna() / factor
    log = ends.max() > LOG_FROM * ends.min() > 0
    shown = points.assign(height=(points["value"] / factor).map(math.log10 if log else float))
    low, high = (math.log10(ends.min()), math.log10(ends.max())) if log else (0.0, float(ends.max()))
    gap = LABEL_GAP * (high - low)
    taken = _label_lines(figure, shown, gap)
    heights = [height for _, height in (*taken, *_label_loads(figure, shown, gap, taken))]
    low, high = min(low + gap, *heights) - gap, max(high, *heights) + gap
    _mark_knee(figure, points)
    _explain_symbol(figure, points["over_saturated"])
    room = [0, 1.2 * float(points["x"].max())]  # at the right for the last labels
    figure.update_xaxes(title=axis_title(METRICS[throughput].label, METRICS[throughput].unit), range=room)
    figure.update_yaxes(title=axis_title(label, unit), range=[low, high])
    if log:
        ticks = _log_ticks(low, high)
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[number(one) for one in ticks])
    return figure


def goodput(points: "DataFrame") -> "Figure":
    """Goodput against the offered rate, beside the line on which every request that is offered keeps its limits.

    Args:
        points: columns `load`, `limits`, `x` (requests offered per second), `value`, its interval `low` and `high`, and
            `over_saturated`.
    """
    import plotly.graph_objects as go

    every = list(dict.fromkeys(points["limits"]))
    figure = new_figure("Goodput", f"requests that keep {' or '.join(shown_text(one) for one in every)}", height=400)
    most = float(points["x"].max())
    ideal = {"x": [0, most], "y": [0, most], "mode": "lines", "line": {"color": _GREY, "dash": "dash", "width": 1}}
    figure.add_trace(go.Scatter(**ideal, name="ideal: all that is offered", hoverinfo="skip"))
    for place, (limits, mine) in enumerate(points.groupby("limits", sort=False)):
        colour = cycled(COLOURS, place)
        figure.add_trace(
            go.Scatter(
                x=mine["x"],
                y=mine["value"],
                name="goodput" if len(every) == 1 else shown_text(str(limits)),
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"color": colour, "size": 9, "symbol": _symbols(mine["over_saturated"], cycled(SYMBOLS, place))},
                hovertext=mine["load"].map(shown_text),
                error_y=error_bars(mine["value"], mine["low"], mine["high"]),
                cliponaxis=False,
            )
        )
    _explain_symbol(figure, points["over_saturated"])
    figure.update_xaxes(title="Offered rate (1/s)", rangemode="tozero")
    return figure.update_yaxes(title=axis_title(METRICS["goodput_rps"].label, "1/s"), rangemode="tozero")


def timeline(in_flight: "DataFrame", waits: "DataFrame") -> "Figure":
    """One load over time: how many requests were in flight, and below it each request's TTFT at the time for which it was
    scheduled; failed requests stand at the bottom.

    Args:
        in_flight: columns `time_s` and `value`, a row per change.
        waits: columns `time_s`, `value` (in seconds) and `state`: `answered`, or the kind of an error.
    """
    import plotly.graph_objects as go

    counts = thin(in_flight.assign(row=0), ["row"], order="time_s", limit=MAX_POINTS // 2)
    shown = thin(waits, ["state"], order="time_s", limit=MAX_POINTS // 2)
    factor, unit = common_scale(shown["value"], "s")
    points = f"{points_shown(counts, in_flight)} above, {points_shown(shown, waits)} below"
    figure = new_figure("Requests in flight, and TTFT from schedule", points, height=560)
    figure.add_trace(
        go.Scatter(
            x=counts["time_s"],
            y=counts["value"],
            name="in flight",
            mode="lines",
            line={"color": COLOURS[0], "width": 1.5, "shape": "hv"},
            showlegend=False,
        )
    )
    answered = shown["state"] == "answered"
    kinds = [("answered", shown[answered])] + [(str(kind), mine) for kind, mine in shown[~answered].groupby("state")]
    for place, (state, mine) in enumerate(kinds):
        marker = {"color": COLOURS[2], "symbol": "circle", "size": 5, "opacity": 0.7}
        if state != "answered":
            marker = {"color": COLOURS[3], "symbol": cycled(_ERROR_SYMBOLS, place - 1), "size": 10, "opacity": 1}
        name = f"{shown_text(state)} ({(waits['state'] == state).sum():,})"
        figure.add_trace(
            go.Scatter(
                x=mine["time_s"], y=mine["value"] / factor, name=name, mode="markers", marker=marker, yaxis="y2", cliponaxis=False
            )
        )
    figure.update_layout(
        yaxis={"domain": [0.58, 1], "title": "requests in flight", "rangemode": "tozero"},
        yaxis2={"domain": [0, 0.48], "title": f"TTFT from schedule ({unit})", "rangemode": "tozero"},
    )
    return figure.update_xaxes(title="time since the start of the measurement (s)", anchor="y2")


def apart(values: list[float], gap: float) -> list[float]:
    """Where labels go whose lines end at these heights: in their order, at least `gap` apart, none below its line."""
    places = list(values)
    order = sorted(range(len(values)), key=lambda one: values[one])
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + gap)
    return places


def below(points: list[Place], taken: list[Place], width: float, gap: float) -> list[Place]:
    """Where labels of points go: below them, and further down until they are `gap` below, or `width` beside, every other label."""
    placed = list(taken)
    for x, point in points:
        height = point - gap
        while near := [other for at, other in placed if abs(x - at) < width and abs(height - other) < 0.999 * gap]:
            height = min(near) - gap
        placed.append((x, height))
    return placed[len(taken) :]


def _label_lines(figure: "Figure", points: "DataFrame", gap: float) -> list[Place]:
    """Each quantile's symbol and name at the end of its line."""
    ends = points.groupby("quantile", sort=True).last()
    heights = apart([float(height) for height in ends["height"]], gap)
    for place, (name, x, height) in enumerate(zip(ends.index, ends["x"], heights, strict=True)):
        mark = f'<span style="color:{cycled(COLOURS, place)}">{cycled(_SYMBOL_TEXTS, place)}</span>'
        figure.add_annotation(x=x, y=height, text=f"{mark} {shown_text(name)}", showarrow=False, xanchor="left", xshift=10)
    return list(zip(ends["x"], heights, strict=True))


def _label_loads(figure: "Figure", points: "DataFrame", gap: float, taken: list[Place]) -> list[Place]:
    """Each load's name below its lowest point."""
    lowest = points.loc[points.groupby("load", sort=False)["height"].idxmin()].sort_values("x")
    ends = [(float(x), float(height)) for x, height in zip(lowest["x"], lowest["height"], strict=True)]
    places = below(ends, taken, LABEL_WIDTH * float(points["x"].max()), gap)
    for load, (x, height) in zip(lowest["load"], places, strict=True):
        figure.add_annotation(x=x, y=height, text=shown_text(load), font={"size": 11}, showarrow=False, xanchor="left")
    return places


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten: all of 1, 2 and 5 in up to two decades, else the decades."""
    steps = (1, 2, 5) if high - low <= 2.5 else (1,)
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _mark_knee(figure: "Figure", points: "DataFrame") -> None:
    """A line up through the knee, with its load."""
    found = points[points["knee"]]
    if not found.empty:
        text = f"knee: {shown_text(str(found['load'].iloc[0]))}"
        line = {"color": _GREY, "dash": "dot", "width": 1.5}
        figure.add_vline(
            x=found["x"].iloc[0], line=line, annotation={"text": text, "yanchor": "bottom"}, annotation_position="top left"
        )


def _explain_symbol(figure: "Figure", over_saturated: "Series[bool]") -> None:
    """What the marker of an over-saturated load means, where there is one."""
    import plotly.graph_objects as go

    if over_saturated.any():
        marker: dict[str, Any] = {"color": _GREY, "symbol": OVER_SATURATED, "size": 9}
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="over-saturated: waits grew to the end")
        )


def _symbols(over_saturated: "Series[bool]", ordinary: str) -> list[str]:
    return [OVER_SATURATED if one else ordinary for one in over_saturated]
