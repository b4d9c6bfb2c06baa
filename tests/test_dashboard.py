"""The dashboard: its frames hold the store's numbers, its pages show them, and the command serves it and leaves nothing behind."""

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import START, make_case, make_environment, make_failure, make_planned, make_report, make_run, store_report
from load_fakes import make_load_report

from bench.commands import dashboard as command
from dashboard import comparisons, queries
from results.compare import compare
from results.errors import GemmeterError, UsageError
from results.gate import gate
from results.records import Report
from results.store import Store
from results.summary import summarize

pytest_plugins = ["postgres"]

FIRST, SECOND = "20260301-120000-aaaa", "20260302-120000-bbbb"
APP = Path(queries.__file__).with_name("app.py")


def slower_report() -> Report:
    return make_report(run_id=SECOND, slower=1.2, seed=2, started_at=START + timedelta(days=1))


def make_store(path: Path, *reports: Report) -> Path:
    with Store.writing(str(path)) as store:
        for report in reports:
            store_report(store, report)
    return path


# ---- frames


def test_runs_frame(tmp_path: Path) -> None:
    with Store.reading(str(make_store(tmp_path / "s.db", make_report()))) as store:
        frame = queries.runs_frame(store.runs())
    row = frame.iloc[0].to_dict()
    row.pop("Started")
    assert row == {
        "Run": FIRST, "Suite": "quickstart", "Models": "gemma-3-270m", "Status": "finished", "Measured": "7 of 10",
        "Failed": 1, "Tags": "main", "Commit": "c0ffee0",
    }  # fmt: skip


def test_cases_frame_has_medians_with_intervals_marks_and_warnings() -> None:
    report = make_report()
    frame = queries.cases_frame(summarize(report), queries.case_names(report.run.planned))
    assert list(frame["Case"]) == ["fp32 pp32 tg16", "bf16 pp32 tg16", "fp32 pp32 tg64"]
    assert list(frame["Status"]) == ["measured", "measured", "crash"]
    assert list(frame["n"]) == ["3/3", "3/3", "0/3"]
    assert list(frame["TTFT ↓"]) == ["300 ms [296, 305]", "299 ms [296, 302]", "–"]
    assert list(frame["Weights ↓"]) == ["1020 MiB", "1020 MiB", "–"]
    assert frame["Weights are"][0] == "base model, expanded from q4_k_m"
    assert frame["Warnings"][0].startswith("other processes took 12% of the machine's CPU time; a base model continues")
    assert "Device" not in " ".join(frame.columns)


def test_case_names_never_meet() -> None:
    one, two = make_planned(make_case(threads=1)), make_planned(make_case(threads=2))
    other = make_planned(make_case(output_tokens=64))
    assert list(queries.case_names([one, two, other]).values()) == ["pp32 tg16 threads=1", "pp32 tg16 threads=2", "pp32 tg64"]
    assert list(queries.case_names([one]).values()) == ["gemma-3-270m transformers fp32 cpu pp32 tg16"]
    assert queries.common_words([one, other]) == "gemma-3-270m transformers fp32 cpu"


def test_points_and_samples_are_the_records_own() -> None:
    report = make_report()
    names = queries.case_names(report.run.planned)
    points = queries.latency_points(report, names, "ttft_s")
    assert len(points) == 18
    first = report.measurements[0].requests[0]
    assert points.iloc[0].to_list() == ["fp32 pp32 tg16", 0, first.first_content_s]
    (case_id, series), *others = queries.memory_series(report).items()
    assert series == ["rss_bytes"]
    assert len(others) == 1
    samples = queries.series_samples(report, case_id, "rss_bytes")
    assert samples.iloc[:3].to_numpy().tolist() == [[0, 0.0, 1.4e9], [0, 0.5, 1.5e9], [0, 1.0, 1.6e9]]
    assert queries.peaks_frame(samples, "B").iloc[0].to_list() == [0, "1.3 GiB", "1.49 GiB", "1.49 GiB", 3]


