"""The dashboard in a real browser, served by the real command: it draws, it fits narrow and wide screens, and data stays text."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from fakes import START, make_report, store_report

from results.records import Report
from results.store import Store

FIRST, SECOND = "20260301-120000-aaaa", "20260302-120000-bbbb"
WIDE, NARROW = (1440, 900), (390, 844)

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def find_chromium() -> str | None:
    """A Chromium on this machine: BENCH_CHROMIUM, or one of the usual places."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    places = [os.environ.get("BENCH_CHROMIUM"), "/usr/bin/chromium", *map(shutil.which, names)]
    places.append("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next((place for place in places if place and Path(place).exists()), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = find_chromium()
    if path is None:
        missing = "there is no Chromium: install one, or name it with BENCH_CHROMIUM"
        if os.environ.get("BENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def leaks() -> Iterator[tuple[int, list[str]]]:
    """A server on a loopback port, and the paths that were asked of it."""
    asked: list[str] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    thread.join()
    server.server_close()


def attack(port: int, name: str) -> str:
    link = f"http://127.0.0.1:{port}/{name}.png"
    return f"![x]({link}) <img src='{link}'><script>fetch('{link}')</script> <a href='{link}'>here</a> :red[x] $x$"


def hostile_report(port: int) -> Report:
    """A run in which every text that comes from outside tries to make the browser ask our server."""
    report = make_report()
    planned = tuple(one.model_copy(update={"model": attack(port, "model")}) for one in report.run.planned)
    run = report.run.model_copy(
        update={
            "planned": planned,
            "suite": attack(port, "suite"),
            "suite_source": {"question": attack(port, "question")},
            "command": ("bench", "run", attack(port, "command")),
            "git_commit": attack(port, "commit"),
        }
    )
    content = {"prompt": attack(port, "prompt"), "output": attack(port, "output")}
    judged = report.measurements[-1]
    judged = judged.model_copy(update={"requests": tuple(one.model_copy(update=content) for one in judged.requests)})
    told = {"message": attack(port, "message"), "stderr_tail": attack(port, "stderr"), "phase": attack(port, "phase")}
    return report.model_copy(
        update={
            "run": run,
            "tags": (attack(port, "tag"),),
            "measurements": (*report.measurements[:-1], judged),
            "failures": tuple(one.model_copy(update=told) for one in report.failures),
        }
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, leaks: tuple[int, list[str]]) -> Iterator[str]:
    """The dashboard of a store with an attacking run and a slower, harmless one; ended by its process id."""
    store_path = tmp_path_factory.mktemp("store") / "results.db"
    with Store.writing(str(store_path)) as store:
        store_report(store, hostile_report(leaks[0]))
        store_report(store, make_report(run_id=SECOND, slower=1.2, seed=2, started_at=START + timedelta(days=1)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bench = [sys.executable, "-c", "from bench.cli import main; main()"]
    server = subprocess.Popen([*bench, "dashboard", "--store", str(store_path), "--port", str(port), "--no-browser"])
    try:
        wait_until_open(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        code = server.wait(15)
    assert code == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def wait_until_open(server: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the dashboard did not start (exit code {server.poll()})")


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A new tab; afterwards no request may have left for another server than the dashboard's."""
    context = chromium.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    yield page
    context.close()
    assert asked
    strangers = [url for url in asked if urlsplit(url).scheme not in ("data", "blob") and not url.startswith(address)]
    assert strangers == []


def open_page(page: Any, url: str, title: str, charts: int = 0) -> None:
    page.goto(url)
    page.get_by_role("heading", name=title, exact=True).wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    if charts:
        page.locator(".js-plotly-plot .main-svg >> nth=0").wait_for()
        page.wait_for_function("n => document.querySelectorAll('.js-plotly-plot .xtitle').length === n", arg=charts)


def cell(page: Any, text: str) -> None:
    """A table is drawn on a canvas, which holds the same cells for screen readers."""
    page.locator("[data-testid=stDataFrame] canvas td", has_text=text).first.wait_for(state="attached")


def photograph(page: Any, folder: Path, name: str) -> None:
    """Wide and narrow, each as tall as the page; nothing may stick out at the side."""
    for words, (width, height) in {"wide": WIDE, "narrow": NARROW}.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(500)
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("element => element.scrollWidth") <= width
        page.set_viewport_size({"width": width, "height": min(8000, main.evaluate("element => element.scrollHeight") + 60)})
        page.wait_for_timeout(1000)
        target = folder / f"{name}-{words}.png"
        page.screenshot(path=target)
        assert target.stat().st_size > 10_000


def test_selecting_a_row_opens_the_run(page: Any, address: str, tmp_path: Path) -> None:
    open_page(page, address, "Runs")
    table = page.locator("[data-testid=stDataFrame]")
    cell(page, SECOND)
    photograph(page, tmp_path, "runs")
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    table.click(position={"x": 17, "y": 53})
    page.wait_for_url(f"{address}/run?run={SECOND}")
    page.get_by_role("heading", name="Run", exact=True).wait_for()


def test_the_run_page_draws_tables_and_charts(page: Any, address: str, tmp_path: Path) -> None:
    open_page(page, f"{address}/run?run={SECOND}", "Run", charts=6)
    cell(page, "359 ms [355, 362]")
    assert "TTFT (ms)" in page.locator(".js-plotly-plot .xtitle").all_text_contents()
    page.get_by_text("Machine learning is a field of study.").first.wait_for()
    photograph(page, tmp_path, "run")


def test_the_compare_page_draws(page: Any, address: str, tmp_path: Path) -> None:
    open_page(page, f"{address}/compare?a={FIRST}&b={SECOND}", "Compare", charts=1)
    cell(page, "regression")
    photograph(page, tmp_path, "compare")


def test_what_comes_from_outside_stays_text(page: Any, address: str, leaks: tuple[int, list[str]]) -> None:
    port, asked = leaks
    urllib.request.urlopen(f"http://127.0.0.1:{port}/probe").close()
    assert asked == ["/probe"]
    open_page(page, f"{address}/run?run={FIRST}", "Run", charts=6)
    for name in ("output", "prompt", "question", "message", "tag"):
        page.get_by_text(attack(port, name)).first.wait_for()
    for summary in page.locator("[data-testid=stExpander] summary").all():
        if not summary.locator("..").evaluate("element => element.open"):
            summary.click()
    page.get_by_text(attack(port, "stderr")).wait_for()
    box = page.get_by_role("combobox").first
    box.click()
    box.press("ArrowDown")
    page.get_by_role("option").nth(1).wait_for()
    open_page(page, f"{address}/compare?a={FIRST}&b={SECOND}", "Compare", charts=1)
    open_page(page, f"{address}/run?run={quote(attack(port, 'link'), safe='')}", "Run")
    page.get_by_text(f"No run or tag {attack(port, 'link')!r}"[:60]).wait_for()
    open_page(page, address, "Runs")
    page.wait_for_timeout(1000)
    assert asked == ["/probe"]
    assert page.locator("[data-testid=stMain] img").count() == 0
    asked.clear()
