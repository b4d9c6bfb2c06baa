"""The page of what the whole store covers: which combinations were measured, failed, or were never tried."""

import streamlit as st

from dashboard import choices, parts, source
from results import choice_figures
from results.coverage import AXES, matrix

ROWS, COLUMNS = "engine and level", "model"


def page() -> None:
    st.title("Coverage")
    covered = source.coverage()
    if not covered:
        parts.no_runs()
        return
    left, right = st.columns(2)
    with left:
        rows = choose_axis("Rows", "rows", ROWS)
    with right:
        columns = choose_axis("Columns", "columns", COLUMNS)
    if rows is None or columns is None:
        return
    found = matrix(covered, rows, columns)
    parts.chart(choice_figures.coverage(found), choices.coverage_frame(found), "coverage")
    st.caption("Cases of all runs of this store, by how they ended; – was never tried.")
    lost = choices.failures_frame(covered)
    if not lost.empty:
        st.header("Not measured")
        parts.table(lost)
    parts.reproduce(("bench", "show"))


def choose_axis(label: str, name: str, default: str) -> str | None:
    wanted = st.query_params.get(name)
    return parts.choose(label, name, {axis: axis for axis in AXES}, wanted if wanted in AXES else default)


if __name__ == "__main__":
    page()