def test_comparison_frames() -> None:
    judgement = gate(compare(make_report(), slower_report()))
    names = queries.case_names(judgement.comparison.a_run.planned)
    frame = comparisons.rows_frame(judgement, names).set_index(["Case", "Metric"])
    assert frame.loc[("fp32 pp32 tg16", "TPOT"), "Verdict"] == "regression"
    assert frame.loc[("fp32 pp32 tg16", "TPOT"), "Change"] == "+20.7 % [+19.1, +22.2]"
    assert frame.loc[("fp32 pp32 tg16", "Weights"), ["Verdict", "Change", "Detectable"]].to_list() == [
        "no change",
        "equal",
        "any",
    ]
    assert frame.loc[("fp32 pp32 tg16", "Decode"), "Verdict"] == "described"
    ratios = comparisons.ratios_frame(judgement, names).set_index(["case", "metric"])
    assert ratios.loc[("fp32 pp32 tg16", "ttft_s"), ["band_low", "band_high"]].to_list() == pytest.approx([1 / 1.05, 1.05])
    assert ratios.loc[("fp32 quality", "quality"), ["band_low", "band_high"]].to_list() == pytest.approx([1 - 0.01 / 0.8, 1 + 0.01 / 0.8])  # fmt: skip
    assert frame.loc[("fp32 pp32 tg16", "TPOT"), "Rows that agree"] == 2


