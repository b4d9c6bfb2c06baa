"""An outcome as GitHub's workflow commands, which a runner turns into annotations: errors, warnings and notices.

A runner shows ten of each kind and step; where there are more, the tenth says how many.
"""

from collections.abc import Iterable, Iterator, Mapping

from results.format import plain, quantity
from results.gate import Judgement, RowJudgement
from results.metrics import METRICS
from results.outcome import Outcome
from results.verdict_words import changed, labels_of, why, worse_failures

MOST = 10
LEVELS = ("error", "warning", "notice")

Annotation = tuple[str, str, str]
"""Level, title and message."""


def annotations(outcome: Outcome) -> str:
    """One line each: the verdict, then an error per regression, a warning per inconclusive row, a notice per improvement."""
    title, found = f"Gate: {outcome.verdict}", list[Annotation]()
    if judgement := outcome.judgement:
        level = {"regression": "error", "inconclusive": "warning"}.get(judgement.verdict, "notice")
        found = [(level, title, " ".join((outcome.sentence, *judgement.reasons))), *_judged(judgement)]
    else:
        found.append(("error", title, outcome.refusal))
    return "".join(_line(*one) for level in LEVELS for one in _few([one for one in found if one[0] == level]))


def _judged(judgement: Judgement) -> Iterator[Annotation]:
    comparison = judgement.comparison
    labels = labels_of(comparison)
    worse = worse_failures(judgement)
    for failure in judgement.failures:
        yield (
            "error" if failure in worse else "warning",
            f"Newly failed: {labels[failure.case_id]}",
            f"{failure.kind}: {failure.message}",
        )
    for judged in judgement.rows:
        if judged.verdict == "regression":
            yield "error" if judged.gates else "warning", *_told(judged, "worse", labels)
        elif judged.verdict == "inconclusive" and judged.gates:
            yield "warning", *_told(judged, "inconclusive", labels)
        elif judged.verdict == "improvement":
            yield "notice", *_told(judged, "better", labels)


def _told(judged: RowJudgement, word: str, labels: Mapping[str, str]) -> tuple[str, str]:
    row, metric = judged.row, METRICS[judged.row.metric]
    values = f"{quantity(row.a.value, metric.unit)} → {quantity(row.b.value, metric.unit)}"
    return f"{metric.label} {word}: {labels[row.planned.case.case_id]}", f"{values}, {changed(judged)}: {why(judged)}"


def _few(found: list[Annotation]) -> Iterable[Annotation]:
    if len(found) <= MOST:
        return found
    left = len(found) - MOST + 1
    level = found[0][0]
    return [*found[: MOST - 1], (level, f"{left} more", f"{left} more {level}s are in the summary.")]


def _line(level: str, title: str, message: str) -> str:
    return f"::{level} title={_property(title)}::{_data(message)}\n"


def _data(text: str) -> str:
    return plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
