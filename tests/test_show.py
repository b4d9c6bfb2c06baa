"""`bench show` on a store with exact numbers: the runs, one run, its failures, requests and outputs."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import (
    START,
    make_case,
    make_failure,
    make_measurement,
    make_planned,
    make_report,
    make_request,
    make_run,
    store_report,
)
from terminal import run_bench, same_as_golden

from results.records import Report
from results.store import Store

SECOND = "20260302-120000-bbbb"


pytestmark = pytest.mark.usefixtures("utc")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("store") / "results.db")
    later = make_report(run_id=SECOND, slower=1.2, seed=2, started_at=START + timedelta(days=1))
    with Store.writing(path) as store:
        store_report(store, make_report())
        store_report(store, later.model_copy(update={"tags": ()}))
    return path


def test_golden_list(url: str) -> None:
    same_as_golden("show-runs.txt", run_bench("show", "--store", url).output)


def test_golden_run(url: str) -> None:
    found = run_bench("show", "main", "--failures", "--requests", "--store", url)
    assert found.code == 0
    same_as_golden("show-run.txt", found.output)


def test_newest_run_comes_first_and_the_limit_holds(url: str) -> None:
    listed = json.loads(run_bench("show", "--json", "--store", url).output)
    assert [one["run_id"] for one in listed] == [SECOND, "20260301-120000-aaaa"]
    assert listed[1]["tags"] == ["main"]
    assert listed[1]["started_at"] == "2026-03-01T12:00:00+00:00"
    assert len(json.loads(run_bench("show", "--json", "--limit", "1", "--store", url).output)) == 1
    assert run_bench("show", "--limit", "0", "--store", url).code == 2


def test_json_of_a_run(url: str) -> None:
    found = json.loads(run_bench("show", "latest", "--json", "--store", url).output)
    assert found["run_id"] == SECOND
    assert "requests" not in found
    assert [case["status"] for case in found["cases"]] == ["measured", "measured", "crash"]


def test_json_of_requests_holds_text_only_when_asked(url: str) -> None:
    without = json.loads(run_bench("show", "main", "--json", "--requests", "--store", url).output)["requests"]
    assert len(without) == 21
    assert without[0]["tpot_s"] == pytest.approx(0.1, rel=0.05)
    assert "output" not in without[0]
    outputs = json.loads(run_bench("show", "main", "--json", "--outputs", "--store", url).output)["requests"]
    assert outputs[0]["output"].startswith("Machine learning is")


def test_outputs_are_plain_text(tmp_path: Path) -> None:
    report = make_report()
    output = "[bold]see[/bold] \x1b[31m# heading\x1b[0m \u202eend " + "x" * 300
    request = make_request("hostile-0", prompt="Say *something*", output=output)
    hidden = make_request("hidden-0", content_policy="none", prompt=None, output=None)
    case = report.run.planned[0].case
    measured = make_measurement("hostile", case, requests=(request, hidden))
    report = report.model_copy(update={"measurements": (measured,), "scores": ()})
    with Store.writing(str(tmp_path / "results.db")) as store:
        store_report(store, report)
    text = run_bench("show", "latest", "--outputs", "--store", str(tmp_path / "results.db")).output
    assert "    [bold]see[/bold] # heading end " + "x" * 300 + "\n" in text
    assert "Say *something*" in text
    assert "output: not kept (policy none)" in text
    assert "\x1b" not in text


def test_failures_show_what_the_process_wrote_last(tmp_path: Path) -> None:
    report = make_report()
    crashed = make_failure("x", report.run.planned[2].case, stderr_tail="Traceback [1]\n\x1b[31mSegmentation fault\x1b[0m\n")
    with Store.writing(str(tmp_path / "results.db")) as store:
        store_report(store, report.model_copy(update={"failures": (crashed,)}))
    text = run_bench("show", "latest", "--failures", "--store", str(tmp_path / "results.db")).output
    assert "crash in phase measure, exit code -9: The worker was killed" in text
    assert "  Traceback [1]\n  Segmentation fault\n" in text


def test_an_empty_store_is_no_error_and_a_missing_one_is(tmp_path: Path) -> None:
    path = str(tmp_path / "results.db")
    missing = run_bench("show", "--store", path)
    assert (missing.code, missing.output) == (2, "")
    assert "bench run SUITE" in missing.error
    assert list(tmp_path.iterdir()) == []
    Store.writing(path).close()
    empty = run_bench("show", "--store", path)
    assert empty.code == 0
    assert "bench run SUITE" in empty.output
    assert json.loads(run_bench("show", "--json", "--store", path).output) == []
    assert run_bench("show", "latest", "--store", path).code == 2


def test_wrong_usage_is_refused(url: str) -> None:
    assert run_bench("show", "--outputs", "--store", url).code == 2
    unknown = run_bench("show", "nosuch", "--store", url)
    assert unknown.code == 2
    assert "nosuch" in unknown.error


def frontier_report() -> Report:
    """Three levels that did one task: fp32 is beaten by bf16, int8 is smaller and slower."""
    cases = {
        level: make_case(dtype=level if level != "int8" else "bf16", quantization=level) for level in ("fp32", "bf16", "int8")
    }
    figures = {"fp32": (0.1, 1.6e9), "bf16": (0.06, 1.1e9), "int8": (0.12, 0.9e9)}
    measurements = [
        make_measurement(
            f"m-{level}-{process}", case, process=process, tpot_s=figures[level][0],
            values={"peak_rss_bytes": figures[level][1]},
        )
        for level, case in cases.items()
        for process in range(3)
    ]  # fmt: skip
    return Report(run=make_run(*map(make_planned, cases.values())), measurements=tuple(measurements))


@pytest.mark.parametrize("width", [80, 140])
def test_pareto_golden(width: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.writing(url) as store:
        store_report(store, frontier_report())
    shown = run_bench("show", "latest", "--pareto", "--within", "1GiB", "--store", url, columns=width)
    assert shown.code == 0
    same_as_golden(f"pareto-{width}.txt", shown.output)
    data = json.loads(run_bench("show", "latest", "--pareto", "--within", "1GiB", "--json", "--store", url).output)
    assert [point["standing"] for point in data[0]["points"]] == ["frontier", "frontier", "beaten"]
    assert data[0]["best_within"]["speed"] == data[0]["points"][0]["case_id"]


def test_pareto_needs_something_to_compare(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    with Store.writing(url) as store:
        store_report(store, Report(run=make_run(), measurements=(make_measurement("m"),)))
    alone = run_bench("show", "latest", "--pareto", "--store", url)
    assert (alone.code, "no two configurations" in alone.error) == (2, True)
    wrong = run_bench("show", "latest", "--pareto", "--within", "much", "--store", url)
    assert (wrong.code, "--within much: is no size" in wrong.error) == (2, True)
    assert run_bench("show", "latest", "--within", "1GiB", "--store", url).code == 2
