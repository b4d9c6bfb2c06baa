"""The dashboard: `bench dashboard` has Streamlit run this file. It looks at the store that BENCH_STORE names and changes nothing."""

import streamlit as st

from dashboard import parts
from results.errors import GemmeterError


def main() -> None:
    st.set_page_config(page_title="Gemmeter", layout="wide")
    page = st.navigation(
        [
            st.Page("app_pages/runs.py", title="Runs", url_path="runs", default=True),
            st.Page(parts.RUN_PAGE, title="Run", url_path="run"),
            st.Page(parts.LOAD_PAGE, title="Load", url_path="load"),
            st.Page(parts.PARETO_PAGE, title="Pareto", url_path="pareto"),
            st.Page(parts.COVERAGE_PAGE, title="Coverage", url_path="coverage"),
            st.Page(parts.COMPARE_PAGE, title="Compare", url_path="compare"),
        ],
        position="top",
    )
    try:
        page.run()
    except GemmeterError as problem:
        parts.error(problem)


if __name__ == "__main__":
    main()
