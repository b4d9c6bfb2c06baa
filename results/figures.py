"""DataFrames drawn as plotly figures: latency, rates, memory over time, comparisons.

Frames hold base units; the axis shows readable ones and names them. Colours are Okabe-Ito's and never stand alone. What goes
into the frames, and tables beside the figures, are left to the caller.
"""

import html
from typing import TYPE_CHECKING, Any

from results.format import number, plain, scale
from results.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame, Series
    from plotly.graph_objects import Figure

MAX_POINTS = 4000
"""More than this in one figure makes a browser slow and shows nothing more."""

MAX_ROWS = 40

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
SYMBOLS = ("circle", "square", "diamond", "x", "triangle-up", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

VERDICTS = {
    "regression": ("#D55E00", "x"),
    "inconclusive": ("#CC79A7", "circle-open"),
    "no_change": ("#0072B2", "circle"),
    "improvement": ("#009E73", "diamond"),
    "described": ("#808080", "line-ns"),
}
"""Colour and symbol of each verdict."""

_INTERVALS = {"processes": "95 % interval over processes", "requests": "quartiles within one process"}


def latency(requests: "DataFrame", metric: str) -> "Figure":
    """Every request's value of one metric, a lane for each process of each case.

    Args:
        requests: columns `case`, `process` and `value`, one row per value.
    """
    import plotly.graph_objects as go

    shown = thin(requests, ["case", "process"], order="value")
    factor, unit = common_scale(shown["value"], METRICS[metric].unit)
    lanes = requests.groupby(["case", "process"]).ngroups
    figure = new_figure(
        METRICS[metric].label, f"{points_shown(shown, requests)}, the first process on top", height=160 + 30 * lanes
    )
    for process, mine in shown.groupby("process", sort=True):
        colour = cycled(COLOURS, process)
        figure.add_trace(
            go.Box(
                x=mine["value"] / factor,
                y=mine["case"].map(shown_text),
                name=f"process {process}",
                orientation="h",
                boxpoints="all",
                jitter=0.5,
                pointpos=0,
                fillcolor="rgba(0,0,0,0)",
                line={"color": colour, "width": 1},
                marker={"color": colour, "symbol": cycled(SYMBOLS, process), "size": 6, "opacity": 0.8},
            )
        )
    figure.update_layout(boxmode="group")
    _case_axis(figure, requests["case"])
    return figure.update_xaxes(title=axis_title(METRICS[metric].label, unit))


def bars(estimates: "DataFrame", metric: str) -> "Figure":
    """One metric's typical value for each case, with its interval.

    Args:
        estimates: columns `case`, `value`, `low`, `high` (unknown where there is no interval) and `basis` as in `Estimate`.
    """
    import plotly.graph_objects as go

    factor, unit = common_scale(estimates["value"], METRICS[metric].unit)
    value = estimates["value"] / factor
    intervals = " or ".join(_INTERVALS[basis] for basis in sorted(set(estimates["basis"])))
    figure = new_figure(METRICS[metric].label, f"bars: {intervals}", height=130 + 40 * len(estimates), legend=False)
    figure.add_trace(
        go.Bar(
            x=value,
            y=estimates["case"].map(shown_text),
            orientation="h",
            marker={"color": COLOURS[5]},
            text=[number(one) for one in value],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "black"},
            error_x=error_bars(value, estimates["low"] / factor, estimates["high"] / factor) | {"color": COLOURS[3]},
        )
    )
    _case_axis(figure, estimates["case"])
    return figure.update_xaxes(title=axis_title(METRICS[metric].label, unit), rangemode="tozero")


def over_time(samples: "DataFrame", label: str, unit: str) -> "Figure":
    """One telemetry series of each process, on its measurement's own clock.

    Args:
        samples: columns `process`, `time_s` and `value`.
        unit: of the values: a base unit.
    """
    import plotly.graph_objects as go

    shown = thin(samples, ["process"], order="time_s")
    factor, shown_unit = common_scale(shown["value"], unit)
    figure = new_figure(label, points_shown(shown, samples), height=360)
    for process, mine in shown.groupby("process", sort=True):
        figure.add_trace(
            go.Scatter(
                x=mine["time_s"],
                y=mine["value"] / factor,
                name=f"process {process}",
                mode="lines+markers" if len(mine) <= 60 else "lines",
                line={"color": cycled(COLOURS, process), "dash": cycled(DASHES, process), "width": 2},
                marker={"symbol": cycled(SYMBOLS, process), "size": 6},
            )
        )
    figure.update_xaxes(title="time since the start of the measurement (s)")
    return figure.update_yaxes(title=axis_title(label, shown_unit))


