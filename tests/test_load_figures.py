"""The figures of loads draw exactly the given numbers, and never by colour alone."""

import math
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import load_figures

NAN = float("nan")
COLUMNS = ["load", "quantile", "x", "value", "low", "high", "over_saturated", "knee"]
CURVE = pd.DataFrame(
    [
        (load, quantile, x, factor * value, NAN, NAN, load == "poisson 8/s", load == "poisson 4/s")
        for quantile, factor in (("p50", 1.0), ("p90", 2.0))
        for load, x, value in (("c1", 10.0, 0.1), ("poisson 4/s", 40.0, 0.2), ("poisson 8/s", 50.0, 5.0))
    ],
    columns=COLUMNS,
)


def texts(figure: Any) -> list[str]:
    return [one.text for one in figure.layout.annotations]


def test_a_line_per_quantile_with_labels_and_marks() -> None:
    figure = load_figures.throughput_latency(CURVE, "output_tps", "ttft")
    first, second, legend = figure.data
    assert (first.name, second.name) == ("p50", "p90")
    assert list(first.x) == [10, 40, 50]
    assert list(first.y) == [0.1, 0.2, 5]
    assert list(second.y) == [0.2, 0.4, 10]
    assert list(first.marker.symbol) == ["circle", "circle", "x"]
    assert list(second.marker.symbol) == ["square", "square", "x"]
    assert first.line.dash != second.line.dash
    assert (legend.name, legend.marker.symbol, list(legend.x)) == ("over-saturated: waits grew to the end", "x", [None])
    assert first.error_y.array is None
    assert [text.split()[-1] for text in texts(figure)[:2]] == ["p50", "p90"]
    assert texts(figure)[2:] == ["c1", "poisson 4/s", "poisson 8/s", "knee: poisson 4/s"]
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1, line.line.dash) == (40, 40, "dot")
    assert figure.layout.xaxis.title.text == "Output throughput (tok/s)"
    assert figure.layout.yaxis.title.text == "TTFT (s)"


def test_latencies_far_apart_have_a_logarithmic_axis_with_round_ticks() -> None:
    axis = load_figures.throughput_latency(CURVE, "request_rate", "ttft").layout.yaxis
    assert axis.type == "log"
    assert list(axis.ticktext) == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert axis.range[0] < math.log10(0.1)
    assert axis.range[1] > math.log10(10)
    near = CURVE[CURVE["load"] != "poisson 8/s"]
    axis = load_figures.throughput_latency(near, "request_rate", "tpot").layout.yaxis
    assert axis.type is None
    assert axis.range[0] <= 0 < 400 < axis.range[1]
    assert axis.title.text == "TPOT (ms)"


def test_intervals_over_processes_are_drawn_and_lie_inside_the_axis() -> None:
    frame = CURVE.assign(low=CURVE["value"] / 2, high=CURVE["value"] * 3)
    figure = load_figures.throughput_latency(frame, "output_tps", "ttft")
    assert list(figure.data[0].error_y.array) == pytest.approx([0.2, 0.4, 10])
    assert list(figure.data[0].error_y.arrayminus) == pytest.approx([0.05, 0.1, 2.5])
    assert figure.layout.yaxis.range[0] < math.log10(0.05)
    assert figure.layout.yaxis.range[1] > math.log10(30)


def test_one_load_alone_is_drawn() -> None:
    figure = load_figures.throughput_latency(CURVE.iloc[:1], "output_tps", "ttft")
    assert list(figure.data[0].y) == [100]
    assert figure.layout.yaxis.title.text == "TTFT (ms)"
    assert not figure.layout.shapes


