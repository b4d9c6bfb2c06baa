"""GitHub reads one annotation per finding, escaped as its runner wants, and no more than it shows."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judgements import hostile_outcome, make_outcome, make_row, refused

from results.annotations import MOST, annotations
from results.outcome import Outcome

LINE = re.compile(r"::(error|warning|notice) title=([^:,]*)::(.*)")


def read(outcome: Outcome) -> list[tuple[str, str, str]]:
    """Level, title and message of each line, read as GitHub's runner does."""
    found = []
    for line in annotations(outcome).split("\n")[:-1]:
        match = LINE.fullmatch(line)
        assert match, line
        level, title, message = match.groups()
        for sign, escaped in ((":", "%3A"), (",", "%2C"), ("\r", "%0D"), ("\n", "%0A"), ("%", "%25")):
            title = title.replace(escaped, sign)
            message = message if sign in ":," else message.replace(escaped, sign)
        found.append((level, title, message))
    return found


def test_levels_titles_and_messages() -> None:
    found = read(make_outcome())
    assert [level for level, _, _ in found] == ["error"] * 3 + ["warning"] * 2 + ["notice"] * 2
    assert found[0][1] == "Gate: regression"
    assert found[1] == (
        "error",
        "TPOT worse: gemma-3-270m transformers fp32 cpu pp32 tg16",
        "100 ms → 121 ms, +20.7 % [+19.1, +22.2]: the interval lies above the margin; 1 other row points the same way",
    )


@pytest.mark.parametrize(
    ("verdict", "exit_code", "level"),
    [("no_change", 0, "notice"), ("improvement", 0, "notice"), ("inconclusive", 3, "warning"), ("inconclusive", 0, "warning")],
)
def test_the_whole_is_told_first_at_its_level(verdict: str, exit_code: int, level: str) -> None:
    outcome = make_outcome({})
    assert outcome.judgement
    judgement = replace(outcome.judgement, verdict=verdict, exit_code=exit_code)  # type: ignore[arg-type]
    assert [level for level, _, _ in read(replace(outcome, judgement=judgement))] == [level]


def test_a_refusal_is_an_error() -> None:
    assert read(refused()) == [("error", "Gate: not comparable", refused().refusal)]


def test_no_more_of_a_level_than_github_shows() -> None:
    outcome = make_outcome()
    assert outcome.judgement
    judged = outcome.judgement.rows[0]
    rows = tuple(make_row(judged.row, "inconclusive") for _ in range(30))
    found = read(replace(outcome, judgement=replace(outcome.judgement, rows=rows)))
    warnings = [one for one in found if one[0] == "warning"]
    assert len(warnings) == MOST
    assert warnings[-1] == ("warning", "21 more", "21 more warnings are in the summary.")


def test_hostile_names_are_no_commands() -> None:
    lines = annotations(hostile_outcome()).splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert any("Newly failed" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    found = read(replace(refused(), refusal=f"because {text}"))
    assert len(found) == 1
    assert found[0][2].startswith("because ")
    if text.isascii() and text.isprintable():
        assert found[0][2] == f"because {text}"
