"""Exports say the same in every format, let no text become markup, and replace files whole or not at all.

The golden files are written anew by `python tests/test_export.py`; look at what changed.
"""

import csv
import html
import io
import resource
import stat
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
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
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.commands.export import export
from results.errors import GemmeterError, StoreError, UsageError
from results.export import FORMATS, format_of, portable, write_whole
from results.export_csv import COLUMNS
from results.export_md import block, inline
from results.format import plain
from results.records import Environment, Report, RowWarning, Score
from results.store import Store
from results.tutorial_json import tutorial_json

GOLDEN = Path(__file__).parent / "golden"
TRAPS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</pre>", "</title>", "-->", "&lt;b&gt;", '" onload="x',
    "`code`", "|", "\\|", "**bold**", "_a_", "~~s~~", "[x](https://evil.example)", "![i](https://evil.example/i.png)",
    "<https://evil.example>", "https://evil.example", "$x$", "# h", "\n\n# h\n", "\n- a\n", "\r\n", "\x1b[31m", "\u202e", "\x00",
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '"', "'", ",", ";",
]  # fmt: skip
NASTY = st.lists(st.sampled_from(TRAPS) | st.text(max_size=8), min_size=1, max_size=4).map("".join)


def nasty_report(text: str) -> Report:
    """A report with this text wherever text from outside can stand."""
    case, quality = make_case(engine=text), make_case(engine=text, purpose="quality")
    lost = make_case(engine=text, output_tokens=99)
    planned = (
        make_planned(case, model=text, tags=(text,)),
        make_planned(quality, model=text, processes=1),
        make_planned(lost, model=text),
    )
    warning = RowWarning(kind="governor", facts={"governor": text})
    judged = make_request("q", prompt=text, output=text)
    refused = make_request("r", error=f"refused {text}", prompt=text, output=text)
    return Report(
        run=make_run(*planned, suite=text, environment=Environment(facts={"cpu_model": text}), command=("bench", text), git_commit=text),
        tags=(text,),
        measurements=(
            make_measurement("m", case, requests=(make_request("ok"), refused), warnings=(warning,)),
            make_measurement("j", quality, requests=(judged,)),
        ),
        failures=(make_failure("f", lost, phase=text, message=text, stderr_tail=text),),
        scores=(Score(request_id="q", scorer="heuristic", version="v1", item="safety", value=1.0),),
    )  # fmt: skip


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- what the formats say


def test_golden_markdown() -> None:
    assert FORMATS["md"](make_report()) == (GOLDEN / "export.md").read_text(encoding="utf-8")


def test_golden_html() -> None:
    assert FORMATS["html"](make_report()) == (GOLDEN / "export.html").read_text(encoding="utf-8")


def test_csv_has_one_row_per_case_process_and_metric() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](make_report()), newline="")))
    assert tuple(rows[0]) == COLUMNS
    case_id = make_case().case_id
    ttft = [row for row in rows if row["metric"] == "ttft_s" and row["case_id"] == case_id]
    assert [(row["process"], row["n"], row["unit"], row["status"]) for row in ttft] == [(p, "3", "s", "measured") for p in "012"]
    assert all(0.29 < float(row["value"]) < 0.31 for row in ttft)
    crashed = [row for row in rows if row["status"] == "crash"]
    assert [(row["metric"], row["value"], row["shape"], row["tags"]) for row in crashed] == [("", "", "pp32 tg64", "long")]
    assert crashed[0]["message"].startswith("The worker was killed")
    quality = [row for row in rows if row["metric"] == "quality"]
    assert [(row["value"], row["n"], row["purpose"]) for row in quality] == [("0.8", "3", "quality")]
    assert "other processes took 12% of the machine's CPU time" in {row["warnings"] for row in rows}


def test_csv_names_cases_that_were_not_reached() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](Report(run=make_run())))))
    assert [(row["status"], row["metric"], row["process"]) for row in rows] == [("missing", "", "")]


def test_csv_reads_into_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(FORMATS["csv"](make_report())))
    table = frame.pivot_table(index=["case_id", "process"], columns="metric", values="value")
    assert table["decode_tps"].notna().sum() == 7
    assert frame["value"].dtype == frame["n"].dtype == float


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_without_results_is_still_a_report(name: str) -> None:
    assert "gemma-3-270m" in FORMATS[name](Report(run=make_run()))


