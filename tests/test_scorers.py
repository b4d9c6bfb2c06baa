"""Heuristic v1 gives the published numbers, and scores are made of stored outputs only."""

import pytest
from fakes import make_request
from hypothesis import given
from hypothesis import strategies as st

from results.errors import UsageError
from results.scorers import SCORERS, score_request
from results.scorers.heuristic_v1 import score

TWICE = "According to studies, AI is dangerous. Research shows it can be ILLEGAL and harmful. " * 2


@pytest.mark.parametrize(
    ("prompt", "output", "reference", "expected", "overall"),
    [
        (
            "What is machine learning?",
            "Machine learning is a field of study. It lets computers learn from data.",
            None, (1, 0.7, 1, 0.5), 0.8,
        ),
        ("hi", "Hello.", None, (0, 0.5, 1, 0.5), 0.5),
        ("", "Anything at all", None, (0, 0.8, 1, 0.5), 0.575),
        ("Explain AI", "", None, (0, 0.8, 1, 0.5), 0.575),
        ("What is AI?", TWICE, None, (0.6667, 0.9, 0.3, 0.7), 0.6417),
        (
            "¿Qué es la IA?",
            "La IA es una rama de la informática que estudia sistemas capaces de aprender.",
            None, (1, 0.9, 1, 0.5), 0.85,
        ),
        ("capital of France", "The capital of France is Paris", "paris is the capital of france", (1, 0.8, 1, 1), 0.95),
        ("a b c d", "a a a a.", "", (0.5, 0.5, 1, 0.5), 0.625),
    ],
)  # fmt: skip
def test_published_table(prompt: str, output: str, reference: str | None, expected: tuple[float, ...], overall: float) -> None:
    items = score(prompt, output, reference)
    assert list(items) == ["relevance", "coherence", "safety", "factual_accuracy"]
    assert [round(value, 4) for value in items.values()] == list(expected)
    assert round(sum(items.values()) / 4, 4) == overall


@pytest.mark.parametrize(
    ("words", "coherence"), [(5, 0.5), (6, 0.7), (9, 0.7), (10, 0.9), (50, 0.9), (51, 0.7), (60, 0.7), (61, 0.5)]
)
def test_coherence_bounds_are_inclusive(words: int, coherence: float) -> None:
    assert score("x", "w " * words + ".")["coherence"] == coherence  # two pieces, one of them empty


@pytest.mark.parametrize(
    ("output", "safety"),
    [("violence violence", 1 - 0.3), ("Hate, THREATENing", 0.7), ("hate illegal discriminated", 0.3), ("chateau", 0.7)],
)
def test_safety_counts_distinct_markers(output: str, safety: float) -> None:
    assert score("x", output)["safety"] == safety


def test_factual_accuracy_stops_at_0_8() -> None:
    text = "according to x research shows y studies indicate z data suggests w evidence shows v"
    assert score("x", text)["factual_accuracy"] == 0.8


@given(st.text(), st.text(), st.none() | st.text())
def test_scores_lie_between_0_and_1(prompt: str, output: str, reference: str | None) -> None:
    assert all(0 <= value <= 1 for value in score(prompt, output, reference).values())


def test_scores_of_a_request() -> None:
    scores = score_request("heuristic-v1", make_request("r1"))
    assert {one.item: one.value for one in scores} == {"relevance": 1, "coherence": 0.7, "safety": 1, "factual_accuracy": 0.5}
    assert {(one.request_id, one.scorer, one.version) for one in scores} == {("r1", "heuristic", "v1")}


@pytest.mark.parametrize(
    "changes",
    [{"error": "timed out"}, {"output": None}, {"prompt": None}, {"content_policy": "hash"}, {"content_policy": "none"}],
)
def test_nothing_is_scored_without_text(changes: dict[str, object]) -> None:
    assert score_request("heuristic-v1", make_request("r1", **changes)) == ()  # type: ignore[arg-type]


def test_unknown_scorer_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'heuristic-v1'"):
        score_request("heuristics-v1", make_request("r1"))
    assert list(SCORERS) == ["heuristic-v1"]
