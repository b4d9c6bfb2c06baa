"""JUnit XML says what the gate said, in the form that CI systems read."""

from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judgements import hostile_outcome, make_judgement, make_outcome, make_row, refused

from results.format import plain
from results.junit import junit_xml
from results.outcome import Outcome

COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def parsed(outcome: Outcome) -> Element:
    """The XML after checks of what the common JUnit schemas ask for."""
    text = junit_xml(outcome)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    check_counts(root)
    suites = list(root)
    assert {one.tag for one in suites} == {"testsuite"}
    assert len({one.get("name") for one in suites}) == len(suites)
    for suite in suites:
        check_counts(suite)
        names = Counter(test.get("name") for test in suite)
        assert max(names.values()) == 1
        for test in suite:
            assert test.tag == "testcase"
            assert test.get("classname") == suite.get("name")
            assert [one.tag for one in test] in ([], *([kind] for kind in COUNTS.values()))
            assert all(one.get("message") for one in test)
    return root


def check_counts(element: Element) -> None:
    tests = list(element.iter("testcase"))
    assert element.get("name")
    assert element.get("tests") == str(len(tests))
    for name, kind in COUNTS.items():
        assert element.get(name) == str(len(element.findall(f".//{kind}")))


def kinds(root: Element) -> dict[str, str]:
    """Test → `passed` or the kind of what it holds, of the first case and of the whole."""
    found: dict[str, str] = {}
    for test in root.iter("testcase"):
        found.setdefault(str(test.get("name")), next((one.tag for one in test), "passed"))
    return found


def test_a_regression_is_a_failure_and_what_is_inconclusive_is_skipped_with_its_reason() -> None:
    root = parsed(make_outcome())
    assert kinds(root) == {
        "verdict": "failure", "tpot_s": "failure", "ttft_s": "skipped", "peak_rss_bytes": "passed", "weights_bytes": "passed",
        "e2e_s": "passed", "quality": "passed",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == [
        "gate",
        "gemma-3-270m transformers fp32 cpu pp32 tg16",
        "gemma-3-270m transformers bf16 cpu pp32 tg16",
        "gemma-3-270m transformers fp32 cpu quality",
    ]
    (failure, *_) = root[1].iter("failure")
    assert failure.get("message") == (
        "regression: 100 ms → 121 ms, +20.7 % [+19.1, +22.2], margin 5 %: the interval lies above the margin; "
        "1 other row points the same way"
    )


def test_described_rows_are_left_out() -> None:
    assert "decode_tps" not in kinds(parsed(make_outcome()))


def test_sides_that_must_not_be_compared_are_an_error() -> None:
    root = parsed(refused())
    assert kinds(root) == {"verdict": "error"}
    assert "--allow-env-diff cpu_model" in str(root[0][0][0].get("message"))
    assert kinds(parsed(replace(refused(), sides=None))) == {"verdict": "error"}


def test_rows_that_do_not_gate_are_skipped_when_worse() -> None:
    outcome = make_outcome()
    assert outcome.judgement
    rows = tuple(make_row(one.row, one.verdict, gates=one.verdict != "regression") for one in outcome.judgement.rows)
    judgement = replace(outcome.judgement, rows=rows, verdict="inconclusive", exit_code=3)
    found = kinds(parsed(replace(outcome, judgement=judgement)))
    assert (found["verdict"], found["tpot_s"]) == ("skipped", "skipped")


@pytest.mark.parametrize("exit_code", [0, 3])
def test_an_inconclusive_whole_is_skipped_also_where_the_policy_lets_it_pass(exit_code: int) -> None:
    outcome = make_outcome({"tpot_s": "inconclusive"})
    assert outcome.judgement
    assert kinds(parsed(replace(outcome, judgement=replace(outcome.judgement, exit_code=exit_code))))["verdict"] == "skipped"


def test_a_new_failure_is_a_failure_unless_it_is_excused() -> None:
    outcome = hostile_outcome()
    assert outcome.judgement
    assert kinds(parsed(outcome))["measured"] == "failure"
    judgement = replace(outcome.judgement, failures=(), excused=outcome.judgement.failures, verdict="no_change", exit_code=0)
    assert kinds(parsed(replace(outcome, judgement=judgement)))["measured"] == "skipped"


def test_hostile_names_stay_text() -> None:
    names = [str(suite.get("name")) for suite in parsed(hostile_outcome())]
    assert any("<script>alert(1)</script>" in name for name in names)
    assert not any("\x1b" in name or "\u202e" in name or "\ufffe" in name for name in names)


@given(st.text())
def test_any_text_makes_valid_xml(text: str) -> None:
    outcome = refused_with(f"because {text}")
    message = str(parsed(outcome)[0][0][0].get("message"))
    clean = plain(f"because {text}").replace("\ufffe", "").replace("\uffff", "")
    assert message.split() == clean.split()


def refused_with(text: str) -> Outcome:
    return Outcome(None, None, text)


def test_nothing_judged_is_no_pass() -> None:
    outcome = make_outcome()
    assert outcome.judgement
    bare = make_judgement(outcome.judgement.comparison)
    empty = replace(bare, rows=(), verdict="inconclusive", exit_code=3, reasons=("Nothing could be judged.",))
    assert kinds(parsed(replace(outcome, judgement=empty))) == {"verdict": "skipped"}
