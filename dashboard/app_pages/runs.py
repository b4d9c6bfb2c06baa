"""The page of all runs; selecting one opens it."""

import streamlit as st

from dashboard import parts, source
from dashboard.queries import runs_frame


def page() -> None:
    st.title("Runs")
    runs = source.summaries()
    if not runs:
        parts.no_runs()
        return
    suites = {"": "All suites"} | {run.suite: run.suite for run in runs}
    wanted = st.query_params.get("suite", "")
    suite = parts.choose("Suite", "suite", suites, wanted if wanted in suites else "")
    shown = [run for run in runs if not suite or run.suite == suite]
    st.caption(f"{len(shown)} of {len(runs)} runs, newest first. Select a row to open the run.")
    chosen = st.dataframe(runs_frame(shown), hide_index=True, key="runs", on_select="rerun", selection_mode="single-row")
    if rows := chosen["selection"]["rows"]:
        st.switch_page(parts.RUN_PAGE, query_params={"run": shown[rows[0]].run_id})
    parts.reproduce(("bench", "show"))


if __name__ == "__main__":
    page()
