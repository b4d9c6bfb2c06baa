"""The page for a choice: one run's configurations by speed, memory and quality, with those that nothing else beats."""

import streamlit as st

from dashboard import choices, parts, source
from results import choice_figures
from results.errors import UsageError
from results.pareto import Frontier, frontiers
from results.summary import summarize
from results.validation import parse_size


def page() -> None:
    st.title("Pareto")
    runs = source.summaries()
    if not runs:
        parts.no_runs()
        return
    run = parts.choose_run("Run", "run", runs, default=runs[0])
    if run is None:
        return
    found = frontiers(summarize(source.report(run)))
    if not found:
        st.info("This run has no two configurations that did the same task. Choose another one, or measure some:")
        parts.reproduce(("bench", "run", "quantization-ladder"), title="")
        return
    tasks = {str(place): one.task for place, one in enumerate(found)}
    wanted = st.query_params.get("task", "0")
    task = parts.choose("Task", "task", tasks, wanted if wanted in tasks else "0")
    if task is None:
        return
    limit = memory_limit()
    show(found[int(task)], limit)
    within = ("--within", st.query_params["within"]) if limit else ()
    parts.reproduce(("bench", "show", run.run_id, "--pareto", *within))


def memory_limit() -> int | None:
    """What the best configuration has to fit in, as the link says."""
    text = st.text_input("Best that fits in", st.query_params.get("within", ""), placeholder="such as 2GiB", key="within")
    if not text:
        st.query_params.pop("within", None)
        return None
    try:
        limit = parse_size(text, "Best that fits in")
    except UsageError as problem:
        parts.error(problem)
        return None
    st.query_params["within"] = text
    return limit


def show(frontier: Frontier, limit: int | None) -> None:
    if limit is not None:
        st.text("\n".join(choices.best_lines(frontier, limit)))
    frame = choices.frontier_frame(frontier)
    if not frame.empty:
        figure = choice_figures.frontier(frame, frontier.axes["speed"], frontier.axes["memory"])
        st.plotly_chart(figure, key="frontier", config=parts.CHART_CONFIG)
    parts.table(choices.frontier_table(frontier))
    st.caption(
        "On the frontier: nothing is at least as good in every column and better in one. Close: something is, but within the "
        "intervals. Not ranked: it lacks a figure that others have, such as the quality of random weights."
    )


if __name__ == "__main__":
    page()