def forest(rows: "DataFrame") -> "Figure":
    """Ratios B / A with their intervals around 1, the margin of each row as a band behind; the first `MAX_ROWS` of them.

    Args:
        rows: columns `case`, `metric`, `verdict`, `ratio`, its interval `low` and `high`, and the margin's ends `band_low` and
            `band_high`, also as ratios; unknown where there is no interval or no margin.
    """
    import plotly.graph_objects as go

    shown = rows.head(MAX_ROWS).reset_index(drop=True)
    pairs = zip(shown["metric"], shown["case"], strict=True)
    shown["label"] = [f"{METRICS[metric].label}<br><sub>{shown_text(case)}</sub>" for metric, case in pairs]
    subtitle = f"{len(shown)} of {len(rows)} rows; grey: the margin within which nothing matters"
    figure = new_figure("B compared with A", subtitle, height=170 + 44 * len(shown))
    bands = shown.dropna(subset=["band_low", "band_high"])
    for position, low, high in zip(bands.index.tolist(), bands["band_low"], bands["band_high"], strict=True):
        band = {"x0": low, "x1": high, "y0": position - 0.45, "y1": position + 0.45}
        figure.add_shape(type="rect", layer="below", line_width=0, fillcolor="rgba(128,128,128,0.25)", **band)
    for verdict, (colour, symbol) in VERDICTS.items():
        mine = shown[shown["verdict"] == verdict]
        if mine.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=mine["ratio"],
                y=mine["label"],
                name=verdict.replace("_", " "),
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
                error_x=error_bars(mine["ratio"], mine["low"], mine["high"]) | {"color": colour},
            )
        )
    figure.add_vline(x=1, line={"color": "gray", "width": 1})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=shown["label"], range=[len(shown) - 0.5, -0.5])
    return figure.update_xaxes(title="ratio B / A (1: no change)", type="log")


def thin(frame: "DataFrame", groups: list[str], order: str, limit: int = MAX_POINTS) -> "DataFrame":
    """At most about `limit` rows: each group, in its order, is cut into stretches of which the lowest and the highest value
    stay, so that peaks and the shape of the distribution are kept."""
    import pandas as pd

    if len(frame) <= limit:
        return frame
    ordered = frame.sort_values([*groups, order], ignore_index=True)
    grouped = ordered.groupby(groups)
    stretches = max(1, limit // 2 // grouped.ngroups)
    stretch = grouped.cumcount() * stretches // grouped[order].transform("size")
    values = ordered.groupby([*(ordered[name] for name in groups), stretch])["value"]
    kept = pd.concat([values.idxmin(), values.idxmax()]).unique()
    return ordered.loc[sorted(kept)]


def new_figure(title: str, subtitle: str, *, height: int, legend: bool = True) -> "Figure":
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "subtitle": {"text": subtitle}},
        height=height,
        margin={"l": 10, "r": 20, "t": 70, "b": 90 if legend else 50},
        showlegend=legend,
        dragmode=False,  # a finger that scrolls the page must not zoom
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    return figure


def _case_axis(figure: "Figure", cases: "Series[str]") -> None:
    figure.update_yaxes(
        categoryorder="array", categoryarray=[shown_text(case) for case in dict.fromkeys(cases)], autorange="reversed"
    )


def error_bars(value: "Series[float]", low: "Series[float]", high: "Series[float]") -> dict[str, Any]:
    ends = {"array": (high - value).fillna(0), "arrayminus": (value - low).fillna(0)}
    return {"type": "data", "symmetric": False, "thickness": 1.5, "width": 5} | ends


def common_scale(values: "Series[float]", unit: str) -> tuple[float, str]:
    return scale(float(values.abs().max()) if len(values) else 0.0, unit)


def axis_title(label: str, unit: str) -> str:
    return f"{shown_text(label)} ({unit})"


def points_shown(shown: "DataFrame", found: "DataFrame") -> str:
    return f"{len(shown):,} of {len(found):,} points"


def shown_text(text: str) -> str:
    """Data as text: plotly reads some HTML in labels."""
    return html.escape(plain(text), quote=False)


def cycled(values: tuple[str, ...], process: Any) -> str:
    return values[int(process) % len(values)]
