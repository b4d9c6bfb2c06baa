# ruff: noqa: F811  (fixtures of the other tests of the dashboard are imported, and named as arguments)
"""The Load page: its frames hold the store's numbers, every view is a link, and it draws in a real browser."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import make_report, make_request
from load_fakes import LIMITS, LOAD_RUN, LOADS, fail, make_load_report
from test_browser import cell, chromium, open_page, page, photograph, wait_until_open  # noqa: F401
from test_dashboard import make_store, show, table  # noqa: F401

from dashboard import loads
from results.cases import Load
from results.definitions import FIGURES
from results.load_curve import LoadPoint, load_curves


def points_of(**changes: Any) -> tuple[LoadPoint, ...]:
    (curve,) = load_curves(make_load_report(**changes))
    return curve.points


# ---- frames


def test_loads_frame_has_a_row_per_load() -> None:
    frame = loads.loads_frame(points_of()).set_index("Load")
    assert list(frame.index) == ["c1", "poisson 2/s", "poisson 3/s", "poisson 4/s", "poisson 5/s (knee)", "c32", "poisson 8/s"]
    over = frame.loc["poisson 8/s"]
    assert over[["Status", "Offered", "Requests", "Errors", "Arrivals", "n"]].to_list() == [
        "over-saturated", "8/s", 240, "2 timeout", "as planned", "1/1",
    ]  # fmt: skip
    assert "2 of 240 requests failed (timeout)" in over["Warnings"]
    assert frame.loc["c1", ["Offered", "Errors", "Arrivals", "In flight"]].to_list() == ["–", "0", "–", "1"]
    assert frame.loc["c1", "TTFT p99 ↓"] == "89.3 ms"
    assert frame.loc["c1", "TTFT p50 ↓"].startswith("80 ms [")
    assert loads.error_meanings(points_of()) == ["timeout: no end within the request's time limit"]


def test_curve_frame_has_the_quantiles_that_there_are_enough_requests_for() -> None:
    frame = loads.curve_frame(points_of(count=60), "request_rate", "ttft")
    assert list(dict.fromkeys(frame["quantile"])) == ["p50", "p90"]
    assert frame["low"].isna().all()
    (note,) = loads.too_few(points_of(count=60), "ttft")
    assert note.startswith("No TTFT p99 for c1, poisson 2/s")
    assert note.endswith("needs 200 requests.")
    full = loads.curve_frame(points_of(), "request_rate", "e2e")
    assert len(full) == 3 * len(LOADS)
    assert list(full[full["over_saturated"]]["load"]) == ["poisson 8/s"] * 3
    assert list(full[full["knee"]]["load"]) == ["poisson 5/s"] * 3
    assert loads.too_few(points_of(), "e2e") == []
    beside = loads.curve_table(points_of(count=60), "request_rate", "ttft")
    assert list(beside.columns) == ["Load", "Requests/s", "p50", "p90", "p99"]
    assert set(beside["p99"]) == {"–"}


def test_intervals_are_those_over_processes() -> None:
    points = points_of(processes=3)
    row = loads.curve_frame(points, "output_tps", "tpot").iloc[0]
    estimate = points[0].row.estimates["tpot_s"]
    assert row[["value", "low", "high"]].to_list() == [estimate.value, estimate.low, estimate.high]


def test_goodput_frame_has_the_loads_with_a_rate() -> None:
    frame = loads.goodput_frame(points_of())
    assert list(frame["x"]) == [2, 3, 4, 5, 8]
    assert set(frame["limits"]) == {LIMITS}
    assert frame["value"].iloc[-1] < 1 < frame["value"].iloc[0]
    assert frame["share"].iloc[-1] < 0.5 < frame["share"].iloc[0] <= 1
    row = loads.goodput_table(frame.assign(value=frame["x"] / 4, share=0.5)).iloc[3].to_list()
    assert row == ["poisson 5/s", LIMITS, "5/s", "1.25/s", "50%"]


def test_arrivals_are_told_for_each_process() -> None:
    point = points_of(processes=3)[1]
    late = point.measurements[0].model_copy(update={"values": {"arrivals_ok": 0.0}})
    assert loads.arrivals_text((late, *point.measurements[1:])) == "not as planned in 1 of 3"


def test_timeline_frames() -> None:
    requests = (make_request("a", index=0, sent_s=1.0, scheduled_s=0.5), fail(make_request("b", index=1, sent_s=0.2), "http_5xx"))
    measurement = points_of(count=30)[0].measurements[0].model_copy(update={"requests": requests})
    assert loads.waits_frame(measurement).to_numpy().tolist() == [[0.2, 0.0, "http_5xx"], [0.5, pytest.approx(0.6), "answered"]]
    assert loads.in_flight_frame(measurement, 10)["value"].to_list() == [0, 1, 0]
    frame = loads.requests_frame(requests)
    assert frame.iloc[0].to_list() == [1, "0.200 s", "–", "–", "–", "–", "–", "http_5xx: as the test wants it"]
    assert frame.iloc[1].to_list() == [0, "0.500 s", "500 ms", "100 ms", "50 ms", "1.35 s", "16", "length"]


def test_requests_to_choose_are_the_slowest_and_those_without_an_answer() -> None:
    slow, quick = make_request("slow", index=3, ttft_s=2.0), make_request("quick", index=4)
    failed = fail(make_request("failed", index=5), "timeout")
    assert loads.request_names([quick, failed, slow], limit=2) == {
        "failed": "request 5 · TTFT from schedule – · timeout",
        "slow": "request 3 · TTFT from schedule 2 s · answered",
    }


def test_a_request_under_other_definitions() -> None:
    frame = loads.definitions_frame(make_request("a", ttft_s=0.1, tpot_s=0.05)).set_index("Tool")
    columns = [FIGURES[name][0] for name in ("ttft_s", "tpot_s", "output_tokens", "decode_tps")]
    assert frame.loc["Gemmeter", columns].to_list() == [
        "100 ms",
        "50 ms",
        "16",
        "20 tok/s",
    ]
    assert frame.loc["GuideLLM", columns[1]] == "53.1 ms"  # it holds the time to the first token
    formulas = loads.formulas_frame(make_request("a"))
    assert "Time to first token: first event with non-empty content minus sent." in set(formulas["Formula"])


# ---- the page


@pytest.mark.slow
def test_the_page_shows_the_curve_and_every_choice_is_a_link(show: Any, tmp_path: Path) -> None:
    report = make_load_report(quantizations=("q4_k_m", "q8_0"))
    app = show(make_store(tmp_path / "s.db", make_report(), report), "load")
    assert {one.label: one.value for one in app.metric}["Knee"] == r"poisson 5\/s"
    assert list(table(app, "Goodput ↑")["Load"])[4] == "poisson 5/s (knee)"
    assert len(app.get("plotly_chart")) == 3
    assert [one.value for one in app.code][-1] == "bench run serving-sweep"
    app.selectbox(key="chosen_latency").select("e2e").run()
    app.selectbox(key="chosen_throughput").select("request_rate").run()
    second = load_curves(report)[1]
    app.selectbox(key="chosen_configuration").select(second.curve_id).run()
    over = next(point for point in second.points if point.label == "poisson 8/s")
    app.selectbox(key="chosen_load").select(over.case_id).run()
    failed = next(one for one in over.requests if one.error)
    app.selectbox(key="chosen_request").select(failed.request_id).run()
    assert not app.exception
    link = {
        "run": LOAD_RUN, "latency": "e2e", "throughput": "request_rate", "configuration": second.curve_id, "load": over.case_id,
        "request": failed.request_id,
    }  # fmt: skip
    assert app.query_params == link
    assert "timeout: as the test wants it" in [one.value for one in app.text]
    assert f"bench explain {failed.request_id}" in [one.value for one in app.code]


@pytest.mark.slow
def test_a_link_is_followed_and_what_it_names_wrongly_gives_way(show: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.db", make_load_report(processes=2))
    app = show(store, "load", run="latest", latency="tpot", process="1", load="c1-none", configuration="![x](http://example.org)")
    assert app.selectbox(key="chosen_latency").value == "tpot"
    assert app.selectbox(key="chosen_process").value == "1"
    assert app.selectbox(key="chosen_load").value.startswith("c1-")
    assert not app.error


@pytest.mark.slow
def test_few_requests_and_no_limits_are_said(show: Any, tmp_path: Path) -> None:
    report = make_load_report(count=60, limits=None)
    bare = tuple(one.model_copy(update={"values": {}}) for one in report.measurements)
    app = show(make_store(tmp_path / "s.db", report.model_copy(update={"measurements": bare})), "load")
    texts = [one.value for one in app.text]
    assert any("needs 200 requests" in text for text in texts)
    assert any("no limits" in text for text in texts)
    assert len(app.get("plotly_chart")) == 2


@pytest.mark.slow
def test_a_run_that_measured_nothing_yet_shows_its_plan(show: Any, tmp_path: Path) -> None:
    app = show(make_store(tmp_path / "s.db", make_load_report().model_copy(update={"measurements": ()})), "load")
    assert set(table(app, "Offered")["Status"]) == {"missing"}
    assert not app.get("plotly_chart")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unsent", "timeout", None])
def test_a_server_that_never_answered(show: Any, tmp_path: Path, kind: str | None) -> None:
    report = make_load_report(count=4)
    measurements = tuple(
        one.model_copy(update={"requests": tuple(fail(request, kind) for request in one.requests if kind)})
        for one in report.measurements
    )
    app = show(make_store(tmp_path / "s.db", report.model_copy(update={"measurements": measurements})), "load")
    assert set(table(app, "Offered")["Errors"]) == {f"4 {kind}" if kind else "0"}
    assert "No load has both." in [one.value for one in app.text]


@pytest.mark.slow
def test_a_missing_store_is_a_sentence(show: Any, tmp_path: Path) -> None:
    assert show(tmp_path / "none.db", "load").error[0].value.startswith("There is no store at")


@pytest.mark.slow
@pytest.mark.parametrize("reports", [(), (make_report(),)])
def test_without_loads_it_tells_what_to_run(show: Any, tmp_path: Path, reports: tuple[Any, ...]) -> None:
    app = show(make_store(tmp_path / "s.db", *reports), "load")
    assert app.code[0].value == "bench run serving-sweep"
    assert app.info


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard of a store with one load run, whose errors are markup; ended by its process id."""
    report = make_load_report()
    link = "timeout: ![x](http://127.0.0.1:1/a.png) <img src='http://127.0.0.1:1/b.png'>"
    measurements = tuple(
        one.model_copy(update={"requests": tuple(r.model_copy(update={"error": link}) if r.error else r for r in one.requests)})
        for one in report.measurements
    )
    store = make_store(tmp_path_factory.mktemp("store") / "results.db", report.model_copy(update={"measurements": measurements}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bench = [sys.executable, "-c", "from bench.cli import main; main()"]
    command = [*bench, "dashboard", "--store", str(store), "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command, env=os.environ)
    try:
        wait_until_open(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        code = server.wait(15)
    assert code == 130


@pytest.mark.browser
@pytest.mark.slow
def test_the_load_page_draws(page: Any, address: str, tmp_path: Path) -> None:
    over = next(point for point in points_of() if point.load == Load(arrivals="poisson", rate=8))
    assert over.load in LOADS
    failed = next(one for one in over.requests if one.error)
    open_page(page, f"{address}/load?load={over.case_id}&request={failed.request_id}", "Load", charts=3)
    cell(page, "2 timeout")
    titles = page.locator(".js-plotly-plot .xtitle").all_text_contents()
    assert titles == ["Output throughput (tok/s)", "Offered rate (1/s)", "time since the start of the measurement (s)"]
    notes = page.locator(".js-plotly-plot .annotation-text").all_text_contents()
    assert {"c1", "c32", "poisson 8/s", "knee: poisson 5/s"} <= set(notes)
    photograph(page, tmp_path, "load")
    for summary in page.locator("[data-testid=stExpander] summary").all():
        summary.click()
    page.get_by_text("timeout: ![x](http://127.0.0.1:1/a.png)").first.wait_for()
    assert page.locator("[data-testid=stMain] img").count() == 0
