"""The grammar of references, and what each means among the runs and baselines of a store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import make_move, make_stored_run

from bench.references import Meaning, Reference, followed, meaning, parse_reference
from results.errors import GemmeterError, NotComparableError, UsageError

RUNS = [
    make_stored_run(12, git_branch="main"), make_stored_run(11, tags=("v2", "both")), make_stored_run(10, tags=("v1",), git_branch="change"),
    make_stored_run(3, tags=("v1",), git_branch="both"),
]  # fmt: skip
MOVES = [
    make_move("pinned", RUNS[3].run_id), make_move("both", RUNS[3].run_id), make_move("gone", RUNS[0].run_id), make_move("gone"),
    make_move("pinned", RUNS[2].run_id, RUNS[1].run_id), make_move("window", reference="rolling:5"), make_move("tagged", reference="tag:v1"),
    make_move("lost", reference="tag:v9"),
]  # fmt: skip


def means(text: str) -> Meaning:
    return meaning(parse_reference(text), RUNS, MOVES)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("latest", Reference("latest", "name", "latest")),
        ("feature/x", Reference("feature/x", "name", "feature/x")),
        ("a/b.json", Reference("a/b.json", "file", "a/b.json")),
        ("C:\\b.json", Reference("C:\\b.json", "file", "C:\\b.json")),
        ("baseline:main", Reference("baseline:main", "baseline", "main")),
        ("branch:a:b", Reference("branch:a:b", "branch", "a:b")),
        ("rolling:5", Reference("rolling:5", "rolling", "", 5)),
        ("rolling:12:release/1", Reference("rolling:12:release/1", "rolling", "release/1", 12)),
        ("fork-point", Reference("fork-point", "fork-point")),
        ("fork-point:main", Reference("fork-point:main", "fork-point", "main")),
    ],
)
def test_references_are_parsed(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    "text", ["", ":", "tag:", "baseline:", "fork-point:", "rolling", "rolling:", "rolling:0", "rolling:-1", "rolling:x", "rolling:1001",
             "rolling:5:", "rolling:²", "run:x", "http://x"],
)  # fmt: skip
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no reference|is no window"):
        parse_reference(text)


@given(st.text(max_size=20))
def test_any_text_means_something_or_ends_in_a_sentence(text: str) -> None:
    try:
        means(text)
    except GemmeterError as error:
        assert str(error).endswith((".", "?"))


@pytest.mark.parametrize(
    ("text", "words", "ids"),
    [
        ("latest", "latest", (0,)),
        (RUNS[1].run_id, "", (1,)),
        ("20260312", "", (0,)),
        ("v1", "tag v1", (2,)),
        ("tag:both", "tag both", (1,)),
        ("pinned", "baseline pinned", (2, 1)),
        ("baseline:both", "baseline both", (3,)),
        ("tagged", "baseline tagged, tag:v1", (2,)),
    ],
)
def test_runs_are_meant(text: str, words: str, ids: tuple[int, ...]) -> None:
    assert means(text) == Meaning(words, run_ids=tuple(RUNS[k].run_id for k in ids))


@pytest.mark.parametrize(
    ("text", "words", "rule", "is_relative"),
    [
        ("main", "branch main", "branch:main", False),
        ("branch:both", "branch both", "branch:both", False),
        ("rolling:5", "rolling:5", "rolling:5", True),
        ("window", "baseline window, rolling:5", "rolling:5", True),
        ("fork-point", "fork-point", "fork-point", True),
    ],
)
def test_rules_are_meant(text: str, words: str, rule: str, is_relative: bool) -> None:
    found = means(text)
    assert (found.words, found.run_ids, found.is_relative) == (words, (), is_relative)
    assert found.rule
    assert (found.rule.kind, found.rule.name, found.rule.count) == (
        (parsed := parse_reference(rule)).kind, parsed.name, parsed.count,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("both", "'both' is the name of a baseline and of a tag: say baseline:both or tag:both."),
        ("2026031", "'2026031' means several runs (20260312-120000-aaaa, 20260311-120000-ffff, 20260310-120000-eeee …)"),
        ("nosuch", "No run, baseline, tag or branch 'nosuch' in this store"),
        ("tag:nosuch", "No run has the tag 'nosuch'"),
        ("branch:nosuch", "No run was made on a branch 'nosuch'"),
        ("baseline:pined", "No baseline is called 'pined', did you mean 'pinned'?"),
        ("%", "No run, baseline, tag or branch '%' in this store"),
    ],
)
def test_what_means_nothing_or_several_things(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        means(text)
    assert str(raised.value).startswith(sentence)


def test_baselines_without_runs_are_not_comparable() -> None:
    for text in ("gone", "baseline:gone"):
        with pytest.raises(NotComparableError, match=r"Baseline 'gone' was taken away by Ada \(why not\)"):
            means(text)
    with pytest.raises(NotComparableError, match="Baseline 'lost' follows tag:v9: No run has the tag 'v9'"):
        means("lost")
    with pytest.raises(UsageError, match="The store holds no runs yet"):
        meaning(parse_reference("latest"), [], [])
    with pytest.raises(UsageError, match="make one with `bench baseline set NAME RUN`"):
        meaning(parse_reference("baseline:x"), [], [])


def test_what_a_baseline_can_follow() -> None:
    for text in ("rolling:5", "rolling:5:main", "fork-point", "fork-point:main", "tag:v1", "branch:main"):
        assert followed(text).text == text
    for text in ("latest", "main", "baseline:main", "x.json"):
        with pytest.raises(UsageError, match="A baseline cannot follow"):
            followed(text)
