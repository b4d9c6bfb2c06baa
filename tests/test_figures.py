"""The figures draw exactly the given numbers, in readable units, and never by colour alone."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import figures

REQUESTS = pd.DataFrame(
    [("a", 0, 0.040), ("a", 0, 0.050), ("a", 1, 0.045), ("b", 0, 0.100), ("b", 1, 0.120)], columns=["case", "process", "value"]
)


def test_latency_has_a_lane_per_process() -> None:
    figure = figures.latency(REQUESTS, "ttft_s")
    first, second = figure.data
    assert list(first.x) == pytest.approx([40, 50, 100])
    assert list(first.y) == ["a", "a", "b"]
    assert list(second.x) == pytest.approx([45, 120])
    assert figure.layout.xaxis.title.text == "TTFT (ms)"
    assert figure.layout.title.subtitle.text == "5 of 5 points, the first process on top"
    assert (first.name, second.name) == ("process 0", "process 1")
    assert first.marker.color != second.marker.color
    assert first.marker.symbol != second.marker.symbol


def test_bars_show_value_and_interval() -> None:
    rows = [("a", 10.0, 9.0, 12.0, "processes"), ("b", 20.0, None, None, "requests")]
    frame = pd.DataFrame(rows, columns=["case", "value", "low", "high", "basis"])
    figure = figures.bars(frame, "decode_tps")
    (bar,) = figure.data
    assert list(bar.x) == [10, 20]
    assert list(bar.error_x.array) == [2, 0]
    assert list(bar.error_x.arrayminus) == [1, 0]
    assert list(bar.text) == ["10", "20"]
    assert figure.layout.xaxis.title.text == "Decode (tok/s)"
    assert figure.layout.title.subtitle.text == "bars: 95 % interval over processes or quartiles within one process"


def test_over_time_draws_each_process_with_its_own_dash() -> None:
    rows = [(0, 0.0, 2.0**30), (0, 1.0, 2.0**31), (1, 0.0, 2.0**30)]
    figure = figures.over_time(pd.DataFrame(rows, columns=["process", "time_s", "value"]), "RSS", "B")
    first, second = figure.data
    assert list(first.x) == [0, 1]
    assert list(first.y) == [1, 2]
    assert list(second.y) == [1]
    assert first.line.dash != second.line.dash
    assert figure.layout.yaxis.title.text == "RSS (GiB)"
    assert figure.layout.xaxis.title.text == "time since the start of the measurement (s)"


def test_forest_marks_verdicts_and_margins() -> None:
    rows = [
        ("a", "ttft_s", "regression", 1.2, 1.1, 1.3, 0.95, 1.05),
        ("a", "decode_tps", "described", 0.9, None, None, None, None),
        ("b", "ttft_s", "no_change", 1.0, 0.99, 1.01, 0.95, 1.05),
    ]
    columns = ["case", "metric", "verdict", "ratio", "low", "high", "band_low", "band_high"]
    figure = figures.forest(pd.DataFrame(rows, columns=columns))
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["regression", "no change", "described"]
    assert list(traces["regression"].x) == [1.2]
    assert list(traces["regression"].y) == ["TTFT<br><sub>a</sub>"]
    assert list(traces["regression"].error_x.array) == pytest.approx([0.1])
    assert list(traces["described"].error_x.array) == [0]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    bands = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes if shape.type == "rect"]
    assert bands == [(0.95, 1.05, -0.45, 0.45), (0.95, 1.05, 1.55, 2.45)]
    assert figure.layout.xaxis.title.text == "ratio B / A (1: no change)"


def test_long_forests_say_what_they_leave_out() -> None:
    rows = [("a", "ttft_s", "no_change", 1.0, 0.9, 1.1, 0.95, 1.05)] * 50
    columns = ["case", "metric", "verdict", "ratio", "low", "high", "band_low", "band_high"]
    figure = figures.forest(pd.DataFrame(rows, columns=columns))
    assert len(figure.data[0].x) == figures.MAX_ROWS
    assert figure.layout.title.subtitle.text.startswith("40 of 50 rows")


def test_labels_are_no_markup() -> None:
    frame = REQUESTS.assign(case="<a href='http://example.org'>x</a>\x1b[31m")
    figure = figures.latency(frame, "ttft_s")
    assert set(figure.data[0].y) == {"&lt;a href='http://example.org'&gt;x&lt;/a&gt;"}


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    limit=st.integers(10, 200),
    seed=st.integers(0, 2**16),
)
def test_thinning_keeps_the_extremes_and_the_order(sizes: list[int], limit: int, seed: int) -> None:
    rows = [(group, time, float((seed * (time + 1) * 7919) % 1009)) for group, size in enumerate(sizes) for time in range(size)]
    frame = pd.DataFrame(rows, columns=["process", "time_s", "value"])
    thinned = figures.thin(frame, ["process"], order="time_s", limit=limit)
    assert len(thinned) <= limit
    assert set(thinned.itertuples(index=False, name=None)) <= set(rows)
    for process, mine in frame.groupby("process"):
        kept = thinned[thinned["process"] == process]
        assert (kept["value"].min(), kept["value"].max()) == (mine["value"].min(), mine["value"].max())
        assert kept["time_s"].is_monotonic_increasing


def test_four_thousand_points_at_most() -> None:
    frame = pd.DataFrame({"process": 0, "time_s": range(10_000), "value": [float(time % 997) for time in range(10_000)]})
    figure = figures.over_time(frame, "RSS", "B")
    shown = len(figure.data[0].x)
    assert shown <= 4000
    assert figure.layout.title.subtitle.text == f"{shown:,} of 10,000 points"
    assert max(figure.data[0].y) == 996