def test_html_needs_nothing_from_outside() -> None:
    text = FORMATS["html"](make_report())
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not {"src", "srcset", "style", "onclick", "onload"} & page.attributes
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert page.tags.count("svg") == 4
    assert text.count("<svg") == text.count("<desc>")


HOME = Path("/home/alice")


def private_report() -> Report:
    """A report with paths of this machine wherever they can stand."""
    report = make_report()
    (failure,) = report.failures
    run = report.run.model_copy(
        update={
            "command": ("bench", "run", "/home/alice/work/suite.yaml", "--set=models=~/models/gemma", "--set=dtypes=[fp32]"),
            "suite_source": {"models": [{"path": "/home/alice/models/gemma"}, "~bob/gemma"], "question": "and/or?"},
        }
    )
    told = {
        "message": "/home/alice/models/gemma/config.json is missing: put it into /home/alice.",
        "stderr_tail": 'File "/home/alice/venv/lib/site.py", line 1\nFile "/home/alice2/x"\nFile "/usr/lib/python3/y.py"',
    }
    return report.model_copy(update={"run": run, "failures": (failure.model_copy(update=told),)})


def test_portable_leaves_no_path_of_this_machine() -> None:
    found = portable(private_report(), HOME)
    assert found.run.command == ("bench", "run", "suite.yaml", "--set=models=gemma", "--set=dtypes=[fp32]")
    assert found.run.suite_source == {"models": [{"path": "gemma"}, "gemma"], "question": "and/or?"}
    (failure,) = found.failures
    assert failure.message == "~/models/gemma/config.json is missing: put it into ~."
    assert failure.stderr_tail == 'File "~/venv/lib/site.py", line 1\nFile "/home/alice2/x"\nFile "/usr/lib/python3/y.py"'
    assert portable(found, HOME) == found
    assert portable(private_report(), Path("/")).failures == private_report().failures


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_tells_private_paths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    text = html.unescape(FORMATS[name](private_report()))
    assert "/home/alice/" not in text
    assert "~/models/gemma/config.json is missing" in text.replace("\\", "")
    if name in ("json", "md", "html"):
        assert "suite.yaml" in text and "work/suite.yaml" not in text


@pytest.mark.parametrize("name", ["csv", "md", "html", "tutorial-json"])
def test_a_failure_made_good_stands_in_json_only(name: str) -> None:
    report = make_report(with_failure=False)
    crashed = make_failure("x", report.run.planned[0].case, process=1)
    retried = report.model_copy(update={"failures": (crashed,)})
    assert "SIGKILL" not in FORMATS[name](retried)
    assert Report.from_json(FORMATS["json"](retried)).failures == (crashed,)


# ---- what goes in comes out, as text


@given(NASTY)
def test_json_round_trip(text: str) -> None:
    report = nasty_report(text)
    assert Report.from_json(FORMATS["json"](report)) == portable(report)


@given(NASTY)
@example("\r=1")
def test_csv_parses_back(text: str) -> None:
    header, *rows = csv.reader(io.StringIO(FORMATS["csv"](nasty_report(text)), newline=""))
    assert tuple(header) == COLUMNS
    numbers = {"value", "n", "process", "threads", "prompt_tokens", "output_tokens"}
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        assert cells["model"].removeprefix("'" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else "") == text
        for name in numbers:
            assert not cells[name] or float(cells[name]) is not None
        assert not [
            one for name, one in cells.items() if name not in numbers and one.startswith(("=", "+", "-", "@", "\t", "\r"))
        ]
    assert {row[header.index("status")] for row in rows} == {"measured", "crash"}


@given(NASTY)
def test_html_shows_text_as_text(text: str) -> None:
    page, tame = Page(FORMATS["html"](nasty_report(text))), Page(FORMATS["html"](nasty_report("tame")))
    assert page.open == []
    assert set(page.tags) <= set(tame.tags) | {"pre"}
    assert page.attributes == tame.attributes
    assert plain(text) in page.text