# ---- pages


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the app on a store and goes to a page; fails on any exception that the page shows."""
    from streamlit.testing.v1 import AppTest

    def show(store: Path | str, page: str = "runs", **link: str) -> Any:
        monkeypatch.setenv("BENCH_STORE", str(store))
        app = AppTest.from_file(APP, default_timeout=30).run()
        app.query_params.update(link)
        if page != "runs":
            app.switch_page(f"app_pages/{page}.py")
        app.run()
        assert not app.exception
        return app

    return show


def table(app: Any, column: str) -> Any:
    """The first table with this column."""
    return next(one.value for one in app.dataframe if column in one.value)


@pytest.mark.slow
def test_runs_page_lists_filters_and_opens(show: Any, tmp_path: Path) -> None:
    other = make_report(run_id=SECOND, started_at=START + timedelta(days=1))
    other = other.model_copy(update={"run": other.run.model_copy(update={"suite": "threads"})})
    app = show(make_store(tmp_path / "s.db", make_report(), other))
    assert list(app.dataframe[0].value["Run"]) == [SECOND, FIRST]
    assert app.code[0].value == "bench show"
    app.selectbox[0].select("quickstart").run()
    assert list(app.dataframe[0].value["Run"]) == [FIRST]
    assert app.query_params["suite"] == "quickstart"
    app.session_state["runs"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert app.title[0].value == "Run"
    assert app.query_params["run"] == FIRST


@pytest.mark.slow
def test_run_page_shows_the_run(show: Any, tmp_path: Path) -> None:
    app = show(make_store(tmp_path / "s.db", make_report(), slower_report()), "run", run=FIRST)
    assert {one.label: one.value for one in app.metric} == {"Status": "finished", "Measured": "7 of 10", "Failed": "1"}
    assert app.code[0].value == "bench run quickstart"
    assert table(app, "TTFT ↓")["TTFT ↓"][0] == "300 ms [296, 305]"
    assert "loading weights" in [one.value.strip() for one in app.code]
    assert "What is machine learning?" in [one.value for one in app.code]
    assert table(app, "Answer")["Coherence (heuristic v1)"].to_list() == [0.7, 0.7, 0.7]
    texts = "\n".join(one.value for one in app.text)
    assert "crash in phase measure, exit code -9" in texts
    assert "fp32 pp32 tg16: other processes took 12% of the machine's CPU time" in texts
    assert len(app.get("plotly_chart")) == 6
    app.selectbox(key="chosen_run").select(SECOND).run()
    assert app.query_params["run"] == SECOND
    assert table(app, "TTFT ↓")["TTFT ↓"][0] == "359 ms [355, 362]"


@pytest.mark.slow
def test_every_page_reads_postgresql(show: Any, postgresql_url: str) -> None:
    with Store.writing(postgresql_url) as store:
        for report in (make_report(), slower_report(), make_load_report()):
            store.add_report(report)
    assert list(show(postgresql_url).dataframe[0].value["Run"])[-1] == FIRST
    for page, link in (("run", {}), ("load", {}), ("pareto", {}), ("coverage", {}), ("compare", {"a": FIRST, "b": SECOND})):
        app = show(postgresql_url, page, **link)
        assert not app.error
        assert app.title


@pytest.mark.slow
def test_unknown_run_in_the_link_is_a_sentence_that_is_no_markdown(show: Any, tmp_path: Path) -> None:
    app = show(make_store(tmp_path / "s.db", make_report()), "run", run="![x](http://example.org/a.png)")
    assert "No run or tag" in app.error[0].value
    assert r"\!\[x\]\(http" in app.error[0].value
    assert not app.dataframe
    app.selectbox(key="chosen_run").select(FIRST).run()
    assert not app.exception
    assert not app.error
    assert app.metric[0].value == "finished"


@pytest.mark.slow
def test_run_with_failures_only(show: Any, tmp_path: Path) -> None:
    run = make_run()
    failed = Report(run=run, failures=(make_failure("f1"), make_failure("f2", process=1, kind="oom", stderr_tail="\x1b[31mred")))
    app = show(make_store(tmp_path / "s.db", failed), "run")
    assert app.metric[1].value == "0 of 3"
    assert table(app, "Status")["Status"].to_list() == ["oom"]
    assert "red" in [one.value for one in app.code]
    assert "still open" in app.info[0].value
    assert not app.get("plotly_chart")


@pytest.mark.slow
def test_an_open_run_is_read_again_when_it_went_on(show: Any, tmp_path: Path) -> None:
    report = make_report(with_failure=False)
    path = make_store(tmp_path / "s.db", report.model_copy(update={"measurements": report.measurements[:1], "events": ()}))
    app = show(path, "run")
    assert app.metric[1].value == "1 of 10"
    with Store.writing(str(path)) as store:
        store.add_measurement(report.measurements[1])
    app.run()
    assert not app.exception
    assert app.metric[1].value == "2 of 10"
    assert table(app, "TTFT ↓")["n"][0] == "2/3"


@pytest.mark.slow
def test_compare_page_judges_and_links(show: Any, tmp_path: Path) -> None:
    app = show(make_store(tmp_path / "s.db", make_report(), slower_report()), "compare")
    assert (app.query_params["a"], app.query_params["b"]) == (FIRST, SECOND)
    assert app.metric[0].value == "regression"
    assert table(app, "Verdict")["Verdict"][0] == "regression"
    assert app.code[0].value == f"bench compare {FIRST} {SECOND}"
    assert len(app.get("plotly_chart")) == 1
    app.selectbox(key="chosen_a").select(SECOND).run()
    assert not app.exception
    assert app.query_params["a"] == SECOND
    assert "is on both sides" in app.error[0].value
    assert not app.metric


@pytest.mark.slow
def test_other_hardware_is_shown_first_and_not_compared(show: Any, tmp_path: Path) -> None:
    second = slower_report()
    elsewhere = second.run.model_copy(update={"environment": make_environment(cpu_model="Other CPU", python="3.12.1")})
    app = show(make_store(tmp_path / "s.db", make_report(), second.model_copy(update={"run": elsewhere})), "compare")
    frame = table(app, "Forbids comparing")
    assert frame.to_numpy().tolist() == [["cpu_model", "Test CPU", "Other CPU", "yes"], ["python", "3.11.7", "3.12.1", "no"]]
    assert "different machines" in app.error[0].value
    assert not app.metric


@pytest.mark.slow
@pytest.mark.parametrize("page", ["runs", "run", "compare"])
def test_empty_store_tells_what_to_run(show: Any, tmp_path: Path, page: str) -> None:
    app = show(make_store(tmp_path / "s.db"), page)
    assert app.code[0].value == "bench run quickstart"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["runs", "run", "compare"])
def test_missing_store_is_a_sentence(show: Any, tmp_path: Path, page: str) -> None:
    app = show(tmp_path / "none.db", page)
    assert app.error[0].value.startswith("There is no store at")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.slow
def test_store_of_another_version_is_a_sentence(show: Any, tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.db", make_report())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "upgrade gemmeter" in show(path).error[0].value


@pytest.mark.slow
def test_memory_of_another_case_is_a_link_and_no_run_means_the_newest(show: Any, tmp_path: Path) -> None:
    report = make_report()
    app = show(make_store(tmp_path / "s.db", report), "run")
    other = report.run.planned[1].case.case_id
    app.selectbox(key="chosen_case").select(other).run()
    assert not app.exception
    assert app.query_params == {"run": FIRST, "case": other}
    assert app.selectbox(key="chosen_case").value == other


@pytest.mark.slow
def test_many_answers_come_in_pages(show: Any, tmp_path: Path) -> None:
    report = make_report()
    judged = report.measurements[-1]
    request = judged.requests[0]
    many = [request.model_copy(update={"request_id": f"r{n}", "index": n, "output": f"answer {n}"}) for n in range(25)]
    unseen = many[24].model_copy(update={"content_policy": "hash", "prompt": "4f2a", "output": None})
    judged = judged.model_copy(update={"requests": (*many[:24], unseen)})
    app = show(make_store(tmp_path / "s.db", report.model_copy(update={"measurements": (judged,), "scores": ()})), "run")
    assert [one.value for one in app.code if one.value.startswith("answer")] == [f"answer {n}" for n in range(20)]
    app.number_input[0].set_value(2).run()
    assert not app.exception
    assert [one.value for one in app.code if one.value.startswith("answer")] == [f"answer {n}" for n in range(20, 24)]
    assert "not kept (policy: hash)" in [one.value for one in app.text]


# ---- the command


def test_another_address_needs_a_flag(tmp_path: Path) -> None:
    result = CliRunner().invoke(command.dashboard, ["--store", str(tmp_path / "s.db"), "--host", "0.0.0.0"])
    assert isinstance(result.exception, UsageError)
    assert "--allow-remote" in str(result.exception)


def test_missing_store_starts_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(command.dashboard, ["--store", str(tmp_path / "none.db")])
    assert isinstance(result.exception, GemmeterError)
    assert "bench run" in str(result.exception)
    assert not result.output


def test_missing_package_names_the_extra() -> None:
    with pytest.raises(UsageError, match=r'pip install "gemmeter\[dashboard\]"'):
        command.app_path(needed=("streamlit", "no_such_package"))
    assert command.app_path() == APP


def test_the_child_gets_an_absolute_store_and_safe_options() -> None:
    inherited = {"BENCH_STORE": "other", "HOME": "/home/x"}
    found = command.environment("sqlite:///.bench/results.db", "127.0.0.1", inherited)
    assert found["BENCH_STORE"] == f"{Path.cwd()}/.bench/results.db"
    assert found["HOME"] == "/home/x"
    assert found["STREAMLIT_SERVER_ALLOWED_HOSTS"] == "localhost 127.0.0.1"
    assert "STREAMLIT_SERVER_ALLOWED_HOSTS" not in command.environment("x.db", "0.0.0.0", inherited)
    line = command.streamlit_command(APP, "127.0.0.1", 8501, headless=True)
    assert line[1:6] == ["-P", "-m", "streamlit", "run", str(APP)]
    assert {"--browser.gatherUsageStats=false", "--server.fileWatcherType=none", "--server.headless=true"} <= set(line)


def test_a_taken_port_is_refused_and_another_one_found(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.free_port("127.0.0.1") != port
        result = CliRunner().invoke(command.dashboard, ["--store", str(make_store(tmp_path / "s.db")), "--port", str(port)])
    assert isinstance(result.exception, UsageError)
    assert str(port) in str(result.exception)


@pytest.mark.parametrize("code", [0, 3])
def test_the_childs_exit_code_comes_back(code: int) -> None:
    assert command.run_child([sys.executable, "-c", f"raise SystemExit({code})"], {}) == code


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stubborn", [False, True])
def test_no_child_is_left_behind(tmp_path: Path, number: signal.Signals, stubborn: bool) -> None:
    """Even one that ignores being asked to end."""
    mark = tmp_path / "pid"
    ignore = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)]; " if stubborn else ""
    child = f"{ignore}import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    script = (
        "import sys; from bench.commands.dashboard import run_child; "
        f"sys.exit(run_child([sys.executable, '-c', {child!r}], {{}}, grace_s=0.3))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    while not (mark.exists() and mark.read_text()):
        time.sleep(0.01)
    parent.send_signal(number)
    assert parent.wait(10) == 130
    assert not Path(f"/proc/{mark.read_text()}").exists()
