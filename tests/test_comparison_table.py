"""A comparison on the terminal stays readable at every width, and says what it lacks."""

import io

import pytest
from fakes import make_case, make_failure, make_measurement, make_planned, make_report, make_run
from judgements import CALIBRATION, SECOND, make_outcome, refused, side_of, two_sides
from rich.console import RenderableType
from terminal import same_as_golden
from test_tables import drawn, screen

from bench.comparison_table import comparison_table
from results.outcome import outcome_of
from results.policy import Policy
from results.records import Report

pytestmark = pytest.mark.usefixtures("utc")


def compared(a: Report, b: Report) -> RenderableType:
    return comparison_table(outcome_of((side_of(a), side_of(b)), Policy()))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_golden_comparison(width: int) -> None:
    same_as_golden(f"comparison-{width}.txt", drawn(comparison_table(make_outcome()), width))


@pytest.mark.parametrize("width", range(45, 221, 19))
def test_no_number_is_cut_at_any_width(width: int) -> None:
    text = drawn(comparison_table(make_outcome()), width)
    for whole in ("60.1 ms", "71.8 ms", "+19.7 %", "1.49 GiB"):
        assert whole in text.replace("\n  ", " "), whole
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_the_environments_come_first_also_where_they_forbid_comparing() -> None:
    text = drawn(comparison_table(refused()), 120)
    assert text.index("A: baseline main, 20260301-120000-aaaa") < text.index("cpu_model (hard)") < text.index("python")
    assert "Verdict" not in text


def test_what_was_calibrated_and_what_was_not() -> None:
    text = " ".join(drawn(comparison_table(make_outcome(calibration=CALIBRATION)), 120).split())
    assert "replays of unchanged code were called a regression in at most 5 of 400" in text
    text = " ".join(drawn(comparison_table(make_outcome(calibration=None)), 120).split())
    assert "Nothing is calibrated for suite quickstart on this machine" in text


def test_what_one_side_lacks_is_told_once() -> None:
    whole = make_report(with_failure=False)
    case = whole.run.planned[0].case
    rest = tuple(one for one in make_report(run_id=SECOND).measurements if one.case_id != case.case_id)
    crashed = make_failure("x", case, run_id=SECOND, kind="oom", message="Out of memory: choose a smaller model.")
    lost = make_report(run_id=SECOND).model_copy(update={"measurements": rest, "failures": (crashed,)})
    text = drawn(compared(whole, lost), 200)
    assert text.count("gemma-3-270m transformers fp32 cpu pp32 tg16 newly failed: oom: Out of memory") == 1
    assert "missing on B" not in text
    assert "not reached" not in text
    assert text.rstrip().splitlines()[-1].startswith("Regression: ")
    assert "1 newly failed" in text


def test_too_few_processes_say_what_they_need() -> None:
    text = drawn(compared(make_report(processes=1), make_report(processes=1, run_id=SECOND)), 120)
    assert "Inconclusive: " in text
    assert "1 process a side: a verdict needs 3." in text
    assert "1/1" in text


def test_exact_metrics_show_the_smallest_difference() -> None:
    case = make_case()

    def report(run_id: str, weights: float) -> Report:
        made = make_measurement(run_id, case, run_id=run_id, values={"weights_bytes": weights})
        return Report(run=make_run(make_planned(case), run_id=run_id), measurements=(made,))

    text = drawn(compared(report("a", 2.0**30), report("b", 2.0**30 + 4096)), 200)
    assert "+4 KiB" in text
    assert "1 GiB" in text


def test_names_are_no_markup_and_no_escapes() -> None:
    hostile = "[red]boom[/red] \x1b[31mred\x1b[0m \u202eevil"
    a, b = two_sides()
    text = drawn(comparison_table(outcome_of((side_of(a.report, hostile), b), Policy())), 200)
    assert "[red]boom[/red] red evil" in text
    assert "\x1b" not in text


def test_colours_never_speak_alone() -> None:
    console = screen(120, color_system="standard", force_terminal=True)
    console.print(comparison_table(make_outcome()))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[1;31mregression" in console.file.getvalue()