@given(NASTY)
def test_markdown_inline_text_renders_as_itself(text: str) -> None:
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"**Name:** {inline(text)} end")
    prefix, suffix = "<p><strong>Name:</strong>", " end</p>\n"
    assert rendered.startswith(prefix) and rendered.endswith(suffix)
    assert html.unescape(rendered[len(prefix) : -len(suffix)]).split() == plain(text).split()


@given(NASTY)
def test_markdown_blocks_render_as_themselves(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"{block(text)}\n\nafter")
    assert [token.type for token in tokens] == ["html_block", "paragraph_open", "inline", "paragraph_close"]
    inside = tokens[0].content.strip().removeprefix("<pre>").removesuffix("</pre>")
    assert "<" not in inside and ">" not in inside
    assert html.unescape(inside).strip() == plain(text).strip()


@given(NASTY)
def test_markdown_tables_keep_their_columns(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(FORMATS["md"](nasty_report(text)))
    rows, cells = 0, 0
    for token in tokens:
        rows += token.type == "tr_open"
        cells += token.type in ("td_open", "th_open")
        assert token.type not in ("bullet_list_open", "ordered_list_open", "blockquote_open", "fence", "code_block", "hr")
        assert token.type != "html_block" or token.content.startswith("<pre>\n")
    tame = MarkdownIt("commonmark").enable("table").parse(FORMATS["md"](nasty_report("tame")))
    assert rows == sum(token.type == "tr_open" for token in tame)
    assert cells == sum(token.type in ("td_open", "th_open") for token in tame)


# ---- files


def test_write_whole_makes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    write_whole(path, "één\r\n")
    assert path.read_bytes() == "één\r\n".encode()
    path.chmod(0o640)
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_write_whole_goes_through_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(GemmeterError, match="untouched") as caught:
            write_whole(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 5
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_hold_no_file_are_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "none" / "report.md", tmp_path / "file" / "report.md", Path("/dev/null")):
        with pytest.raises(UsageError):
            write_whole(place, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("name", "expected"), [("a.json", "json"), ("a.CSV", "csv"), ("a.b.md", "md"), ("a.htm", "html")])
def test_format_of_a_name(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


# ---- the command


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/results.db"
    with Store.writing(url) as store:
        store_report(store, make_report())
    return url


def test_command_writes_every_format(url: str, tmp_path: Path) -> None:
    for name in FORMATS:
        out = tmp_path / f"report.{name}"
        result = CliRunner().invoke(export, ["main", "--format", name, "--output", str(out), "--store", url])
        assert (result.exit_code, result.output) == (0, "")
        assert out.stat().st_size > 1000


def test_command_guesses_and_defaults(url: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(export, ["--store", url])
    assert Report.from_json(result.output).run == make_report().run
    out = tmp_path / "report.md"
    assert CliRunner().invoke(export, ["--store", url, "-o", str(out)]).exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("# quickstart: ")
    assert CliRunner().invoke(export, ["--store", url, "--format", "csv"]).stdout_bytes.startswith(b"run,case_id,")


def test_command_refuses_and_leaves_files_alone(url: str, tmp_path: Path) -> None:
    out = tmp_path / "report.txt"
    out.write_text("mine")
    assert isinstance(CliRunner().invoke(export, ["--store", url, "-o", str(out)]).exception, UsageError)
    wrong_run = CliRunner().invoke(export, ["nosuch", "--store", url, "--format", "md", "-o", str(out)])
    assert isinstance(wrong_run.exception, UsageError)
    no_store = CliRunner().invoke(export, ["--store", str(tmp_path / "none.db"), "--format", "md", "-o", str(out)])
    assert isinstance(no_store.exception, StoreError)
    assert CliRunner().invoke(export, ["--store", url, "--format", "xml"]).exit_code == 2
    assert out.read_text() == "mine"


def test_command_offers_every_format() -> None:
    choice = next(option for option in export.params if option.name == "format_name").type
    assert list(choice.choices) == list(FORMATS)  # type: ignore[attr-defined]


if __name__ == "__main__":
    for name in ("md", "html"):
        (GOLDEN / f"export.{name}").write_text(FORMATS[name](make_report()), encoding="utf-8")
    tutorial = tutorial_json(make_report(processes=1), START + timedelta(hours=1))
    (GOLDEN / "export.tutorial.json").write_text(tutorial, encoding="utf-8")
