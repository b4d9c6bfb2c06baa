"""The page of one run: facts, cases, charts, failures, and the answers of its quality passes."""

import streamlit as st

from dashboard import parts, source
from dashboard.queries import (
    LATENCIES,
    RATES,
    answers,
    case_names,
    cases_frame,
    common_words,
    environment_frame,
    estimates_frame,
    estimates_table,
    latency_points,
    memory_series,
    peaks_frame,
    scores_frame,
    series_samples,
    spread_frame,
    warnings_list,
)
from results import figures
from results.export_table import METHOD, failure_label
from results.format import moment, plain
from results.metrics import METRICS
from results.reading import RunSummary
from results.records import Report
from results.summary import CaseRow, summarize, unresolved

ANSWERS_PER_PAGE = 20


def page() -> None:
    st.title("Run")
    runs = source.summaries()
    if not runs:
        parts.no_runs()
        return
    run = parts.choose_run("Run", "run", runs, default=runs[0])
    if run is None:
        return
    if run.status == "open":
        watch(run)
    report = source.report(run)
    names = case_names(report.run.planned)
    rows = summarize(report)
    show_facts(run, report)
    show_cases(rows, names, common_words(report.run.planned))
    if run.loads:
        st.page_link(parts.LOAD_PAGE, label="The loads of this run, drawn", query_params={"run": run.run_id})
    show_failures(report)
    show_speed(report, rows, names)
    show_memory(report, names)
    show_quality(report, names)
    with st.expander("Environment"):
        parts.table(environment_frame(report))


@st.fragment(run_every=5)
def watch(seen: RunSummary) -> None:
    """Draw the page anew when an open run has gone on."""
    if seen not in source.summaries():
        st.rerun()
    st.info("This run is still open: it goes on, or it was killed. The page follows it.")


def show_facts(summary: RunSummary, report: Report) -> None:
    run = report.run
    if question := run.suite_source.get("question"):
        st.text(plain(str(question)))
    with st.container(horizontal=True, gap="medium"):
        st.metric("Status", report.status, width="content")
        st.metric("Measured", f"{summary.measured} of {summary.planned}", width="content")
        st.metric("Failed", summary.failed, width="content")
    dirty = " with uncommitted changes" if run.git_dirty else ""
    facts = [
        f"suite {run.suite}",
        f"started {moment(run.started_at)}",
        f"commit {run.git_commit[:12]}{dirty}" if run.git_commit else "no commit known",
        *(f"tag {tag}" for tag in report.tags),
        *(event.detail for event in report.events[-1:] if event.detail),
    ]
    st.text(plain(" · ".join(facts)))
    parts.reproduce(run.command)
    st.page_link(parts.COMPARE_PAGE, label="Compare it with another run", query_params={"b": run.run_id})


def show_cases(rows: list[CaseRow], names: dict[str, str], common: str) -> None:
    st.header("Cases")
    if common:
        st.text(f"Every case: {common}")
    parts.table(cases_frame(rows, names))
    st.caption(METHOD)
    if warnings := warnings_list(rows, names):
        with st.expander(f"Warnings ({len(warnings)})", expanded=True):
            st.text("\n".join(warnings))


def show_failures(report: Report) -> None:
    failures = unresolved(report.measurements, report.failures)
    if failures:
        st.header("Failures")
    for number, failure in enumerate(failures):
        with st.container(border=True, key=f"failure-{number}"):
            st.text(plain(failure_label(report, failure)))
            st.text(plain(failure.message))
            if failure.stderr_tail.strip():
                with st.expander("Last lines of stderr"):
                    st.code(plain(failure.stderr_tail), language=None, wrap_lines=True)


def show_speed(report: Report, rows: list[CaseRow], names: dict[str, str]) -> None:
    points = {metric: latency_points(report, names, metric) for metric in LATENCIES}
    points = {metric: frame for metric, frame in points.items() if not frame.empty}
    if points:
        st.header("Latency")
        for column, (metric, frame) in zip(st.columns(len(points)), points.items(), strict=True):
            with column:
                parts.chart(figures.latency(frame, metric), spread_frame(frame, metric), metric)
    rates = {metric: estimates_frame(rows, names, metric) for metric in RATES}
    rates = {metric: frame for metric, frame in rates.items() if not frame.empty}
    if rates:
        st.header("Tokens per second")
        for column, (metric, frame) in zip(st.columns(len(rates)), rates.items(), strict=True):
            with column:
                parts.chart(figures.bars(frame, metric), estimates_table(rows, names, metric), metric)


def show_memory(report: Report, names: dict[str, str]) -> None:
    found = memory_series(report)
    if not found:
        return
    st.header("Memory over time")
    wanted = st.query_params.get("case")
    case_id = parts.choose("Case", "case", {one: names[one] for one in found}, wanted if wanted in found else next(iter(found)))
    for name in found[case_id] if case_id else ():
        samples = series_samples(report, str(case_id), name)
        label = METRICS[name].label if name in METRICS else name
        parts.chart(figures.over_time(samples, label, "B"), peaks_frame(samples, "B"), f"memory {name}")


def show_quality(report: Report, names: dict[str, str]) -> None:
    """Scores and answers. What a model wrote is data: shown as plain text only."""
    found = answers(report, names)
    if not found:
        return
    st.header("Quality")
    scores = scores_frame(report, found)
    if not scores.empty:
        parts.table(scores)
    first = 0
    if len(found) > ANSWERS_PER_PAGE:
        pages = -(-len(found) // ANSWERS_PER_PAGE)
        first = (st.number_input(f"Answers, page of {pages}", 1, pages, 1, key="answers") - 1) * ANSWERS_PER_PAGE
    for number, (case, request) in enumerate(found[first : first + ANSWERS_PER_PAGE], start=first + 1):
        with st.container(border=True, key=f"answer-{number}"):
            st.text(f"Answer {number} · {case}")
            for title, text in (("Prompt", request.prompt), ("Output", request.output)):
                st.caption(title)
                if text is None:
                    st.text(f"not kept (policy: {request.content_policy})")
                else:
                    st.code(plain(text), language=None, wrap_lines=True)


if __name__ == "__main__":
    page()
