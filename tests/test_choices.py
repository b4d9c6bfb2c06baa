# ruff: noqa: F811  (a fixture of the other tests of the dashboard is imported, and named as an argument)
"""Frontiers and coverage on the dashboard: frames hold the store's numbers, pages show them, every view is a link."""

from pathlib import Path
from typing import Any

import pytest
from fakes import make_case, make_failure, make_planned, make_report, make_run, store_report
from test_dashboard import show  # noqa: F401
from test_show import frontier_report

from dashboard import choices
from results import choice_figures
from results.coverage import Cell, Covered, gaps, matrix
from results.pareto import frontiers
from results.records import Report
from results.store import Store
from results.summary import summarize


def covered(*outcomes: tuple[str, str, int, str | None]) -> list[Covered]:
    """(model, dtype, measurements, last failure) of each case."""
    return [
        Covered(
            make_planned(make_case(weights=f"sha256:{model}", dtype=dtype, quantization=dtype), model=model), measured, failure
        )
        for model, dtype, measured, failure in outcomes
    ]


def test_cells_say_how_many_cases_ended_how() -> None:
    ok, lost, never = covered(("a", "fp32", 3, "oom"), ("a", "fp32", 0, "oom"), ("a", "fp32", 0, None))
    assert [one.outcome for one in (ok, lost, never)] == ["measured", "oom", "not reached"]
    cells = [Cell(), Cell((ok,)), Cell((ok, lost, lost)), Cell((lost,)), Cell((never,)), Cell((lost, never))]
    assert [(cell.state, cell.text) for cell in cells] == [
        ("never tried", "–"),
        ("measured", "1 measured"),
        ("partly", "1 measured, 2 oom"),
        ("failed", "1 oom"),
        ("not reached", "1 not reached"),
        ("failed", "1 not reached, 1 oom"),
    ]


def test_a_matrix_has_the_gaps_too() -> None:
    found = matrix(covered(("a", "fp32", 1, None), ("b", "fp32", 0, "oom"), ("a", "bf16", 1, None)), "model", "level")
    assert (found.rows, found.columns) == (("a", "b"), ("fp32", "bf16"))
    assert gaps(found) == [("b", "bf16")]
    frame = choices.coverage_frame(found)
    assert frame.to_dict("list") == {"": ["a", "b"], "fp32": ["1 measured", "1 oom"], "bf16": ["1 measured", "–"]}
    heat = choice_figures.coverage(found).data[0]
    states = list(choice_figures.STATES)
    assert [[states[value] for value in row] for row in heat.z] == [["measured", "measured"], ["failed", "never tried"]]


def test_the_store_covers_all_runs(tmp_path: Path) -> None:
    failed = make_case(output_tokens=64)
    again = make_run(make_planned(failed), make_planned(make_case(output_tokens=128)), run_id="20260302-120000-bbbb")
    later = make_failure("later", failed, run_id="20260302-120000-bbbb", kind="oom")
    with Store.writing(str(tmp_path / "s.db")) as store:
        store_report(store, make_report())
        store_report(store, Report(run=again, failures=(later,)))
        found = {
            one.planned.case.shape: (one.measured, one.outcome) for one in store.coverage() if one.planned.case.dtype == "fp32"
        }
    assert found == {
        "pp32 tg16": (3, "measured"),
        "pp32 tg64": (0, "oom"),
        "quality": (1, "measured"),
        "pp32 tg128": (0, "not reached"),
    }


def test_frontier_frames_hold_base_units_and_readable_text() -> None:
    (frontier,) = frontiers(summarize(frontier_report()))
    frame = choices.frontier_frame(frontier)
    assert frame["memory"].to_list() == [0.9e9, 1.1e9, 1.6e9]
    assert frame["standing"].to_list() == ["frontier", "frontier", "beaten"]
    assert frame["quality"].isna().all()
    shown = choices.frontier_table(frontier)
    assert shown["Standing"].to_list() == ["on the frontier", "on the frontier", "beaten by 2"]
    assert shown["Configuration"].to_list() == ["int8/bf16", "bf16", "fp32"]
    assert choices.best_lines(frontier, 1e9) == ["Fastest that fits in 954 MiB: int8/bf16"]
    assert choices.best_lines(frontier, 1e6) == ["Nothing fits in 977 KiB."]
    figure = choice_figures.frontier(frame, "decode_tps", "peak_rss_bytes")
    assert [trace.name for trace in figure.data] == ["nothing beats it", "beaten"]
    assert figure.layout.xaxis.title.text == "Peak RSS (GiB)"
    assert figure.layout.yaxis.range == (0, pytest.approx(1.3 / 0.06))


@pytest.mark.slow
def test_pareto_page_marks_the_frontier_and_names_what_fits(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.writing(str(path)) as store:
        store_report(store, frontier_report())
    page = show(path, "pareto", within="1GiB")
    assert list(page.dataframe[0].value["Standing"]) == ["on the frontier", "on the frontier", "beaten by 2"]
    assert any("Fastest that fits in 1 GiB: int8/bf16" in text.value for text in page.text)
    assert "--pareto --within 1GiB" in page.code[-1].value
    wrong = show(path, "pareto", within="much")
    assert any("is no size" in one.value.replace("\\", "") for one in wrong.error)


@pytest.mark.slow
def test_a_run_without_a_choice_says_what_to_measure(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.writing(str(path)) as store:
        store_report(store, Report(run=make_run()))
    page = show(path, "pareto")
    assert "no two configurations" in page.info[0].value


@pytest.mark.slow
def test_coverage_page_lets_choose_its_axes(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with Store.writing(str(path)) as store:
        store_report(store, make_report())
    page = show(path, "coverage", rows="task", columns="level")
    assert page.dataframe[0].value.to_dict("list") == {
        "": ["pp32 tg16", "pp32 tg64", "quality"],
        "fp32": ["1 measured", "1 crash", "1 measured"],
        "bf16": ["1 measured", "–", "–"],
    }
    assert page.dataframe[1].value["Ended as"].to_list() == ["crash"]
