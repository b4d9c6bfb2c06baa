"""Tables stay readable at every width: no number is cut, no text is markup, each warning has its sentence."""

import io

import pytest
from fakes import make_case, make_failure, make_measurement, make_planned, make_report, make_run
from load_fakes import make_load_report
from rich.console import Console, RenderableType
from terminal import same_as_golden

from bench.tables import cases_table, runs_table
from results.reading import RunSummary
from results.records import Report, RowWarning
from results.summary import summarize

HOSTILE = "[red]boom[/red] \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eevil :smile:"


pytestmark = pytest.mark.usefixtures("utc")


def screen(width: int, **options: object) -> Console:
    fields = {"width": width, "markup": False, "emoji": False, "highlight": False, "color_system": None}
    return Console(file=io.StringIO(), **(fields | options))  # type: ignore[arg-type]


def drawn(renderable: RenderableType, width: int) -> str:
    console = screen(width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_golden_cases(width: int) -> None:
    same_as_golden(f"cases-{width}.txt", drawn(cases_table(summarize(make_report())), width))


@pytest.mark.parametrize("width", [80, 200])
def test_golden_loads(width: int) -> None:
    same_as_golden(f"loads-{width}.txt", drawn(cases_table(summarize(make_load_report())), width))


def test_cases_under_load_have_a_table_of_their_own() -> None:
    single, loaded = make_report(), make_load_report()
    mixed = single.model_copy(
        update={
            "run": single.run.model_copy(update={"planned": (*single.run.planned, *loaded.run.planned)}),
            "measurements": (*single.measurements, *loaded.measurements),
        }
    )
    text = drawn(cases_table(summarize(mixed)), 250)
    heads = [line for line in text.splitlines() if line.startswith("Case")]
    assert len(heads) == 2
    assert "Prefill" in heads[0]
    assert "TTFT p99" not in heads[0]
    assert "TTFT p99" in heads[1]
    assert "TTFT p90" not in heads[1]  # the farther percentile is known
    assert "Prefill" not in heads[1]


@pytest.mark.parametrize("width", range(45, 221, 7))
def test_no_number_is_cut_at_any_width(width: int) -> None:
    cases = drawn(cases_table(summarize(make_report())), width)
    for whole in ("300 ms", "16.7 tok/s", "[16.5, 16.8]", "1.49 GiB", "1020 MiB", "0.8"):
        assert whole in cases, whole
    assert "…" not in cases
    assert max(map(len, cases.splitlines())) <= width


def test_one_process_is_labelled_as_the_spread_within_it() -> None:
    text = drawn(cases_table(summarize(make_report(processes=1))), 200)
    assert "2 the interval is the spread within one process: run three or more" in text
    assert "95 % interval" not in text
    assert "† 1 2" in text


def test_a_warning_of_several_rows_stands_once_with_its_worst_numbers() -> None:
    cases = [make_case(output_tokens=count) for count in (16, 32)]
    measured = [
        make_measurement(f"m{k}", case, warnings=(RowWarning(kind="cpu_contention", facts={"share": 0.1 * (k + 1)}),))
        for k, case in enumerate(cases)
    ]
    report = Report(run=make_run(*(make_planned(case) for case in cases)), measurements=tuple(measured))
    text = drawn(cases_table(summarize(report)), 200)
    assert text.count("other processes took") == 1
    assert "1 other processes took 20% of the machine's CPU time (in the worst case)" in text


def test_speed_and_quality_share_the_mark_of_one_warning() -> None:
    busy = RowWarning(kind="cpu_contention", facts={"share": 0.12})
    cases = [make_case(), make_case(purpose="quality", prompt_tokens=None)]
    measured = tuple(make_measurement(f"m{k}", case, warnings=(busy,)) for k, case in enumerate(cases))
    report = Report(run=make_run(*(make_planned(case, base_model=False) for case in cases)), measurements=measured)
    (row,) = drawn(cases_table(summarize(report)), 200).splitlines()[2:3]
    assert row.split("GiB")[1].split() == ["1020", "MiB", "1", "2"]


def test_a_base_model_is_marked_by_its_plan_or_its_warning() -> None:
    for base_model, warnings, marked in ((True, (), True), (None, (RowWarning(kind="base_model"),), True), (False, (), False)):
        measured = (make_measurement("m", warnings=warnings),)
        report = Report(run=make_run(make_planned(base_model=base_model)), measurements=measured)
        assert ("†" in drawn(cases_table(summarize(report)), 200)) is marked


def test_a_run_without_cases_is_drawn_empty() -> None:
    assert drawn(cases_table([]), 80).strip() == ""


def test_failures_stand_below_once_per_kind_with_their_count() -> None:
    case = make_case()
    failures = tuple(make_failure(f"f{k}", case, process=k) for k in range(3))
    text = drawn(cases_table(summarize(Report(run=make_run(make_planned(case)), failures=failures))), 200)
    assert text.count("✗") == 1
    assert "crash in phase measure: The worker was killed" in text
    assert "(3 times)" in text
    assert "0/3 crash" in text


def test_a_failed_quality_pass_is_told() -> None:
    report = make_report()
    (judge,) = (one.case for one in report.run.planned if one.case.purpose == "quality")
    lost = make_failure("q", judge, kind="timeout", message="It took too long.")
    rest = tuple(one for one in report.measurements if one.case_id != judge.case_id)
    text = drawn(cases_table(summarize(report.model_copy(update={"failures": (lost,), "measurements": rest}))), 200)
    assert "quality: timeout in phase measure: It took too long." in text


def test_text_from_outside_is_neither_markup_nor_escape() -> None:
    case = make_case()
    report = Report(run=make_run(make_planned(case, model=HOSTILE)), failures=(make_failure("f", case, message=HOSTILE),))
    for width in (80, 200):
        text = drawn(cases_table(summarize(report)), width)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[red]boom[/red]" in text
        assert ":smile:" in text


def run_summary(number: int, **changes: object) -> RunSummary:
    report = make_report()
    fields: dict[str, object] = {
        "run_id": f"2026030{number}-120000-aaaa", "suite": "quickstart", "started_at": report.run.started_at, "status": "finished",
        "planned": 10, "measured": 7, "failed": 1, "tags": ("main",), "models": ("gemma-3-270m",), "git_commit": "c0ffee0",
        "environment_id": "e1-0",
    }  # fmt: skip
    return RunSummary(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [80, 140])
def test_golden_runs(width: int) -> None:
    runs = [run_summary(2, tags=(), failed=0, measured=10, models=("gemma-3-1b", "gemma-3-4b")), run_summary(1)]
    same_as_golden(f"runs-{width}.txt", drawn(runs_table(runs), width))


def test_long_names_are_folded_and_not_cut() -> None:
    text = drawn(
        runs_table([run_summary(1, suite="a-suite-with-a-very-long-name-indeed", tags=("release/2026.03-candidate-1",))]), 80
    )
    joined = "".join(text.split())
    assert "…" not in text
    assert "20260301-120000-aaaa" in text
    assert "7 of 10" in text
    assert joined.count("a-sui") == 1


@pytest.mark.parametrize("width", range(60, 200, 7))
def test_no_header_and_no_mark_is_cut_off_at_any_width(width: int) -> None:
    report = make_report()
    values = {"estimated_bytes": 1.7e9, "load_peak_rss_bytes": 2.1e9, "price_per_hour": 1.0}
    measured = tuple(one.model_copy(update={"values": dict(one.values) | values}) for one in report.measurements)
    shown = drawn(cases_table(summarize(report.model_copy(update={"measurements": measured}))), width)
    words = {"Estimate", "Peak RSS", "Load peak", "Cost per 1M tokens", "Weights"}
    assert {word for word in words if word not in " ".join(shown.split())} == set()
    assert max(map(len, shown.splitlines())) <= width
