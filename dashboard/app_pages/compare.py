"""The page of two runs side by side: how their environments differ, then every case and metric with its verdict."""

import streamlit as st

from dashboard import parts, source
from dashboard.comparisons import differences_frame, ratios_frame, rows_frame, warnings_list
from dashboard.queries import case_names
from results import figures
from results.compare import Comparison, compare, compare_environments
from results.errors import NotComparableError
from results.gate import verdict_of
from results.reading import RunSummary
from results.records import HARD_FACTS
from results.verdict_words import gaps


def page() -> None:
    st.title("Compare")
    runs = source.summaries()
    if len(runs) < 2:
        st.info("A comparison needs two runs in the store. Measure again, then reload this page:")
        parts.reproduce(("bench", "run", runs[0].suite if runs else "quickstart"), title="")
        return
    a, b = choose_sides(runs)
    if a is None or b is None:
        return
    report_a, report_b = source.report(a), source.report(b)
    differences = compare_environments(report_a.run.environment, report_b.run.environment, allow=HARD_FACTS)
    st.header("Environments")
    if differences:
        parts.table(differences_frame(differences))
    else:
        st.text("Both runs had the same environment.")
    try:
        comparison = compare(report_a, report_b)
    except NotComparableError as problem:
        parts.error(problem)
    else:
        show(comparison)
    parts.reproduce(("bench", "compare", a.run_id, b.run_id))


def choose_sides(runs: list[RunSummary]) -> tuple[RunSummary | None, RunSummary | None]:
    """Run A and run B; unless the link says otherwise, the newest run with the run before it of the same suite."""
    left, right = st.columns(2)
    with right:
        b = parts.choose_run("B: the change", "b", runs, default=runs[0])
    newest = b or runs[0]
    before = [run for run in runs if run.started_at < newest.started_at] or [run for run in runs if run != newest]
    default = next((run for run in before if run.suite == newest.suite), before[0])
    with left:
        a = parts.choose_run("A: the baseline", "a", runs, default=default)
    return a, b


def show(comparison: Comparison) -> None:
    names = case_names((*comparison.a_run.planned, *comparison.b_run.planned))
    st.header("Verdict")
    st.metric("B against A", verdict_of(comparison).replace("_", " "), width="content")
    if missing := gaps(comparison):
        st.text("\n".join(missing))
    parts.table(rows_frame(comparison, names))
    st.caption("Change: B against A with its 95 % interval. Detectable: the smallest change seen with 80 % power.")
    ratios = ratios_frame(comparison, names)
    if not ratios.empty:
        st.plotly_chart(figures.forest(ratios), key="forest", config=parts.CHART_CONFIG)
    if warnings := warnings_list(comparison, names):
        with st.expander(f"Warnings ({len(warnings)})"):
            st.text("\n".join(warnings))


if __name__ == "__main__":
    page()