def test_goodput_against_the_ideal() -> None:
    rows = [("poisson 2/s", "ttft_s<0.5", 2.0, 2.0, NAN, NAN, False), ("poisson 8/s", "ttft_s<0.5", 8.0, 0.5, 0.4, 0.7, True)]
    frame = pd.DataFrame(rows, columns=["load", "limits", "x", "value", "low", "high", "over_saturated"])
    figure = load_figures.goodput(frame)
    ideal, line, _ = figure.data
    assert (list(ideal.x), list(ideal.y)) == ([0, 8], [0, 8])
    assert (list(line.x), list(line.y)) == ([2, 8], [2, 0.5])
    assert list(line.marker.symbol) == ["circle", "x"]
    assert list(line.error_y.array) == pytest.approx([0, 0.2])
    assert figure.layout.title.subtitle.text == "requests that keep ttft_s&lt;0.5"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Offered rate (1/s)", "Goodput (1/s)")
    other = frame.assign(limits=["ttft_s<0.5", "ttft_s<1"])
    assert [trace.name for trace in load_figures.goodput(other).data][1:3] == ["ttft_s&lt;0.5", "ttft_s&lt;1"]


def test_timeline_marks_errors_by_shape() -> None:
    counts = pd.DataFrame({"time_s": [0.0, 1.0, 2.0], "value": [1, 2, 0]})
    rows = [(0.0, 0.4, "answered"), (1.0, 0.0, "timeout"), (2.0, 0.0, "http_5xx"), (2.5, 0.0, "timeout")]
    figure = load_figures.timeline(counts, pd.DataFrame(rows, columns=["time_s", "value", "state"]))
    in_flight, answered, refused, timed_out = figure.data
    assert (list(in_flight.x), list(in_flight.y), in_flight.line.shape) == ([0, 1, 2], [1, 2, 0], "hv")
    assert (list(answered.x), list(answered.y), answered.yaxis) == ([0], [400], "y2")
    assert [trace.name for trace in (answered, refused, timed_out)] == ["answered (1)", "http_5xx (1)", "timeout (2)"]
    assert len({trace.marker.symbol for trace in (answered, refused, timed_out)}) == 3
    assert figure.layout.title.subtitle.text == "3 of 3 points above, 4 of 4 points below"
    assert figure.layout.yaxis2.title.text == "TTFT from schedule (ms)"


def test_four_thousand_points_at_most() -> None:
    counts = pd.DataFrame({"time_s": range(20_000), "value": [float(time % 997) for time in range(20_000)]})
    waits = counts.assign(state=["timeout" if time % 3 == 0 else "answered" for time in range(20_000)])
    figure = load_figures.timeline(counts, waits)
    shown = [len(trace.x) for trace in figure.data]
    assert sum(shown) <= 4000
    subtitle = f"{shown[0]:,} of 20,000 points above, {sum(shown[1:]):,} of 20,000 points below"
    assert figure.layout.title.subtitle.text == subtitle
    assert max(figure.data[0].y) == 996
    assert figure.data[2].name == "timeout (6,667)"


def test_labels_are_no_markup() -> None:
    frame = CURVE.assign(load="<a href='http://example.org'>x</a>\x1b[31m")
    assert "&lt;a href='http://example.org'&gt;x&lt;/a&gt;" in texts(load_figures.throughput_latency(frame, "output_tps", "ttft"))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_line_labels_keep_their_order_and_distance(heights: list[float]) -> None:
    places = load_figures.apart(heights, 0.5)
    assert all(place >= height for place, height in zip(places, heights, strict=True))
    ordered = sorted(places)
    assert all(later - earlier >= 0.499 for earlier, later in pairwise(ordered))


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-3, 3)), max_size=12))
def test_load_labels_lie_below_their_points_and_never_on_one_another(points: list[tuple[float, float]]) -> None:
    taken = [(5.0, 0.0)]
    places = load_figures.below(points, taken, width=2, gap=0.5)
    assert [x for x, _ in places] == [x for x, _ in points]
    assert all(place <= point - 0.5 for (_, place), (_, point) in zip(places, points, strict=True))
    every = [*taken, *places]
    for number, (x, y) in enumerate(every):
        assert all(abs(x - other) >= 2 or abs(y - height) >= 0.499 for other, height in every[:number])
