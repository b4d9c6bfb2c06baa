"""What several pages share: choices that stand in the link, tables, charts with their tables, and the command behind a page.

Streamlit reads markdown in messages, headings and labels, and markdown loads remote images: data gets there only as `literal`.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from dashboard import source
from results.errors import UsageError
from results.format import moment, plain
from results.reading import RunSummary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

RUN_PAGE = "app_pages/run.py"
COMPARE_PAGE = "app_pages/compare.py"
LOAD_PAGE = "app_pages/load.py"
PARETO_PAGE = "app_pages/pareto.py"
COVERAGE_PAGE = "app_pages/coverage.py"
CHART_CONFIG = {"displaylogo": False}


def literal(text: str) -> str:
    """Text that markdown shows as it stands: every ASCII punctuation mark escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", plain(text))


def error(message: object) -> None:
    st.error(literal(str(message)))


def no_runs() -> None:
    """What an empty store shows."""
    st.info("The store holds no runs yet. Measure something first, then reload this page:")
    reproduce(("bench", "run", "quickstart"), title="")


def choose(label: str, name: str, options: Mapping[str, str], wanted: str | None) -> str | None:
    """A select box whose choice is written to the query parameter `name`, so that the view is a link.

    Args:
        options: values with the words that show them.
        wanted: the value that the link means; the box stays empty when it is no option.
    """
    key = f"chosen_{name}"
    st.session_state[key] = wanted if wanted in options else None

    def write_link() -> None:
        st.query_params[name] = st.session_state[key]

    index = 0 if wanted in options else None
    chosen: str | None = st.selectbox(label, list(options), index, lambda one: plain(options[one]), key, on_change=write_link)
    return chosen


def choose_run(label: str, name: str, runs: Sequence[RunSummary], default: RunSummary) -> RunSummary | None:
    """A choice among runs; the link may name one by its id, its beginning, a tag or `latest`, and `None` means that it names
    none that is there."""
    by_id = {run.run_id: run for run in runs}
    wanted = None
    try:
        wanted = source.resolve(st.query_params.get(name) or default.run_id)
    except UsageError as problem:
        error(problem)
    if name not in st.query_params:
        st.query_params[name] = default.run_id
    words = {run.run_id: f"{moment(run.started_at)} · {run.suite} · {run.status} · {run.run_id}" for run in runs}
    chosen = choose(label, name, words, wanted)
    return by_id[chosen] if chosen else None


def table(frame: pd.DataFrame) -> None:
    st.dataframe(frame, hide_index=True)


def chart(figure: "Figure", frame: pd.DataFrame, key: str) -> None:
    """A figure, and the same facts as a table below it."""
    st.plotly_chart(figure, key=key, config=CHART_CONFIG)
    with st.expander("The same as a table"):
        table(frame)


def reproduce(command: Sequence[str], title: str = "Reproduce") -> None:
    if title:
        st.caption(title)
    st.code(plain(shlex.join(command)), language="bash", wrap_lines=True)
