"""The page of one run's loads: throughput against latency, goodput, each load over time, and all of them in a table."""

import streamlit as st

from dashboard import loads, parts, source
from results import load_figures
from results.export_table import METHOD
from results.format import plain, quantity
from results.load_curve import LATENCIES, THROUGHPUTS, LoadCurve, LoadPoint, knee_of, load_curves
from results.metrics import METRICS
from results.records import Measurement, Report

SWEEP = ("bench", "run", "serving-sweep")
REQUESTS_TO_CHOOSE = 500


def page() -> None:
    st.title("Load")
    runs = source.summaries()
    if not runs:
        nothing("The store holds no runs yet. Put a server under load first, then reload this page:")
        return
    run = parts.choose_run("Run", "run", runs, default=next((run for run in runs if run.loads), runs[0]))
    if run is None:
        return
    report = source.report(run)
    curves = {curve.curve_id: curve for curve in curves_of(report)}
    if not curves:
        nothing("This run put no server under load. Choose another one, or measure one and reload this page:")
        return
    curve_id = choose("Configuration", "configuration", loads.curve_names(curves.values()), next(iter(curves)))
    if curve_id:
        show(curves[curve_id])
    parts.reproduce(report.run.command)


# A resource, and known by the report's identity: a report is frozen and shared, and percentiles of many requests take a while.
# Each entry keeps its report, so that no other report can come to lie at the same place.
@st.cache_resource(max_entries=8, ttl=60, show_spinner="Reading the loads …", hash_funcs={Report: id})
def _curves_with_report(report: Report) -> tuple[Report, list[LoadCurve]]:
    return report, load_curves(report)


def curves_of(report: Report) -> list[LoadCurve]:
    return _curves_with_report(report)[1]


def nothing(message: str) -> None:
    st.info(message)
    parts.reproduce(SWEEP, title="")


def choose(label: str, name: str, options: dict[str, str], default: str) -> str | None:
    """A choice that stands in the link; what the link names and is not there gives way to the default."""
    wanted = st.query_params.get(name)
    return parts.choose(label, name, options, wanted if wanted in options else default)


def show(curve: LoadCurve) -> None:
    measured = [point for point in curve.points if point.measurements]
    show_highlights(measured)
    show_table(curve)
    if not measured:
        return
    show_curve(measured)
    show_goodput(measured)
    show_timeline(measured)


def show_highlights(points: list[LoadPoint]) -> None:
    with st.container(horizontal=True, gap="medium"):
        if marked := knee_of(points):
            st.metric("Knee", parts.literal(marked.label), width="content", help="Highest request rate / median end-to-end time")
        for name in ("output_tps", "goodput_rps"):
            best = max(points, key=lambda point: point.value(name) or 0.0, default=None)
            if best and (value := best.value(name)) is not None:
                label = f"Highest {METRICS[name].label.lower()}, at {best.label}"
                st.metric(parts.literal(label), quantity(value, METRICS[name].unit), width="content")


def show_table(curve: LoadCurve) -> None:
    st.header("Loads")
    parts.table(loads.loads_frame(curve.points))
    st.caption(f"{METHOD} Errors count in every share and in the goodput, never in a latency.")
    if lines := loads.error_meanings(curve.points):
        st.text("\n".join(lines))


def show_curve(points: list[LoadPoint]) -> None:
    st.header("Throughput against latency")
    left, right = st.columns(2)
    with left:
        words = {name: f"{METRICS[name].label} ({METRICS[name].unit})" for name in THROUGHPUTS}
        throughput = choose("Throughput", "throughput", words, THROUGHPUTS[0])
    with right:
        words = {name: METRICS[metrics["p50"]].label for name, metrics in LATENCIES.items()}
        latency = choose("Latency", "latency", words, next(iter(LATENCIES)))
    if not throughput or not latency:
        return
    frame = loads.curve_frame(points, throughput, latency)
    if frame.empty:
        st.text("No load has both.")
    else:
        figure = load_figures.throughput_latency(frame, throughput, latency)
        parts.chart(figure, loads.curve_table(points, throughput, latency), "curve")
    if lines := loads.too_few(points, latency):
        st.text("\n".join(lines))
    st.caption(
        "Knee: the load with the highest request rate / median end-to-end time from schedule; past it latency grows faster than the rate."
    )


def show_goodput(points: list[LoadPoint]) -> None:
    st.header("Goodput")
    frame = loads.goodput_frame(points)
    if frame.empty:
        limited = any(point.row.planned.limits for point in points)
        st.text("No load with a rate has a goodput." if limited else "The suite states no limits that a request must keep.")
        return
    parts.chart(load_figures.goodput(frame), loads.goodput_table(frame), "goodput")


def show_timeline(points: list[LoadPoint]) -> None:
    st.header("One load over time")
    chosen = knee_of(points) or points[-1]
    by_id = {point.case_id: point for point in points}
    case_id = choose("Load", "load", {point.case_id: point.label for point in points}, chosen.case_id)
    if not case_id:
        return
    measurement = choose_process(by_id[case_id].measurements)
    if not measurement:
        return
    if not measurement.requests:
        st.text("It holds no request.")
        return
    in_flight = loads.in_flight_frame(measurement, by_id[case_id].timeout_s)
    figure = load_figures.timeline(in_flight, loads.waits_frame(measurement))
    parts.chart(figure, loads.requests_frame(measurement.requests), "timeline")
    show_request(measurement)


def choose_process(measurements: tuple[Measurement, ...]) -> Measurement | None:
    by_process = {str(one.process): one for one in measurements}
    if len(by_process) == 1:
        return measurements[0]
    process = choose("Process", "process", {name: f"process {name}" for name in by_process}, next(iter(by_process)))
    return by_process[process] if process else None


def show_request(measurement: Measurement) -> None:
    """One request under the definitions of other tools."""
    with st.expander("One request under other tools' definitions"):
        names = loads.request_names(measurement.requests, REQUESTS_TO_CHOOSE)
        if len(names) < len(measurement.requests):
            st.caption(
                f"{len(names)} of {len(measurement.requests):,} requests: those without an answer, and those that waited longest."
            )
        by_id = {one.request_id: one for one in measurement.requests}
        default = next((one for one in names if not by_id[one].error), None)
        request_id = choose("Request", "request", names, default or next(iter(names)))
        if request_id is None:
            return
        request = by_id[request_id]
        if request.error:
            st.text(plain(request.error))
        parts.table(loads.definitions_frame(request))
        parts.table(loads.formulas_frame(request))
        parts.reproduce(("bench", "explain", request.request_id), title="")


if __name__ == "__main__":
    page()
