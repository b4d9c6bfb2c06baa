"""The page of two runs side by side: how their environments differ, then every case and metric with its verdict."""

import streamlit as st

from dashboard import parts, source
from dashboard.comparisons import differences_frame, ratios_frame, rows_frame, warnings_list
from dashboard.queries import case_names
from results import figures
from results.format import plain
from results.gate import Judgement
from results.outcome import outcome_of
from results.policy import Policy
from results.reading import RunSummary
from results.sides import Side
from results.verdict_words import headline, method, spoken


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
    side_a, side_b = (Side(run.run_id, source.report(run), (run.run_id,)) for run in (a, b))
    outcome = outcome_of((side_a, side_b), Policy())
    st.header("Environments")
    if outcome.differences:
        parts.table(differences_frame(outcome.differences))
    else:
        st.text("Both runs had the same environment.")
    if outcome.judgement:
        show(outcome.judgement)
    else:
        parts.error(outcome.refusal)
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


def show(judgement: Judgement) -> None:
    comparison = judgement.comparison
    names = case_names((*comparison.a_run.planned, *comparison.b_run.planned))
    st.header("Verdict")
    st.metric("B against A", spoken(judgement.verdict), width="content")
    st.text(plain("\n".join((headline(judgement), *judgement.reasons))))
    parts.table(rows_frame(judgement, names))
    st.caption(parts.literal(method(judgement)))
    ratios = ratios_frame(judgement, names)
    if not ratios.empty:
        st.plotly_chart(figures.forest(ratios), key="forest", config=parts.CHART_CONFIG)
    if warnings := warnings_list(judgement, names):
        with st.expander(f"Warnings ({len(warnings)})"):
            st.text("\n".join(warnings))


if __name__ == "__main__":
    page()
