"""An outcome as JUnit XML, as CI systems read it: a test suite per case, a test per metric that is judged, and one for the whole.

A regression that gates is a failure; what is inconclusive, excused or only shown is skipped, with the reason as its message; sides
that must not be compared are an error. Described rows are left out. Times are left out too: nothing ran here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from results.format import plain, quantity
from results.gate import Judgement, RowJudgement
from results.metrics import METRICS
from results.outcome import Outcome
from results.verdict_words import changed, labels_of, margin, spoken, why, worse_failures

GATE = "gate"
"""The test suite of the whole."""


@dataclass(frozen=True)
class Test:
    suite: str
    name: str
    kind: str | None = None
    """`failure`, `skipped` or `error`; `None`: passed."""
    message: str = ""


def junit_xml(outcome: Outcome) -> str:
    tests = [_whole(outcome), *(_tests(outcome.judgement) if outcome.judgement else ())]
    root = Element("testsuites", name=_valid(outcome.suite or GATE), **_counts(tests))
    for suite in dict.fromkeys(test.suite for test in tests):
        mine = [test for test in tests if test.suite == suite]
        within = SubElement(root, "testsuite", name=_valid(suite), **_counts(mine))
        for test in mine:
            element = SubElement(within, "testcase", classname=_valid(suite), name=_valid(test.name))
            if test.kind:
                SubElement(element, test.kind, message=_valid(test.message))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _whole(outcome: Outcome) -> Test:
    if not outcome.judgement:
        return Test(GATE, "verdict", "error", outcome.refusal)
    kind = {"regression": "failure", "inconclusive": "skipped"}.get(outcome.judgement.verdict)
    reasons = outcome.judgement.reasons
    return Test(GATE, "verdict", kind, " ".join((outcome.sentence, *reasons)))


def _tests(judgement: Judgement) -> Iterable[Test]:
    comparison = judgement.comparison
    labels = labels_of(comparison)
    for judged in judgement.rows:
        if judged.verdict != "described":
            yield _row(judged, labels[judged.row.planned.case.case_id])
    worse = worse_failures(judgement)
    for failure in comparison.newly_failed:
        excused = " and excused" if failure in judgement.excused else ""
        told = f"newly failed{excused}: {failure.kind}: {failure.message}"
        yield Test(labels[failure.case_id], "measured", "failure" if failure in worse else "skipped", told)
    known = {failure.case_id for failure in comparison.newly_failed}
    for planned in comparison.only_a:
        if planned.case.case_id not in known:
            yield Test(labels[planned.case.case_id], "measured", "skipped", "measured on A only")


def _row(judged: RowJudgement, suite: str) -> Test:
    row, metric = judged.row, METRICS[judged.row.metric]
    values = f"{quantity(row.a.value, metric.unit)} → {quantity(row.b.value, metric.unit)}"
    message = f"{spoken(judged.verdict)}: {values}, {changed(judged)}, margin {margin(judged)}: {why(judged)}"
    if judged.verdict in ("no_change", "improvement"):
        return Test(suite, row.metric)
    kind = "failure" if judged.verdict == "regression" and judged.gates else "skipped"
    return Test(suite, row.metric, kind, message if judged.gates else f"not gated: {message}")


def _counts(tests: list[Test]) -> dict[str, Any]:
    kinds = [test.kind for test in tests]
    names = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    return {"tests": str(len(tests)), **{name: str(kinds.count(kind)) for name, kind in names.items()}}


def _valid(text: str) -> str:
    """Text without what XML 1.0 cannot hold: control characters, surrogates, and the two last code points of its first plane."""
    return re.sub("[\ufffe\uffff]", "", plain(text))
