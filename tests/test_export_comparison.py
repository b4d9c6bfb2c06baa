"""Markdown, HTML and JSON of an outcome: what got worse first, all text escaped, nothing that loads."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from judgements import CALIBRATION, SECOND, hostile_outcome, make_outcome, make_row, refused
from markdown_it import MarkdownIt
from terminal import same_as_golden

from results.errors import UsageError
from results.export_comparison import FORMATS, format_of
from results.export_comparison_html import comparison_html
from results.export_comparison_md import MOST, comparison_markdown
from results.export_svg import Mark, forest, reach_of
from results.figures import VERDICTS


def test_golden_markdown() -> None:
    same_as_golden("comparison.md", comparison_markdown(make_outcome()))


def test_golden_html() -> None:
    same_as_golden("comparison.html", comparison_html(make_outcome()))


def test_golden_refusal() -> None:
    same_as_golden("comparison-refused.md", comparison_markdown(refused()))


def test_regressions_come_first_and_the_rest_is_folded() -> None:
    text = comparison_markdown(make_outcome())
    titles = ("# Regression: quickstart", "## Regressions", "## Inconclusive", "## Improvements", "<details>", "## Sides")
    places = [text.index(f"{title}\n") for title in titles]
    assert places == sorted(places)
    assert text.index("python") < text.index("## Regressions")
    for needed in ("c0ffee0", "badf00d with uncommitted changes", "bench gate", "bench baseline accept main", "5 of 400"):
        assert needed in text, needed


def test_a_refusal_says_why_and_what_differs() -> None:
    for text in (comparison_markdown(refused()).replace("\\", ""), comparison_html(refused())):
        assert "--allow-env-diff cpu_model" in text
        assert "Other CPU" in text
        assert "must agree" in text
    nowhere = replace(refused(), sides=None, refusal="There is no baseline main.")
    assert "There is no baseline main." in comparison_markdown(nowhere)
    assert "There is no baseline main." in comparison_html(nowhere)


def test_json_holds_the_judgement_the_sides_and_what_was_calibrated() -> None:
    found = json.loads(make_outcome().to_json())
    assert (found["schema"], found["verdict"], found["exit_code"]) == ("judgement/1", "regression", 1)
    assert found["sides"]["a"] == {
        "name": "baseline main",
        "run_ids": ["20260301-120000-aaaa"],
        "git_commit": "c0ffee0",
        "git_dirty": False,
    }
    assert found["accept"][:4] == ["bench", "baseline", "accept", "main"]
    assert found["calibration"]["processes"] == CALIBRATION.processes
    assert len(found["rows"]) == 15
    found = json.loads(refused().to_json())
    assert (found["verdict"], found["exit_code"]) == ("not_comparable", 4)
    assert [one["key"] for one in found["differences"]] == ["cpu_model", "python"]
    assert "cpu_model" in found["refusal"]


def test_a_table_of_markdown_has_a_limit_and_says_so() -> None:
    outcome = make_outcome()
    assert outcome.judgement
    rows = tuple(make_row(outcome.judgement.rows[0].row, "regression") for _ in range(MOST + 7))
    text = comparison_markdown(replace(outcome, judgement=replace(outcome.judgement, rows=rows)))
    assert text.count("| regression |") == MOST
    assert "7 more rows are in the other formats." in text
    assert len(text.encode()) < 2**20


def test_hostile_text_is_text_in_markdown() -> None:
    text = comparison_markdown(hostile_outcome())
    assert "\x1b" not in text
    assert "\u202e" not in text
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert "<script" not in html
    assert "<img" not in html
    assert "<strong>x" not in html
    assert "<a " not in html
    rows = [line for line in text.splitlines() if line.startswith("| regression")]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {11}


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags_of(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


def test_html_loads_and_runs_nothing_and_takes_no_text_for_markup() -> None:
    for outcome in (make_outcome(), hostile_outcome(), refused()):
        text = comparison_html(outcome)
        found = tags_of(text)
        assert not {tag for tag, _ in found} & {"script", "img", "link", "iframe", "object"}
        names = {name for _, attributes in found for name in attributes}
        assert not {name for name in names if name.startswith("on")} | (names & {"src", "style"})
        assert {attributes["href"] for tag, attributes in found if tag == "a"} <= {f"#note-{number}" for number in range(1, 9)}
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_html_has_a_chart_per_case_and_every_row() -> None:
    text = comparison_html(make_outcome())
    assert text.count("<figure>") == 3
    assert text.count('<tr><td class="mark">') == 15
    assert text.index("<h2>Environments") < text.index("<h2>Verdict") < text.index("<h2>At a glance")


# ---- forest plots

COLOURS = {verdict: colour for verdict, (colour, _) in VERDICTS.items()}


def mark(ratio: float, low: float | None = None, high: float | None = None, verdict: str = "no_change") -> Mark:
    return Mark("TPOT", "+1 %", ratio, low, high, (1 / 1.05, 1.05), verdict)


def test_a_forest_is_valid_and_puts_no_change_in_the_middle() -> None:
    svg = ElementTree.fromstring(forest("all", [mark(1.0, 0.9, 1.1)], 0.2, COLOURS))
    (dot,) = svg.iter("circle")
    assert float(str(dot.get("cx"))) == 200
    (band,) = svg.iter("rect")
    left, width = float(str(band.get("x"))), float(str(band.get("width")))
    assert left + width / 2 == pytest.approx(200, abs=0.1)


def test_twice_and_half_are_equally_far() -> None:
    svg = ElementTree.fromstring(forest("all", [mark(2.0), mark(0.5)], 2.0, COLOURS))
    places = [float(str(dot.get("cx"))) for dot in svg.iter("circle")]
    assert places[0] - 200 == pytest.approx(200 - places[1])


def test_what_lies_beyond_the_edge_stays_inside_the_picture() -> None:
    for wild in (1e300, 1e-300, 0.0):
        text = forest("all", [mark(wild, wild, wild)], 0.05, COLOURS)
        numbers = [float(found) for found in re.findall(r'(?:x|cx|x1)="([\d.]+)"', text)]
        assert all(0 <= number <= 400 for number in numbers)
        assert "nan" not in text
        assert "inf" not in text


def test_the_reach_holds_ratios_and_margins_but_not_every_interval() -> None:
    assert reach_of([]) == 0.05
    assert reach_of([mark(1.0)]) == 0.1
    assert reach_of([mark(1.2, 0.01, 100.0)]) == 0.5
    assert reach_of([mark(0.5)]) == 2.0
    assert reach_of([mark(50.0)]) == 4.0


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_mark_of_its_own(verdict: str) -> None:
    assert COLOURS[verdict] in forest("all", [mark(1.0, verdict=verdict)], 0.2, COLOURS)


# ---- formats


def test_a_files_name_says_its_format() -> None:
    assert [format_of(Path(name)) for name in ("a.md", "a.HTML", "a.json", "junit.xml")] == ["md", "html", "json", "junit"]
    with pytest.raises(UsageError, match=r"report\.pdf does not tell its format"):
        format_of(Path("report.pdf"))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_draws_every_outcome(name: str) -> None:
    for outcome in (make_outcome(), make_outcome({}, calibration=None, accept=()), refused(), hostile_outcome()):
        assert FORMATS[name](outcome).endswith("\n")
        assert SECOND in FORMATS[name](outcome) or name in ("junit", "github")
